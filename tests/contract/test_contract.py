"""Layers and compositions that strangers wrote from the documentation alone.

Each works with every function of fnn, or is refused by a sentence; nothing in fnn knows of them.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import Dense, LayerNorm, Repeat, Serial, Skip
from tests.cases import Case, example
from tests.contract.batch_norm import BatchNorm
from tests.contract.diagonal import Mirror
from tests.contract.fused import Fused
from tests.contract.gating import Product
from tests.contract.readers import largest_cotangent, squared_norms
from tests.proof import assert_central_differences, assert_equal, explicit, reference
from tests.readers.brute import ranks

LOSS = fnn.softmax_cross_entropy()
NETS = {
    "leaf": Serial(Dense(4), Fused(5, 4), Repeat(Skip(Fused(3, 4)), 2), Dense(3)),
    "composition": Serial(Dense(4), Product(Serial(Dense(4), fnn.sigmoid), Dense(4)), fnn.gelu, Dense(3)),
    "composition in a loop": Serial(Repeat(Product(Dense(5), LayerNorm()), 2), Dense(3)),
    "factor": Serial(
        Mirror(), Dense(4), fnn.tanh, Repeat(Mirror(), 2), Repeat(Mirror(), 2, shared=True), Dense(3)
    ),
}
every_net = pytest.mark.parametrize("name", NETS)


def drawn_of(name):
    return example(Case(name, NETS[name], (6, 5)))


def run(f):
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})()


@every_net
def test_gradients_are_right(name):
    drawn = drawn_of(name)
    grads, dx = run(partial(explicit, drawn))
    assert_equal((grads, dx), run(partial(reference, drawn)))
    assert_central_differences(drawn, grads, dx)


@every_net
def test_descriptions_and_plans_count_what_is_kept(name):
    drawn = drawn_of(name)
    net, x = drawn.net, jax.ShapeDtypeStruct(drawn.x.shape, jnp.float32)
    _, residuals = jax.eval_shape(lambda: fnn.forward(net, drawn.params, drawn.x))
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))
    assert fnn.summary(net, drawn.x).kept_bytes == kept
    text = str(fnn.explain(net, x))
    assert text.startswith("forward") and "backward" in text
    assert str(fnn.summary(net, x))
    plans = fnn.memory.plans(net, x)
    assert plans[-1].net is net and fnn.memory.fit(net, x, 10**9) is net
    for plan in plans:
        counted = fnn.memory.report(plan.net, None, x)
        assert (plan.kept, plan.peak) == (counted.residuals, counted.peak)
    least = run(lambda: explicit(example(Case(name, plans[0].net, (6, 5)))))
    assert_equal(least, run(partial(explicit, drawn)))


def test_extras_out_of_a_product_are_not_made_again_for_nothing():
    """The last plan is the network as it is, and one that says 0 flops compiles to no product more."""
    net = Serial(Dense(8), Fused(8, 8), Dense(8), Fused(8, 8), Dense(3))
    x = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))

    def products(net):
        def gradients(params, x, dy):
            return fnn.backward(net, params, fnn.forward(net, params, x)[1], dy)

        text = (
            jax.jit(gradients).lower(params, x, jax.ShapeDtypeStruct((4, 3), jnp.float32)).compile().as_text()
        )
        assert text is not None
        return text.count(" dot(") + text.count("matmul")

    plans = fnn.memory.plans(net, x)
    as_it_is = products(net)
    for plan in plans:
        assert (products(plan.net) > as_it_is) == (plan.flops > 0)
    unlike = Serial(Dense(6), LayerNorm(), Dense(3))
    assert fnn.memory.plans(unlike, x)[-1].net is unlike


@every_net
def test_every_reader_reads_it(name):
    drawn = drawn_of(name)
    net, params, x = drawn.net, drawn.params, drawn.x
    target = jnp.arange(len(x)) % 3

    def one(x, target):
        return jax.grad(lambda p: LOSS(fnn.forward(net, p, x[None])[0], target[None]))(params)

    def everything():
        each = jax.vmap(one)(x, target)
        read = fnn.readers.zip_readers(
            fnn.readers.squared_norm, squared_norms, fnn.readers.example_gradient, fnn.readers.second_moment,
            fnn.readers.gram, largest_cotangent,
        )  # fmt: skip
        readings = fnn.readers.losses_and_readings(net, LOSS, read)(params, x, target)[1]
        clipped = fnn.privacy.clipped_gradient(net, LOSS, 0.5)(params, x, target)
        curved = fnn.curvature.kronecker_factors(net, LOSS)(params, x, target)
        diagonal = fnn.curvature.ggn_diagonal(net, LOSS)(params, x, target)
        kernel = fnn.readers.tangent_kernel(net)(params, x)
        product = fnn.curvature.hessian_product(net, LOSS)(params, x, target, params)
        return each, fnn.readers.unzip(params, readings), clipped, curved.gradient, diagonal, kernel, product

    each, (norms, bare, gradients, _, grams, largest), clipped, gradient, *rest = run(everything)
    # a reading is stacked as its param is, the examples behind the stacked axes
    first = jax.tree.map(lambda g, p, r: jnp.moveaxis(g, p.ndim - r, 0), gradients, params, ranks(drawn))
    assert_equal(first, each, 1e-10)
    flat = np.concatenate([np.asarray(g).reshape(len(x), -1) for g in jax.tree.leaves(each)], 1)
    total = np.square(flat).sum(1)
    for own in (norms, bare):
        np.testing.assert_allclose(fnn.readers.sum_over_params(own), total, rtol=1e-10)
    np.testing.assert_allclose(fnn.readers.sum_over_params(grams, 2), flat @ flat.T, rtol=1e-9, atol=1e-12)
    c = 0.5 / np.maximum(0.5, np.sqrt(total))
    assert_equal(clipped.gradient, jax.tree.map(lambda g: np.tensordot(c, g, 1), each), 1e-10)
    assert_equal(gradient, jax.tree.map(lambda g: g.mean(0), each), 1e-10)
    assert jax.tree.leaves(largest)[0].shape[-1] == len(x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rest))


@every_net
def test_it_is_updated_in_place_and_checked_layer_by_layer(name):
    drawn = drawn_of(name)
    target = jnp.arange(len(drawn.x)) % 3
    init, step = fnn.train.update_in_backward(drawn.net, LOSS, optax.sgd(0.1))
    params, _, value = run(lambda: step(drawn.params, init(drawn.params, drawn.x), drawn.x, target))
    wanted, grads = run(lambda: fnn.value_and_grad(drawn.net, LOSS)(drawn.params, drawn.x, target))
    assert_equal((params, value), (jax.tree.map(lambda p, g: p - 0.1 * g, drawn.params, grads), wanted))


def test_each_layer_is_checked_by_itself():
    from fnn import check

    for net in (Serial(Dense(4), Product(Dense(4), fnn.tanh)), Serial(Mirror(), Fused(3, 2))):
        drawn = example(Case("net", net, (3, 4)))
        report = check.layers(net, drawn.params, drawn.x, level="quick")
        assert report.verdict == "PASS", str(report)


def test_a_layer_that_couples_examples_is_found_out_though_it_says_nothing():
    net = Serial(Dense(4), Skip(BatchNorm()), Dense(3))
    drawn, label = example(Case("net", net, (6, 5))), jnp.arange(6) % 3
    assert_equal(run(partial(explicit, drawn)), run(partial(reference, drawn)))
    fnn.value_and_grad(net, LOSS)(drawn.params, drawn.x, label)
    for call in (
        lambda: fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm)(
            drawn.params, drawn.x, label
        ),
        lambda: fnn.privacy.clipped_gradient(net, LOSS, 1.0)(drawn.params, drawn.x, label),
        lambda: jax.jit(fnn.readers.tangent_kernel(net))(drawn.params, drawn.x),
        lambda: fnn.curvature.kronecker_factors(net, LOSS)(drawn.params, drawn.x, label),
    ):
        with pytest.raises(
            fnn.InputError, match=r"net\.layers\[1\]\.layer: .*BatchNorm.*couples them, as a trial"
        ):
            call()
