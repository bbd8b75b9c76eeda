"""Factored gradients: what a backward pass gives for each parameter, before anything is summed up.

A parametric layer's backward makes no gradient. It makes the pair from which the gradient, and whatever
else anyone wants to know of it, follows by a small pure function: a *reader*, called as
`read(factor, param, *leaves)`. Examples lie on axis 0 of a factor, further leading axes (tokens) belong
to their example. A factor that was made inside `Repeat` has the stacked axes of its parameter first.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Int


@register_dataclass
@dataclass(frozen=True)
class Outer:
    """The factor of a weight (k, j): gradient = sum over rows of x_i dz_i^T."""

    x: Float[Array, "*n k"]
    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 2


@register_dataclass
@dataclass(frozen=True)
class Total:
    """The factor of a bias (j,): gradient = sum of dz over its leading axes."""

    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 1


@register_dataclass
@dataclass(frozen=True)
class Scaled:
    """The factor of a scale (j,): gradient = sum of x * dz over the leading axes."""

    x: Float[Array, "*n j"]
    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 1


@register_dataclass
@dataclass(frozen=True)
class Rows:
    """The factor of an embedding table (V, j): gradient = dz summed into the rows that `index` names.

    Rows that are out of range (negative ones too) are dropped.
    """

    index: Int[Array, "*n"]
    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 2


Factor = Outer | Total | Scaled | Rows


def is_factor(value: Any) -> bool:
    """Tell whether `value` is one of the four factors."""
    return isinstance(value, Factor)


def accumulator(*dtypes: Any) -> Any:
    """Give the dtype to accumulate in: the widest of these, at least float32 (jax issue 34330)."""
    with jax.numpy_dtype_promotion("standard"):  # here a promotion is what we ask for
        return jnp.result_type(jnp.float32, *dtypes)


def gradient(factor: Any, param: Any) -> Any:
    """Read the gradient of `param` off its factor: the default reader.

    The sum is accumulated in float32 or wider and then has `param`'s shape and dtype. A layer whose
    backward gives an array where a factor could stand has given the gradient itself.

    Cost: 2nkj flops for an `Outer` of n rows, n k for the others.
    """
    if not isinstance(factor, Factor):
        return factor
    if param.ndim > factor.rank:  # made inside `Repeat`: one factor for each of the stacked params
        return jax.vmap(gradient)(factor, param)
    acc = accumulator(factor.dz.dtype)
    match factor:
        case Outer(x, dz):
            rows = tuple(range(x.ndim - 1))
            total = lax.dot_general(x, dz, ((rows, rows), ((), ())), preferred_element_type=acc)
        case Total(dz):
            total = jnp.sum(dz, tuple(range(dz.ndim - 1)), dtype=acc)
        case Scaled(x, dz):
            total = jnp.sum(x.astype(acc) * dz.astype(acc), tuple(range(dz.ndim - 1)))
        case Rows(index, dz):
            safe = jnp.where(index < 0, param.shape[0], index)  # negative indices would wrap around
            total = jnp.zeros(param.shape, acc).at[safe].add(dz.astype(acc), mode="drop")
    return total.astype(param.dtype)


def unread(factor: Any, param: Any, *leaves: Any) -> Any:
    """Give the factor itself: `backward(..., read=unread)` returns a value to keep, replay, or read later."""
    return factor


def join(factors: Any, param: Any) -> Any:
    """Join the factors of several uses of one param, stacked on axis 0, into one factor.

    The uses become an axis among the summed ones, after the examples' axis, as if they were tokens; so
    every reader of the joined factor is right, cross terms between the uses included.
    """
    if not is_factor(factors):
        return jnp.sum(factors, 0)
    if param.ndim > factors.rank:  # the stacked axis of the params stays first
        return jax.vmap(join, (1, 0))(factors, param)
    rows = factors.index.ndim if isinstance(factors, Rows) else factors.dz.ndim - 1
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, min(1, rows - 1)), factors)
