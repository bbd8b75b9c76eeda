"""Per-example readings against the Jacobian of the example losses, over the table of cases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.factors import is_factor
from fnn.readers.examples import gram_is_cheaper
from tests.cases import CASES, Case
from tests.proof import assert_equal
from tests.readers.brute import (
    LOSS,
    READABLE,
    WIDE,
    Drawn,
    direction,
    draw,
    every_case,
    example_losses,
    flat,
    is_unreadable,
    ranks,
    readable,
    run,
)

EVERY_TIME = {"dense-tokens", "shared-of-repeat"}
MOSTLY_SLOW = [
    case if case.name in EVERY_TIME else pytest.param(case, marks=pytest.mark.slow) for case in READABLE
]
_drawn: dict[str, Drawn] = {}


@pytest.mark.thorough
def test_the_cases_that_are_left_out_cannot_be_read():
    assert all(readable(case) != is_unreadable(case) for case in [*CASES, *WIDE])


def drawn_of(case: Case) -> Drawn:
    if case.name not in _drawn:
        _drawn[case.name] = draw(case)
    return _drawn[case.name]


def readings(drawn: Drawn, read, **options):
    own = drawn.case
    entry = fnn.readers.losses_and_readings(own.net, LOSS, read)
    return run(lambda: entry(own.params, own.x, drawn.target, own.key, **options))


def sum_over_params(readings, axes=1):
    """Add the readings up in NumPy, which compiles nothing."""
    return fnn.readers.sum_over_params(jax.tree.map(np.asarray, readings), axes)


def moved_first(jacobian, like):
    """Put the examples' axis where a stacked reading has it: last but the param's own axes."""
    return jax.tree.map(lambda j, p: np.moveaxis(np.asarray(j), 0, j.ndim - 1 - p), jacobian, like)


@every_case
def test_every_reading_in_one_pass(case):
    """Gradients, norms, products, pairs and moments from one backward, against the Jacobian."""
    drawn = drawn_of(case)
    own, v = drawn.case, direction(drawn.case.params)
    weights = np.cos(np.arange(drawn.losses.shape[0], dtype=np.float64))

    rank = ranks(own)
    stacked = jax.tree.map(
        lambda p, r: jnp.broadcast_to(weights, (*p.shape[: p.ndim - r], weights.size)), own.params, rank
    )

    def read(factor, param, v, weights):
        return (
            fnn.readers.example_gradient(factor, param),
            fnn.readers.squared_norm(factor, param),
            fnn.readers.inner_product(factor, param, v),
            fnn.readers.gram(factor, param),
            fnn.readers.second_moment(factor, param),
            fnn.readers.variance(factor, param),
            fnn.readers.weighted_gradient(factor, param, weights),
            factor,
        )

    losses, several = readings(drawn, read, trees=(v, stacked))
    assert_equal(losses, drawn.losses, 1e-12)
    gradients, norms, products, pairs, moments, variances, weighted, factors = fnn.readers.unzip(
        own.params, several
    )
    jacobian = flat(drawn.jacobian)
    assert_equal(gradients, moved_first(drawn.jacobian, rank), 1e-10)
    assert_equal(sum_over_params(norms), np.square(jacobian).sum(1), 1e-10)
    by_leaf = jax.tree.map(lambda g, r: np.square(g).sum(tuple(range(g.ndim - r, g.ndim))), gradients, rank)
    assert_equal(norms, by_leaf, 1e-10)
    assert_equal(sum_over_params(products), jacobian @ flat(jax.tree.map(lambda p: p[None], v))[0], 1e-10)
    assert_equal(sum_over_params(pairs, axes=2), jacobian @ jacobian.T, 1e-10)
    assert_equal(moments, jax.tree.map(lambda j: np.square(j).mean(0), drawn.jacobian), 1e-10)
    assert_equal(variances, jax.tree.map(lambda j: np.var(j, axis=0), drawn.jacobian), 1e-10)
    assert_equal(weighted, jax.tree.map(lambda j: np.tensordot(weights, j, 1), drawn.jacobian), 1e-10)
    # The factors, read later, say what they said where they were born.
    later = run(lambda: jax.tree.map(fnn.readers.squared_norm, factors, own.params, is_leaf=is_factor))
    assert_equal(later, norms, 1e-12)


@pytest.mark.parametrize("case", MOSTLY_SLOW, ids=repr)
def test_pairs_between_two_batches(case):
    """A reader with the factors of another batch as its leaves, inside the scan too."""
    ours, theirs = drawn_of(case), draw(case, seed=1)
    first = min(1, len(theirs.case.x) - 1)  # other examples, and as a rule fewer
    own, x, target = ours.case, theirs.case.x[first:], theirs.target[first:]

    def both():
        _, factors = fnn.readers.losses_and_readings(own.net, LOSS, fnn.readers.as_factors)(
            own.params, x, target, own.key
        )
        entry = fnn.readers.losses_and_readings(own.net, LOSS, fnn.readers.gram)
        _, pairs = entry(own.params, own.x, ours.target, own.key, trees=(factors,))
        other = dataclasses.replace(own, x=x)
        return pairs, jax.jacrev(lambda p: example_losses(other, target, p))(own.params)

    pairs, jacobian = run(both)
    assert_equal(sum_over_params(pairs, axes=2), flat(ours.jacobian) @ flat(jacobian).T, 1e-10)


@pytest.mark.parametrize("case", MOSTLY_SLOW, ids=repr)
def test_tangent_kernel(case):
    drawn = drawn_of(case).case
    n, p = drawn.dy.shape[0], drawn.dy[:1].size

    def both():
        def outputs(params):
            return fnn.forward(drawn.net, params, drawn.x, drawn.key)[0].reshape(n, p)

        kernel = fnn.readers.tangent_kernel(drawn.net)(drawn.params, drawn.x, key=drawn.key)
        return kernel, jax.jacrev(outputs)(drawn.params)

    kernel, jacobian = run(both)
    rows = np.concatenate([leaf.reshape(n, p, -1) for leaf in jax.tree.leaves(jacobian)], -1)
    assert_equal(kernel, np.einsum("npw,mqw->nmpq", rows, rows), 1e-10)


@pytest.mark.thorough
def test_the_kernel_between_two_batches():
    net, x = fnn.mlp([5, 7, 3], fnn.tanh), jax.random.normal(jax.random.key(0), (6, 5))
    params = fnn.init(net, jax.random.key(1), x)
    whole = fnn.readers.tangent_kernel(net)(params, x)
    assert_equal(fnn.readers.tangent_kernel(net)(params, x[:2], x[2:]), whole[:2, 2:], 1e-12)


def test_readings_are_stacked_as_the_params_are():
    case = next(case for case in READABLE if case.name == "repeat-of-repeat")
    drawn = drawn_of(case)
    norms = readings(drawn, fnn.readers.squared_norm)[1]
    n = drawn.losses.size
    for norm, param in zip(jax.tree.leaves(norms), jax.tree.leaves(drawn.case.params), strict=True):
        assert norm.shape == (*param.shape[:2], n)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_division_by_n_reaches_a_reader(reduction):
    drawn = drawn_of(READABLE[0])
    own = drawn.case
    loss = fnn.softmax_cross_entropy(reduction=reduction)
    _, norms = fnn.readers.losses_and_readings(own.net, loss, fnn.readers.squared_norm)(
        own.params, own.x, drawn.target
    )
    assert_equal(fnn.readers.sum_over_params(norms), jnp.square(flat(drawn.jacobian)).sum(1), 1e-10)


@pytest.mark.thorough
def test_vmap_over_a_users_axis():
    """Readers under a vmap of the user's: an ensemble of params."""
    drawn = drawn_of(next(case for case in READABLE if case.name == "repeat-feed-forward"))
    own = drawn.case
    run = fnn.readers.losses_and_readings(own.net, LOSS, fnn.readers.squared_norm)

    def norms(params):
        return fnn.readers.sum_over_params(run(params, own.x, drawn.target)[1])

    double = jax.tree.map(lambda p: jnp.stack([p, 1.1 * p]), own.params)
    wanted = jnp.stack([norms(own.params), norms(jax.tree.map(lambda p: 1.1 * p, own.params))])
    assert_equal(jax.jit(jax.vmap(norms))(double), wanted, 1e-10)


