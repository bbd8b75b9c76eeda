"""Networks with a head: gradients of both, of a tied table too, and everything that readers make of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn.factors import is_factor
from tests.losses.heads import RNG, run
from tests.losses.networks import every_setting, setting
from tests.proof import assert_equal


@every_setting
def test_a_network_with_a_head(name):
    net, head, params, x, target, plain_of = setting(name)
    wanted = run(lambda: jax.value_and_grad(plain_of)(params, x, target))
    assert_equal(run(lambda: fnn.value_and_grad(net, head)(params, x, target)), wanted)

    def called(params):
        own = params[1] | ({"embedding": params[0][0]["embedding"]} if head.tied else {})
        return head(own, fnn.apply(net, params[0], x), target)

    assert_equal(run(lambda: jax.value_and_grad(called)(params)), wanted)


def jacobian(setting):
    """Give each example's loss and gradient, by autodiff alone."""
    _, head, params, x, target, plain_of = setting
    rows = dataclasses.replace(head, reduction="none")

    def losses(params):
        values = plain_of(params, x, target, rows)
        return values.reshape(values.shape[0], -1).sum(1)

    return jax.tree.map(np.asarray, run(lambda: (losses(params), jax.jacrev(losses)(params))))


@every_setting
def test_readers_of_a_head_are_those_of_brute_force(name):
    own = setting(name)
    net, head, params, x, target, _ = own
    losses, each = jacobian(own)
    squares = jax.tree.map(lambda g: np.square(g).reshape(len(x), -1).sum(1), each)
    c, along = jnp.asarray(RNG.uniform(0, 1, len(x))), jax.tree.map(jnp.cos, params)
    cs = jax.tree.map(lambda _: c, params)

    def read(reader, *trees, weights=None):
        return fnn.readers.losses_and_readings(net, head, reader)(
            params, x, target, weights=weights, trees=trees
        )

    several = fnn.readers.zip_readers(
        fnn.readers.squared_norm, fnn.readers.zip_readers(fnn.readers.gradient, fnn.readers.example_gradient)
    )
    (got, readings), products, summed, by_weights = run(
        lambda: (
            read(several),
            read(fnn.readers.inner_product, along)[1],
            read(fnn.readers.weighted_gradient, cs)[1],
            read(fnn.readers.gradient, weights=c)[1],
        )
    )
    norms, pair = fnn.readers.unzip(params, readings)
    total, examples = fnn.readers.unzip(params, pair)
    assert_equal(got, losses)
    assert_equal(norms, squares, 1e-10)
    assert_equal(total, jax.tree.map(lambda g: g.sum(0), each), 1e-10)
    assert_equal(examples, each, 1e-10)
    dots = jax.tree.map(lambda g, v: (g * v[None]).reshape(len(x), -1).sum(1), each, along)
    assert_equal(products, dots, 1e-10)
    for got in (summed, by_weights):
        assert_equal(got, jax.tree.map(lambda g: np.tensordot(c, g, 1), each), 1e-10)


@every_setting
def test_clipped_sums_of_a_head_are_those_of_brute_force(name):
    own = setting(name)
    net, head, params, x, target, _ = own
    _, each = jacobian(own)
    lengths = np.sqrt(sum(np.square(g).reshape(len(x), -1).sum(1) for g in jax.tree.leaves(each)))
    norm = float(np.median(lengths))
    clipped, grand = run(
        lambda: (
            fnn.privacy.clipped_gradient(net, head, norm)(params, x, target),
            fnn.attribution.grand(net, head)(params, x, target),
        )
    )
    c = norm / np.maximum(norm, lengths)
    assert_equal((clipped.norms, grand), (lengths, lengths), 1e-10)
    assert_equal(clipped.gradient, jax.tree.map(lambda g: np.tensordot(c, g, 1), each), 1e-10)


@every_setting
def test_factors_are_kept_unmade_and_other_readers_get_them_whole(name):
    own = setting(name)
    net, head, params, x, target, _ = own
    _, each = jacobian(own)

    def everything():
        read = fnn.readers.zip_readers(fnn.readers.variance, fnn.readers.gram, fnn.readers.as_factors)
        readings = fnn.readers.losses_and_readings(net, head, read)(params, x, target)[1]
        moments, grams, factors = fnn.readers.unzip(params, readings)
        later = [
            jax.tree.map(r, factors, params, is_leaf=is_factor)
            for r in (fnn.readers.gradient, fnn.readers.squared_norm)
        ]
        return moments, grams, factors, *later

    moments, grams, factors, total, norms = run(everything)
    kinds = [type(factor) for factor in jax.tree.leaves(factors, is_leaf=is_factor)]
    assert kinds.count(fnn.factors.Chunked) == 1 + head.bias
    flat = jax.tree.map(lambda g: g.reshape(len(x), -1), each)
    assert_equal(moments, jax.tree.map(lambda g: np.var(g, 0), each), 1e-9)
    assert_equal(grams, jax.tree.map(lambda g: g @ g.T, flat), 1e-10)
    assert_equal(total, jax.tree.map(lambda g: g.sum(0), each), 1e-10)
    assert_equal(norms, jax.tree.map(lambda g: np.square(g).sum(1), flat), 1e-10)


@every_setting
def test_a_reader_of_the_gradient_alone_gets_no_factor(name):
    @fnn.readers.reader("gradient")
    def stepped(factor, param):
        return param - 0.1 * fnn.readers.gradient(factor, param)

    net, head, params, x, target, plain_of = setting(name)
    got, grads = run(
        lambda: (
            fnn.value_and_grad(net, head, stepped)(params, x, target)[1],
            jax.grad(plain_of)(params, x, target),
        )
    )
    assert_equal(got, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads))
