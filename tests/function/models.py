"""How a model of another library is held against the gradients of its single examples."""

from typing import Any

import jax
import jax.numpy as jnp

import fnn
from fnn.factors import is_factor
from fnn.function import Function, factors
from fnn.privacy import clipped_gradient
from fnn.readers import squared_norm, sum_over_params
from tests.function.test_uses import close, each_of, one_by_one

KNOWN = {"Mutual", "Outer", "Total", "Scaled", "Rows", "Viewed", "Convolved", "Part"}
DOUBLE = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def compare(apply: Any, params: Any, x: Any) -> None:
    """Compare gradients, norms and the clipped sum; every factor must be of a known form."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as the libraries need
        _compare(apply, params, x)


def _compare(apply: Any, params: Any, x: Any) -> None:
    target = jnp.cos(jnp.arange(float(x.shape[0])))
    y = jax.eval_shape(apply, params, x)
    target = jnp.broadcast_to(target.reshape(-1, *(1,) * (y.ndim - 1)), y.shape)

    def f(params: Any, x: Any, target: Any) -> Any:
        y = apply(params, x)
        return 0.5 * jnp.square(y - target).reshape(y.shape[0], -1).sum(1)

    @jax.jit
    def ours(params: Any) -> Any:
        _, found = factors(f)(params, x, target)
        each = jax.tree.map(each_of, found, params, is_leaf=is_factor)
        norms = jax.tree.map(squared_norm, found, params, is_leaf=is_factor)
        clipped = clipped_gradient(Function(apply), fnn.half_squared_error(), 0.1)(params, x, target)
        return found, each, sum_over_params(norms), clipped.gradient

    found, each, norms, clipped = ours(params)
    expected = jax.jit(one_by_one, static_argnums=0)(f, params, (x, target))
    names = {type(own).__name__ for own in jax.tree.leaves(found, is_leaf=is_factor)}
    assert names <= KNOWN, names
    close(each, expected)
    flat = jnp.concatenate([g.reshape(x.shape[0], -1) for g in jax.tree.leaves(expected)], 1)
    close(norms, jnp.square(flat).sum(1))
    scale = jnp.minimum(1, 0.1 / jnp.linalg.norm(flat, axis=1))
    close(clipped, jax.tree.map(lambda g: jnp.tensordot(scale, g, 1), expected))


def shaken(params: Any) -> Any:
    """Add noise to all params, so that none is zero."""
    return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape, p.dtype), params)