def test_weights_per_example_and_per_row():
    net, x = fnn.Dense(3), jax.random.normal(jax.random.key(0), (4, 2, 5))
    params, label = fnn.init(net, jax.random.key(1), x), jnp.ones((4, 2), jnp.int32)
    run = fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm)
    weights = jnp.array([1.0, 0.0, 2.0, 1.0])
    losses, norms = run(params, x, label, weights=weights)
    plain, plain_norms = run(params, x, label)
    assert_equal(losses, plain * weights)
    assert_equal(fnn.readers.sum_over_params(norms), fnn.readers.sum_over_params(plain_norms) * weights**2)
    assert_equal(run(params, x, label, weights=jnp.stack([weights] * 2, 1)), (losses, norms))


@pytest.mark.thorough
def test_low_precision_is_accumulated_in_float32():
    net, x = fnn.mlp([64, 32, 10], dtype=jnp.bfloat16), jax.random.normal(jax.random.key(0), (8, 64))
    x = x.astype(jnp.bfloat16)
    params, label = fnn.init(net, jax.random.key(1), x), jnp.zeros(8, jnp.int32)
    _, factors = fnn.readers.losses_and_readings(net, LOSS, fnn.readers.as_factors)(params, x, label)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), factors)
    for read in (fnn.readers.squared_norm, fnn.readers.gram, fnn.readers.second_moment, fnn.readers.variance):
        got = jax.tree.map(read, factors, params, is_leaf=is_factor)
        wanted = jax.tree.map(read, wide, params, is_leaf=is_factor)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            assert a.dtype == jnp.float32
            scale = float(jnp.max(jnp.abs(b)))
            np.testing.assert_allclose(a, b, rtol=0, atol=scale * 64**0.5 * 2**-23)


