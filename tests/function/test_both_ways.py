"""A weight used as it is and transposed: curvature goes by the examples' gradients, all else by tokens."""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import curvature, readers
from fnn.function import Function
from tests.function.functions import draw

IDS = jnp.array([[1, 2, 2], [0, 5, 1], [3, 3, 3], [4, 0, 5]])
W = {"e": draw(0, 6, 4), "w": draw(1, 4, 4)}
NETS = {
    "autoencoder": (lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"].T, {"w": draw(2, 4, 3)}, draw(3, 5, 4)),
    "of tokens": (lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"].T, {"w": draw(2, 4, 3)}, draw(3, 4, 2, 4)),
    "tied embedding": (lambda p, x: jnp.tanh(p["e"][x] @ p["w"]) @ p["e"].T, W, IDS[:, 0]),
    "of sequences": (lambda p, x: jnp.tanh(p["e"][x] @ p["w"]) @ p["e"].T, W, IDS),
}


def jacobian(apply: Any, p: Any, x: Any) -> Any:
    """The derivative of every example's every output by the params: (n, outputs, *param)."""

    def one(x: Any) -> Any:
        return jax.jacrev(lambda p: apply(p, x[None])[0].reshape(-1))(p)

    return jax.vmap(one)(x)


def close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("apply", "p", "x"), NETS.values(), ids=NETS)
def test_kronecker_factors_are_the_margins_of_the_examples_gradients(apply, p, x):
    """dz of the one use lies beside x of the other, which a seeded backward took for free of seeds."""
    net, loss = Function(apply), fnn.half_squared_error(reduction="sum")
    target = 0.3 * apply(p, x)
    curved = curvature.kronecker_factors(net, loss)(p, x, target)
    jax.tree.map(close, curved.gradient, jax.grad(lambda p: loss(apply(p, x), target))(p))
    name = "e" if "e" in p else "w"
    g = jacobian(apply, p, x)[name]
    if name == "w" or x.ndim > 1:
        g = g.reshape(-1, *p[name].shape)
        # the seeds of a token are one for each output: their tokens' gradients add up
        tokens = 1 if x.ndim < (3 if name == "w" else 2) else x.shape[1]
        g = g.reshape(x.shape[0], tokens, -1, *p[name].shape).sum(1).reshape(-1, *p[name].shape)
    g = g.reshape(-1, *p[name].shape)
    inputs = jnp.einsum("nkj,nlj->kl", g, g)
    close(curved.factors[name].inputs, inputs / jnp.trace(inputs))
    close(curved.factors[name].outputs, jnp.einsum("nkj,nkl->jl", g, g))


@pytest.mark.parametrize("fisher", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("bias", ["joint", "separate"])
def test_every_kind_of_fisher_and_the_solve_go_through(fisher, bias):
    apply, p, x = NETS["autoencoder"]
    net, loss = Function(apply), fnn.half_squared_error()
    curved = curvature.kronecker_factors(net, loss, fisher, bias=bias)(p, x, x, jax.random.key(0))
    solved = curvature.kronecker_solve(curvature.eigen(curved.factors), curved.gradient, 0.1)
    assert jax.tree.all(jax.tree.map(lambda v, w: v.shape == w.shape and jnp.isfinite(v).all(), solved, p))
    g = jax.vmap(jax.grad(lambda p, x: loss(apply(p, x[None]), x[None])), (None, 0))(p, x)["w"]
    if fisher == "empirical":
        close(curved.factors["w"].outputs, jnp.einsum("nkj,nkl->jl", g, g) / x.shape[0])


@pytest.mark.parametrize(("apply", "p", "x"), NETS.values(), ids=NETS)
def test_the_diagonal_and_the_kernel(apply, p, x):
    net, loss = Function(apply), fnn.half_squared_error(reduction="sum")
    each = jacobian(apply, p, x)
    kernel = readers.tangent_kernel(net)(p, x)
    flat = jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(each)], 2)
    close(kernel.sum(), jnp.square(flat.sum((0, 1))).sum())
    if apply(p, x).ndim == 2:
        diagonal = curvature.ggn_diagonal(net, loss)(p, x, apply(p, x))
        jax.tree.map(close, diagonal, jax.tree.map(lambda leaf: jnp.square(leaf).sum((0, 1)), each))


def test_it_is_named():
    apply, p, x = NETS["autoencoder"]
    assert [own.form for own in fnn.function.describe(apply, p, x).params] == ["Mutual"]
