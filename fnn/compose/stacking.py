"""Params of layers one after the other, stacked as a `Repeat` has them, and unstacked."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.arrays import PyTree, same_shapes
from fnn.errors import InputError, describe


def stack(params: Sequence[PyTree[Array]]) -> PyTree[Array]:
    """Stack the params of n layers that are alike on a new first axis: a chain's become a `Repeat`'s.

    Args:
        params: the params of each layer, or trees like them (gradients, an optimizer's moments).

    Returns:
        one tree with leaves (n, ...).

    Raises:
        InputError: where they are none, or differ in structure, shapes or dtypes.

    >>> stack([{"bias": jnp.zeros(3)}, {"bias": jnp.ones(3)}])["bias"].shape
    (2, 3)
    """
    if not isinstance(params, (tuple, list)) or not params or not same_shapes(params):
        wanted = "a tuple with the params of one or more layers that are alike"
        raise InputError("stack", wanted, describe(params), "fnn.stack((params, params))")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def unstack(params: PyTree[Array]) -> tuple[PyTree[Array], ...]:
    """Undo `stack`: return the params of each of n layers.

    Args:
        params: a tree with leaves (n, ...).

    Returns:
        a tuple of n trees with leaves (...).

    Raises:
        InputError: where the leaves have no first axis of one size.

    >>> len(unstack({"bias": jnp.zeros((2, 3)), "kernel": jnp.zeros((2, 4, 3))}))
    2
    """
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(params)}
    if len(sizes) != 1 or () in sizes:
        wanted = "params with leaves (n, ...), stacked n times"
        raise InputError("unstack", wanted, describe(params), "fnn.unstack(fnn.stack((params, params)))")
    ((n,),) = sizes
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(n))
