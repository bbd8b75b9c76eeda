"""Networks placed by rules on eight devices: gradients are those of one device, and lie where params lie."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn.compose.constrained import constrain
from fnn.train.shardings import shardings, shardings_like


@dataclass(frozen=True)
class Layout:
    """A preset with the mesh that it is for, and the axes over which rows of data are sharded."""

    preset: str
    mesh: tuple[tuple[str, int], ...]
    rows: Any

    def __repr__(self) -> str:
        return f"{self.preset}-{len(self.mesh)}"

    def on(self, kind: AxisType) -> Any:
        names, sizes = zip(*self.mesh, strict=True)
        return jax.make_mesh(sizes, names, axis_types=(kind,) * len(names))


LAYOUTS = [
    Layout("data", (("data", 8),), "data"),
    Layout("fsdp", (("data", 8),), "data"),
    Layout("fsdp", (("data", 2), ("fsdp", 4)), ("data", "fsdp")),
    Layout("tensor", (("model", 8),), None),
    Layout("tensor", (("data", 2), ("tensor", 4)), "data"),
    Layout("fsdp+tensor", (("fsdp", 2), ("tensor", 4)), "fsdp"),
]
BLOCK = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.gated(32), fnn.Dense(16, bias=False)))


@dataclass(frozen=True)
class Network:
    """A network and its loss, a batch, and the number of classes of its targets."""

    net: Any
    loss: Any
    x: Callable[[], Any]
    classes: int


def indices(n: int, *shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(1).integers(0, n, shape), jnp.int32)


def rows(*shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape))


NETWORKS = {
    "mlp": Network(fnn.mlp([16, 32, 32, 8]), fnn.softmax_cross_entropy(), lambda: rows(16, 16), 8),
    "blocks": Network(
        fnn.Serial(fnn.Repeat(BLOCK, 3), fnn.RMSNorm(), fnn.Dense(8)),
        fnn.softmax_cross_entropy(), lambda: rows(16, 4, 16), 8,
    ),
    "head": Network(
        fnn.Serial(fnn.Embedding(64, 16), fnn.Repeat(BLOCK, 2), fnn.RMSNorm()),
        fnn.LinearCrossEntropy(64, chunk=16), lambda: indices(64, 16, 4), 64,
    ),
}  # fmt: skip


def drawn(network: Network) -> tuple[Any, Any, Any]:
    """Return params, input and target, with params away from their first values."""
    x = network.x()
    params = fnn.init(network.net, jax.random.key(0), x)
    if network.loss.has_params:
        y = jax.eval_shape(lambda: fnn.output(network.net, params, x))
        params = params, network.loss.init(jax.random.key(1), y)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape) / 3), params)
    return params, x, indices(network.classes, *x.shape[: 2 if x.ndim == 3 or network.loss.has_params else 1])


def compiled(f: Any, **options: Any) -> Any:
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0}, **options)


def bytes_per_device(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)


def assert_close(got: Any, wanted: Any) -> None:
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        scale = np.abs(np.asarray(b)).max()
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-12 * scale)


@dataclass(frozen=True)
class Run:
    """A network on a mesh, and the same on one device."""

    network: Network
    placed: Any
    lie: Any
    data: Any
    alone: Any

    @property
    def out(self) -> dict[str, Any]:
        """Return the options of a program whose gradients lie like the params."""
        explicit = AxisType.Explicit in jax.tree.leaves(self.lie)[0].mesh.axis_types
        return {} if explicit else {"out_shardings": (None, self.lie)}


def on_mesh(layout: Layout, name: str, kind: AxisType) -> Run:
    network, mesh = NETWORKS[name], layout.on(kind)
    params, x, target = drawn(network)
    loss = network.loss if network.loss.has_params else None
    lie = shardings(network.net, params, mesh, layout.preset, loss=loss)
    data = jax.device_put((x, target), NamedSharding(mesh, P(layout.rows)))
    return Run(network, jax.device_put(params, lie), lie, data, (params, x, target))


def assert_lies_like(tree: Any, params: Any) -> None:
    for leaf, param in zip(*map(jax.tree.leaves, (tree, params)), strict=True):
        assert leaf.sharding.is_equivalent_to(param.sharding, leaf.ndim)


QUICK = {"fsdp-1-mlp-Explicit", "tensor-2-blocks-Explicit", "fsdp+tensor-2-head-Auto", "adam-Explicit"}
QUICK |= {"tensor-2-mlp-Explicit", "fsdp-1-mlp-Auto"}


def param(*values: Any) -> Any:
    """Return the arguments of a test, slow for all but a few."""
    name = "-".join(value.name if isinstance(value, AxisType) else str(value) for value in values)
    return pytest.param(*values, id=name, marks=() if name in QUICK else pytest.mark.slow)


KINDS = (AxisType.Explicit, AxisType.Auto)
CASES = [param(layout, name, kind) for layout in LAYOUTS for name in NETWORKS for kind in KINDS]


@pytest.mark.parametrize("layout, name, kind", CASES)
def test_gradients_are_those_of_one_device_and_lie_where_their_params_lie(layout, name, kind):
    on = on_mesh(layout, name, kind)
    run = fnn.value_and_grad(on.network.net, on.network.loss)
    value, grads = compiled(run, **on.out)(on.placed, *on.data)
    assert_close((value, grads), compiled(run)(*on.alone))
    assert_lies_like(grads, on.placed)
    ratio = bytes_per_device(on.alone[0]) / bytes_per_device(on.placed)
    if layout.preset in ("data", "fsdp"):
        assert ratio == (1 if layout.preset == "data" else layout.mesh[-1][1])
    else:  # norms and the biases of rows are on every device
        assert 0.8 * layout.mesh[-1][1] < ratio < 8


@pytest.mark.parametrize("optimizer, kind", [param(o, kind) for o in ("adam", "adafactor") for kind in KINDS])
def test_a_step_of_an_optimizer_whose_state_lies_like_the_params(optimizer, kind):
    adam = optax.adam(
        1e-2, eps=1e-4
    )  # which multiplies a rounding by 100; with 1e-8, where g is small, by 1e5
    made = {"adam": adam, "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=8)}[optimizer]
    on = on_mesh(LAYOUTS[-1], "blocks", kind)
    run = fnn.value_and_grad(on.network.net, on.network.loss)
    state = made.init(on.alone[0])
    lie = shardings_like(state, on.alone[0], on.lie)

    def step(params: Any, state: Any, x: Any, target: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = made.update(run(params, x, target)[1], state, params)
            return optax.apply_updates(params, updates), state

    out = {} if kind == AxisType.Explicit and optimizer == "adam" else {"out_shardings": (on.lie, lie)}
    placed = jax.device_put(state, lie)
    params, after = compiled(step, **out)(on.placed, placed, *on.data)
    assert_close((params, after), compiled(step)(on.alone[0], state, *on.alone[1:]))
    assert_lies_like(params, on.placed)
    assert_lies_like(after, placed)


CONSTRAINED = [(LAYOUTS[i], name, kind) for i in (1, 4) for name in ("mlp", "blocks") for kind in KINDS]


@pytest.mark.parametrize("layout, name, kind", [param(*case) for case in CONSTRAINED])
def test_constrained_activations_change_no_gradient(layout, name, kind):
    on = on_mesh(layout, name, kind)
    rules = {"batch": layout.rows, "features": "tensor" if name == "mlp" and len(layout.mesh) > 1 else None}
    run = fnn.value_and_grad(constrain(on.network.net, rules), on.network.loss)
    with jax.set_mesh(layout.on(kind)):
        value, grads = compiled(run, **on.out)(on.placed, *on.data)
    assert_close((value, grads), compiled(fnn.value_and_grad(on.network.net, on.network.loss))(*on.alone))
    assert_lies_like(grads, on.placed)
