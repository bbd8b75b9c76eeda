"""Diagonals and products against the explicit matrix J^T H J, over the table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fnn
from fnn.losses.likelihoods import CATEGORICAL
from tests.proof import assert_equal
from tests.readers.brute import LOSS, data, direction, every_case, flat, ranks, run
from tests.readers.explicit import explicit_ggn, network, soft_target, unflatten

LOSSES = [
    fnn.softmax_cross_entropy(),
    fnn.softmax_cross_entropy(label_smoothing=0.2, reduction="sum"),
    fnn.binary_cross_entropy(),
    fnn.squared_error(reduction="sum"),
    fnn.half_squared_error(),
    fnn.losses.poisson(),
    fnn.losses.kl_divergence(),
]


@pytest.mark.thorough
@every_case
def test_diagonal_and_products(case):
    """The exact diagonal, whole and per example, and the products with G and H, in one compiled program."""
    own = dataclasses.replace(data(case), key=None)
    target, v = soft_target(own.dy), direction(own.params)

    def ours():
        return (
            fnn.curvature.ggn_diagonal(own.net, LOSS)(own.params, own.x, target),
            fnn.curvature.ggn_diagonal(own.net, LOSS, per_example=True)(own.params, own.x, target),
            fnn.curvature.ggn_product(own.net, LOSS)(own.params, own.x, target, v),
            fnn.curvature.hessian_product(own.net, LOSS)(own.params, own.x, target, v),
        )

    (g, h, j, out), (diagonal, each, gv, hv) = run(lambda: (explicit_ggn(own, target, LOSS), ours()))
    assert_equal(diagonal, unflatten(own.params, jnp.diag(g)), 1e-10)
    assert_equal(gv, unflatten(own.params, g @ ravel_pytree(v)[0]), 1e-10)
    assert_equal(hv, unflatten(own.params, h @ ravel_pytree(v)[0]), 1e-10)
    n, rows = own.dy.shape[0], own.dy[..., 0].size
    own_rows = np.asarray(j).reshape(n, own.dy[:1].size, -1)
    blocks = np.asarray(out).reshape(n, own.dy[:1].size, n, own.dy[:1].size) * rows
    wanted = np.stack([np.diag(own_rows[i].T @ blocks[i, :, i] @ own_rows[i]) for i in range(n)])
    moved = jax.tree.map(
        lambda leaf, r: np.moveaxis(leaf, leaf.ndim - r - 1, 0), jax.tree.map(np.asarray, each), ranks(own)
    )
    assert_equal(flat(moved), wanted, 1e-10)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3)], ids=["rows", "tokens"])
def test_roots_are_the_hessian_and_samples_are_on_average(loss, shape):
    """The root exactly; 40,000 samples within 6 deviations of each entry's mean (failure below 1e-6)."""
    y = jnp.asarray(np.random.default_rng(1).standard_normal(shape))
    target = 1.5 * soft_target(y)
    like = loss.likelihood

    def hessian(y, t):
        def value(y):
            return fnn.Loss(loss.rule, loss.options, "none").value_and_grad(y[None], t[None])[0][0]

        return jax.hessian(value)(y)

    k = shape[-1]
    wanted = jax.vmap(hessian)(y.reshape(-1, k), target.reshape(-1, k)).reshape(*shape, k)
    root = like.root(y, target)
    assert root.shape == (k, *shape)
    assert_equal(jnp.einsum("c...a,c...b->...ab", root, root), wanted, 1e-12)
    samples = jax.jit(jax.vmap(lambda key: like.sample(key, y, target)))(
        jax.random.split(jax.random.key(0), 40_000)
    )
    products = samples[..., :, None] * samples[..., None, :]
    deviation = products.std(0) / 200
    assert (jnp.abs(products.mean(0) - wanted) <= 6 * deviation + 1e-12).all()


def test_integer_labels_have_mass_one():
    y, label = jnp.zeros((3, 4)), jnp.array([0, 3, 1])
    assert_equal(CATEGORICAL.root(y, label), CATEGORICAL.root(y, jax.nn.one_hot(label, 4)))
    assert jnp.isnan(CATEGORICAL.root(y, jnp.array([0, 4, 1]))).any(axis=(0, 2)).tolist() == [0, 1, 0]


