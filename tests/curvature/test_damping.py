"""A dead unit's eigenvalues are zero: what is divided by is the damping alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

BLOCKS = {"kernel": fnn.curvature.Kronecker(jnp.diag(jnp.array([1.0, 0.0])), jnp.diag(jnp.array([2.0, 0.0])))}
V = {"kernel": jnp.ones((2, 2))}


def blocks(dtype):
    return fnn.curvature.eigen(jax.tree.map(lambda leaf: leaf.astype(dtype), BLOCKS))


@pytest.mark.parametrize("damping", [0, 0.0, 1e-42, -1, -1e-3, float("nan"), np.float64(0), jnp.float32(0)])
def test_what_leaves_a_dead_unit_without_damping_is_refused(damping):
    for run in (
        lambda: fnn.curvature.kronecker_solve(blocks(jnp.float32), V, damping),
        lambda: fnn.attribution.self_influence(damping)(
            fnn.factors.Outer(jnp.ones((3, 2)), jnp.ones((3, 2))), V["kernel"], blocks(jnp.float32)["kernel"]
        ),
    ):
        with pytest.raises(fnn.InputError, match=r"damping >= 1.2e-38, the least normal number of float32"):
            run()


def test_under_jit_it_is_nan():
    solve = jax.jit(lambda damping: fnn.curvature.kronecker_solve(blocks(jnp.float32), V, damping))
    assert jnp.isnan(solve(0.0)["kernel"]).all()
    np.testing.assert_allclose(solve(0.5)["kernel"], [[0.4, 2.0], [2.0, 2.0]], rtol=1e-6)


def test_a_small_damping_that_the_dtype_holds_is_taken():
    solved = fnn.curvature.kronecker_solve(blocks(jnp.float64), V, 1e-42)["kernel"]
    np.testing.assert_allclose(solved, [[0.5, 1e42], [1e42, 1e42]], rtol=1e-12)


def test_a_joined_bias_has_no_block_of_its_own():
    net, x, label = fnn.Dense(2), jnp.ones((3, 4)), jnp.array([0, 1, 1])
    params, loss = fnn.init(net, jax.random.key(0), x), fnn.softmax_cross_entropy()
    found = fnn.curvature.eigen(
        fnn.curvature.kronecker_factors(net, loss, bias="joint")(params, x, label).factors
    )
    better = jax.jit(fnn.curvature.ekfac(net, loss))(params, x, label, found)
    assert better["bias"] is None and jax.tree.structure(better) == jax.tree.structure(found)
    assert better["kernel"].values.shape == (5, 2)
