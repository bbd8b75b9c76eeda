"""Influence, TracIn, GraNd and EL2N against explicit matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fnn
from tests.proof import assert_equal
from tests.readers.brute import LOSS, flat


def setting():
    net = fnn.Serial(fnn.Dense(4), fnn.tanh, fnn.LayerNorm(), fnn.Dense(3))
    rng = np.random.default_rng(0)
    x, test = jnp.asarray(rng.standard_normal((8, 5))), jnp.asarray(rng.standard_normal((3, 5)))
    label, test_label = jnp.asarray(rng.integers(0, 3, 8)), jnp.asarray(rng.integers(0, 3, 3))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), fnn.init(net, jax.random.key(0), x))
    return net, params, x, label, test, test_label


def gradients(net, params, x, label):
    """Give the matrix of example gradients, by autodiff."""

    def losses(params):
        y = fnn.forward(net, params, x)[0]
        return -jnp.take_along_axis(jax.nn.log_softmax(y), label[:, None], 1)[:, 0]

    return flat(jax.jit(jax.jacrev(losses))(params))


def ggn(net, params, x, label):
    vector, unravel = ravel_pytree(params)
    multiply = fnn.curvature.ggn_product(net, LOSS)
    columns = jax.jit(jax.vmap(lambda v: ravel_pytree(multiply(params, x, label, unravel(v)))[0]))
    return np.asarray(columns(jnp.eye(vector.size)))


def test_influence_by_conjugate_gradients_is_the_explicit_solution():
    net, params, x, label, test, test_label = setting()
    g, test_g = gradients(net, params, x, label), gradients(net, params, test, test_label)
    matrix = ggn(net, params, x, label) + 0.05 * np.eye(g.shape[1])
    wanted = g @ np.linalg.solve(matrix, test_g.mean(0))

    def ours(params):
        def product(v):
            return fnn.curvature.ggn_product(net, LOSS)(params, x, label, v)

        inverse = fnn.curvature.conjugate_gradients(product, 0.05, tolerance=1e-14, steps=200)
        return fnn.attribution.influence(net, LOSS, inverse)(params, x, label, test, test_label)

    assert_equal(jax.jit(ours)(params), wanted, 1e-9)


@pytest.mark.thorough
def test_influence_by_kronecker_factors():
    net, params, x, label, test, test_label = setting()
    blocks = fnn.curvature.eigen(
        fnn.curvature.kronecker_factors(net, LOSS, bias="joint")(params, x, label).factors
    )
    score = fnn.attribution.influence(net, LOSS, lambda v: fnn.curvature.kronecker_solve(blocks, v, 0.05))
    g, test_g = gradients(net, params, x, label), gradients(net, params, test, test_label)
    step = fnn.curvature.kronecker_solve(blocks, ravel_pytree(params)[1](jnp.asarray(test_g.mean(0))), 0.05)
    wanted = g @ np.asarray(ravel_pytree(step)[0])
    assert_equal(score(params, x, label, test, test_label), wanted, 1e-10)


def test_influence_predicts_what_leaving_an_example_out_does():
    """Least squares with a ridge, at the optimum with and without each of 200 examples: signs and sizes.

    Of first order: what is left out beyond it is the example's leverage, a few hundredths here.
    """
    n, rng = 200, np.random.default_rng(3)
    x, test = rng.standard_normal((n, 3)), rng.standard_normal((10, 3))
    w = rng.standard_normal((3, 1))
    t, t_test = x @ w + 0.3 * rng.standard_normal((n, 1)), test @ (w + 1)
    net, loss = fnn.Dense(1, bias=False), fnn.half_squared_error()

    def optimum(keep):
        return np.linalg.solve(x[keep].T @ x[keep] + n * 0.01 * np.eye(3), x[keep].T @ t[keep])

    def test_loss(w):
        return 0.5 * np.square(test @ w - t_test).sum(1).mean()

    whole = optimum(np.arange(n) >= 0)
    change = [test_loss(optimum(np.arange(n) != i)) - test_loss(whole) for i in range(n)]
    data = tuple(map(jnp.asarray, (x, t, test, t_test)))

    def scores(params):
        def product(v):
            return fnn.curvature.ggn_product(net, loss)(params, *data[:2], v)

        inverse = fnn.curvature.conjugate_gradients(product, 0.01, tolerance=1e-12)
        return fnn.attribution.influence(net, loss, inverse)(params, *data)

    predicted = np.asarray(jax.jit(scores)({"kernel": jnp.asarray(whole)})) / n
    assert np.corrcoef(predicted, change)[0, 1] > 0.995
    assert 0.95 < np.polyfit(predicted, change, 1)[0] < 1.1


def test_tracin_grand_and_el2n():
    net, params, x, label, test, test_label = setting()
    later = jax.tree.map(lambda p: 1.1 * p, params)
    scores = fnn.attribution.tracin(net, LOSS)([(params, 0.1), (later, 0.05)], x, label, test, test_label)
    wanted = sum(
        rate * gradients(net, p, x, label) @ gradients(net, p, test, test_label).T
        for p, rate in ((params, 0.1), (later, 0.05))
    )
    assert_equal(scores, wanted, 1e-10)
    g = gradients(net, params, x, label)
    assert_equal(fnn.attribution.grand(net, LOSS)(params, x, label), np.linalg.norm(g, axis=1), 1e-10)
    p = np.asarray(jax.nn.softmax(fnn.apply(net, params, x)))
    wanted = np.linalg.norm(p - np.eye(3)[np.asarray(label)], axis=1)
    assert_equal(fnn.attribution.el2n(net, LOSS)(params, x, label), wanted, 1e-12)


def test_bad_input_is_named():
    net, params, x, label, test, test_label = setting()
    with pytest.raises(fnn.InputError, match="damping >= 0"):
        fnn.curvature.conjugate_gradients(lambda v: v, -1.0)
    shapes = jax.eval_shape(lambda: fnn.curvature.kronecker_factors(net, LOSS)(params, x, label).factors)
    blocks = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), jax.eval_shape(fnn.curvature.eigen, shapes))
    for take in (
        fnn.curvature.kronecker_solve,
        lambda blocks, v, _: fnn.curvature.kronecker_multiply(blocks, v),
    ):
        with pytest.raises(fnn.InputError, match="tree of blocks that begins like the params"):
            take(blocks, params[:2], 0.1)
        with pytest.raises(fnn.InputError, match=r"a leaf for a block of shape \(1, 4\)"):
            take(
                blocks, jax.tree.map(lambda p: np.ones((*p.shape, 2)), params), 0.1
            )  # of one axis more, and another size
    with pytest.raises(fnn.InputError, match="tree of blocks that begins like the params"):
        fnn.curvature.ekfac(net, LOSS)(params, x, label, blocks[:1])
    with pytest.raises(fnn.InputError, match="one or more pairs"):
        fnn.attribution.tracin(net, LOSS)([], x, label, test, test_label)
    with pytest.raises(fnn.InputError, match="begins like the params"):
        fnn.attribution.influence(net, LOSS, lambda v: v[0])(params, x, label, test, test_label)
