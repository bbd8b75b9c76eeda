"""The weights of examples, brought to the arrays in which the examples lie.

An axis with examples is made of outer, n, inner: some elements before each example's own, and some behind.
"""

from typing import Any

import jax.numpy as jnp

from fnn.arrays import accumulator


def by_owner(weights: Any, leaf: Any, axis: int, inner: int = 1) -> Any:
    """Return each example's weight where its elements lie in an array, in a shape to multiply it with.

    Args:
        weights: the weights, (n,).
        leaf: the array.
        axis: the axis of the array that has the examples.
        inner: the number of elements of that axis behind each example's own.
    """
    n = weights.shape[0]
    owner = jnp.arange(leaf.shape[axis]) // inner % max(1, n)
    return weights[owner].reshape(-1, *(1,) * (leaf.ndim - axis - 1))


def weighted(leaf: Any, weights: Any, axis: int, inner: int = 1) -> Any:
    """Multiply an array by the examples' weights, in float32 or wider; zero where the weight is.

    Args: `leaf`, `weights`, `axis`, `inner`, as for `by_owner`.
    """
    acc = accumulator(leaf.dtype)
    own = by_owner(weights.astype(acc), leaf, axis, inner)
    return jnp.where(own == 0, 0, leaf.astype(acc) * own)


def counted(leaf: Any, weights: Any, axis: int, inner: int = 1) -> Any:
    """Replace the elements of examples of weight zero, which need not be finite, by zero.

    Args: `leaf`, `weights`, `axis`, `inner`, as for `by_owner`.
    """
    return jnp.where(by_owner(weights == 0, leaf, axis, inner), jnp.zeros((), leaf.dtype), leaf)