@pytest.mark.thorough
def test_sampled_diagonals_converge_as_one_over_the_root_of_the_samples():
    """4096 single samples: their mean within 5 deviations (failure 6e-7 an entry), their error ~ S^-1/2.

    The error of means over S samples falls from S = 4 to S = 64 by 4, from 64 to 1024 by 4; the last is
    estimated from 4 groups x 59 correlated entries, so a factor between 2 and 8 passes.
    """
    net, params, x, target = network("mlp")
    exact = ravel_pytree(fnn.curvature.ggn_diagonal(net, LOSS)(params, x, target))[0]
    one = fnn.curvature.ggn_diagonal(net, LOSS, "sampled")
    estimate = jax.jit(jax.vmap(lambda key: ravel_pytree(one(params, x, target, key))[0]))(
        jax.random.split(jax.random.key(0), 4096)
    )
    error, deviation = estimate.mean(0) - exact, estimate.std(0) / 64
    assert (jnp.abs(error) <= 5 * deviation).all()
    rms = [
        float(jnp.sqrt(jnp.square(estimate.reshape(-1, s, exact.size).mean(1) - exact[None]).mean()))
        for s in (4, 64, 1024)
    ]
    assert 3 < rms[0] / rms[1] < 5.4 and 2 < rms[1] / rms[2] < 8
    several = fnn.curvature.ggn_diagonal(net, LOSS, "sampled", samples=4096)(
        params, x, target, jax.random.key(1)
    )
    error = ravel_pytree(several)[0] - exact
    assert (jnp.abs(error) <= 5 * deviation).all()


@pytest.mark.parametrize("name", ["mlp", "scanned", "tokens"])
def test_fisher_products(name):
    net, params, x, target = network(name)
    v = direction(params)

    def empirical():
        rows = jax.jacrev(
            lambda p: fnn.readers.losses_and_readings(net, LOSS, fnn.readers.as_factors)(p, x, target)[0]
        )(params)
        rows = jnp.concatenate([leaf.reshape(4, -1) for leaf in jax.tree.leaves(rows)], 1)
        flat_v = ravel_pytree(v)[0]
        return rows.T @ (rows @ flat_v), fnn.curvature.fisher_product(net, LOSS)(params, x, target, v)

    wanted, got = run(empirical)
    assert_equal(got, unflatten(params, wanted / target[..., 0].size), 1e-10)
    draw = jax.vmap(lambda key: fnn.curvature.fisher_product(net, LOSS, "sampled")(params, x, target, v, key))
    many = jax.jit(draw)(jax.random.split(jax.random.key(0), 2000))
    exact = fnn.curvature.ggn_product(net, LOSS)(params, x, target, v)
    for got, want in zip(jax.tree.leaves(many), jax.tree.leaves(exact), strict=True):
        assert (jnp.abs(got.mean(0) - want) <= 6 * got.std(0) / 2000**0.5 + 1e-9).all()


def test_bad_input_is_named():
    net, params, x, target = network("mlp")
    huber = fnn.huber()
    for make in (fnn.curvature.ggn_diagonal, fnn.curvature.kronecker_factors, fnn.curvature.ekfac):
        with pytest.raises(fnn.InputError, match="output Hessian is known"):
            make(net, huber)
        with pytest.raises(fnn.InputError, match="fisher to be one of"):
            make(net, LOSS, "true")
    fnn.curvature.ggn_product(net, huber)(params, x, target, params)  # asks for no root
    for make in (fnn.curvature.ggn_product, fnn.curvature.hessian_product, fnn.curvature.fisher_product):
        with pytest.raises(fnn.InputError, match="begins like the params"):
            make(net, LOSS)(params, x, target, (params,))
        with pytest.raises(fnn.InputError, match="like the params"):
            make(net, LOSS)(params, x, target, jax.tree.map(lambda p: p[None], params))
    with pytest.raises(fnn.InputError, match="expected one random key, got None"):
        fnn.curvature.ggn_diagonal(net, LOSS, "sampled")(params, x, target)
    with pytest.raises(fnn.InputError, match="ggn_product"):
        fnn.curvature.fisher_product(net, LOSS, "exact")
    with pytest.raises(fnn.InputError, match="a reduction to a number"):
        fnn.curvature.kronecker_factors(net, fnn.softmax_cross_entropy(reduction="none"))
