"""Losses, factors, readers, a codec and an ONNX writer that strangers wrote from the documentation alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import Dense, Serial
from fnn.reader import as_reader
from tests.cases import Case, example
from tests.contract.centres import Centres
from tests.contract.diagonal import Mirror, Mirrored
from tests.contract.fused import Fused
from tests.contract.gating import Product
from tests.contract.test_contract import run
from tests.contract.thirds import Thirds
from tests.proof import assert_equal, explicit, reference


def test_a_loss_with_params():
    net, loss = Serial(Dense(4), fnn.tanh, Dense(3)), Centres(5)
    drawn, label = example(Case("net", net, (6, 5))), jnp.arange(6) % 5
    params = drawn.params, loss.init(jax.random.key(1), jax.ShapeDtypeStruct((6, 3), jnp.float64))

    def plain(params, x, label):
        y = fnn.forward(net, params[0], x)[0]
        return jnp.square(y - params[1]["centres"][label]).sum(-1).mean() / 2

    wanted = run(lambda: jax.value_and_grad(plain)(params, drawn.x, label))
    assert_equal(run(lambda: fnn.value_and_grad(net, loss)(params, drawn.x, label)), wanted)
    each = run(lambda: jax.vmap(lambda x, t: jax.grad(plain)(params, x[None], t[None]))(drawn.x, label))
    flat = np.concatenate([np.asarray(g).reshape(6, -1) for g in jax.tree.leaves(each)], 1)
    norms = run(
        lambda: fnn.readers.losses_and_readings(net, loss, fnn.readers.squared_norm)(params, drawn.x, label)
    )
    np.testing.assert_allclose(fnn.readers.sum_over_params(norms[1]), np.square(flat).sum(1), rtol=1e-10)
    clipped = run(lambda: fnn.privacy.clipped_gradient(net, loss, 0.3)(params, drawn.x, label))
    c = 0.3 / np.maximum(0.3, np.linalg.norm(flat, axis=1))
    assert_equal(clipped.gradient, jax.tree.map(lambda g: np.tensordot(c, g, 1), each), 1e-10)
    init, step = fnn.train.update_in_backward(net, loss, optax.sgd(0.1))
    new, _, _ = run(lambda: step(params, init(params, drawn.x), drawn.x, label))
    assert_equal(new, jax.tree.map(lambda p, g: p - 0.1 * g, params, wanted[1]))
    with pytest.raises(fnn.InputError, match="a loss without params"):
        fnn.curvature.kronecker_factors(net, loss)


def test_a_partial_of_a_reader_says_what_the_reader_says():
    read = fnn.readers.Reader(
        lambda factor, param, scale=1.0: scale * jnp.square(factor.dz).sum((1, 2)), "concatenate"
    )
    doubled = as_reader(partial(read, scale=2.0))  # pyright: ignore[reportCallIssue]
    assert doubled.joins == "concatenate" and as_reader(fnn.readers.squared_norm) is fnn.readers.squared_norm
    factor, param = fnn.factors.Total(jnp.ones((4, 3))), jnp.zeros(3)
    np.testing.assert_array_equal(doubled(factor, param), 2 * read(factor, param))


def test_a_codec():
    net = fnn.memory.stored(Serial(Dense(8), fnn.gelu, Dense(3)), Thirds())
    drawn = example(Case("net", net, (6, 5)))
    (grads, _), (wanted, _) = run(lambda: (explicit(drawn), reference(drawn)))
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted), strict=True):
        assert 0 <= np.max(np.abs(a - b)) <= 0.05 * np.max(np.abs(b))
    assert (
        fnn.memory.report(net, None, drawn.x).residuals
        < fnn.memory.report(Serial(Dense(8), fnn.gelu, Dense(3)), None, drawn.x).residuals
    )


def test_an_onnx_writer(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from fnn import export

    net = Serial(Fused(5, 4), fnn.relu, Product(Dense(3), Dense(3)))
    drawn = example(Case("net", net, (6, 5)), jnp.float32)

    def fused(graph, layer, params, v, name):
        h = graph.node("Relu", [graph.node("MatMul", [v, graph.tensor(params["u"], f"{name}.u")])])
        return graph.node("MatMul", [h, graph.tensor(params["v"], f"{name}.v")])

    def product(graph, layer, params, v, name):
        return graph.node(
            "Mul",
            [graph.add(layer.f, params[0], v, f"{name}.f"), graph.add(layer.g, params[1], v, f"{name}.g")],
        )

    path = tmp_path / "net.onnx"
    with pytest.raises(fnn.InputError, match=r"net\.layers\[0\]: .*or a writer for it, got Fused"):
        export.onnx(net, drawn.params, drawn.x, path)
    export.onnx(net, drawn.params, drawn.x, path, writers={Fused: fused, Product: product})
    (y,) = onnxruntime.InferenceSession(path).run(None, {"x": np.asarray(drawn.x)})
    wanted = fnn.apply(net, drawn.params, drawn.x)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5 * float(jnp.abs(wanted).max()))


def test_a_factor_type_that_jax_does_not_know_and_a_wrong_tree_are_named():
    class Unknown(Mirrored):
        pass

    class Wrong(Mirror):
        factors = {"scale": "unknown"}

        def backward(self, params, x, y, extras, dy) -> Any:
            _, dx = super().backward(params, x, y, extras, dy)
            return {"scale": Unknown(x, dy)} if self.factors["scale"] == "unknown" else {
                "size": Mirrored(x, dy)
            }, dx

    class Misnamed(Wrong):
        factors = {"scale": "misnamed"}

    x = jnp.ones((2, 4))
    for layer, text in (
        (Wrong(), "which JAX does not know: try `jax.tree_util.register_dataclass"),
        (Misnamed(), "factors in the structure of its params"),
    ):
        params = fnn.init(layer, jax.random.key(0), x)
        with pytest.raises(fnn.InputError, match=text):
            fnn.backward(layer, params, fnn.forward(layer, params, x)[1], x)