def test_the_variance_does_not_cancel():
    """In float32, a mean 1e4 times the deviation: the difference of squares would have no digit left."""
    rng = np.random.default_rng(0)
    x = np.ones((64, 4), np.float32)
    dz = (1 + 1e-4 * rng.standard_normal((64, 3))).astype(np.float32)
    param = jnp.zeros((4, 3), jnp.float32)
    got = fnn.readers.variance(fnn.factors.Outer(jnp.asarray(x), jnp.asarray(dz)), param)
    wanted = np.broadcast_to(np.var(dz.astype(np.float64), axis=0), (4, 3))
    np.testing.assert_allclose(got, wanted, rtol=1e-2)
    second = np.asarray(fnn.readers.second_moment(fnn.factors.Outer(jnp.asarray(x), jnp.asarray(dz)), param))
    naive = second - dz.mean(0)[None] ** 2
    assert np.max(np.abs(naive - wanted) / wanted) > 1  # the mistake that the test is there for


def test_planted_mistakes_come_to_light():
    """The usual wrong norms differ from the Jacobian's by far more than the tests allow."""
    wrong_tokens = drawn_of(next(case for case in READABLE if case.name == "dense-tokens"))
    shared = drawn_of(next(case for case in READABLE if case.name == "shared"))
    words = drawn_of(next(case for case in READABLE if case.name == "embedding-long"))

    def sum_of_token_norms(factor, param):
        return sum(
            fnn.readers.squared_norm(jax.tree.map(lambda leaf: leaf[:, t], factor), param)  # noqa: B023
            for t in range(factor.dz.shape[1])
        )

    for drawn in (wrong_tokens, shared, words):
        wanted = jnp.square(flat(drawn.jacobian)).sum(1)
        got = fnn.readers.sum_over_params(readings(drawn, sum_of_token_norms)[1])
        with pytest.raises(AssertionError):
            assert_equal(got, wanted, 1e-3)
    mean_seed = fnn.value_and_grad(wrong_tokens.case.net, LOSS, read=fnn.readers.squared_norm)
    own = wrong_tokens.case
    with pytest.raises(AssertionError):
        wanted = jnp.square(flat(wrong_tokens.jacobian)).sum(1)
        assert_equal(
            fnn.readers.sum_over_params(mean_seed(own.params, own.x, wrong_tokens.target)[1]), wanted, 1e-3
        )


def test_both_ways_to_a_norm_are_walked_by_the_table():
    assert gram_is_cheaper(2, 14, 12) and not gram_is_cheaper(3, 5, 3)
