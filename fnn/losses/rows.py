"""The rows of a head: which of them count, how they are reshaped, and gradients that are scaled later."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from fnn.arrays import widened
from fnn.losses.objective import Reduction, by_row
from fnn.sharding import reshaped

Labels = Int[Array, "*n"]


@dataclass(frozen=True)
class Counting:
    """Which rows count in the value, and by how much.

    Args:
        vocabulary: the number of labels V.
        ignore: the label of rows that do not count, or None.
        reduction: "mean", "sum" or "none".
    """

    vocabulary: int
    ignore: int | None
    reduction: Reduction

    def counted(self, target: Labels) -> Any:
        """Return which rows count, (...): all whose label is not the one to ignore."""
        return jnp.ones(target.shape, bool) if self.ignore is None else target != self.ignore

    def reduced(self, losses: Any, target: Labels, weights: Any) -> Any:
        """Return the value of the rows' losses: NaN where a label that counts is out of range.

        Args:
            losses: the loss of each row, (...).
            target: the labels, (...) integers.
            weights: the weights of the rows or of the examples, or None.
        """
        inside = (target >= 0) & (target < self.vocabulary)
        losses = jnp.where(inside | ~self.counted(target), jnp.where(inside, losses, 0), jnp.nan)
        coefficients = self.coefficients(target, weights, losses.dtype)
        # A weight of zero counts a row out, even one of NaN.
        out = (coefficients == 0) & ~jnp.isfinite(losses)
        values = jnp.where(out, 0, losses * coefficients)
        return values if self.reduction == "none" else values.sum()

    def coefficients(self, target: Labels, weights: Any, dtype: Any) -> Any:
        """Return what each row's loss is multiplied by, (...), before "mean" and "sum" add up.

        Args:
            target: the labels, (...) integers.
            weights: the weights of the rows or of the examples, or None.
            dtype: the dtype of the result.
        """
        weights = by_row(weights, target.shape)
        ones = jnp.ones(target.shape, dtype) if weights is None else weights.astype(dtype)
        counted = jnp.where(self.counted(target), ones, 0)
        if self.reduction != "mean":
            return counted
        total = counted.sum()
        return counted / jnp.where(total == 0, 1, total)


def held_back(dtypes: tuple[Any, ...], coefficients: Any) -> tuple[Any, Any]:
    """Return coefficients for a gradient that is scaled later, and a power of two to multiply it by then.

    float16 has so few exponents that a row's share of a mean would be lost; in other dtypes the power is
    None.

    Args:
        dtypes: the dtypes of the gradient.
        coefficients: what each row's gradient is multiplied by, (...).
    """
    if all(jnp.finfo(dtype).minexp < -100 for dtype in dtypes):
        return coefficients, None
    largest = jnp.abs(coefficients).max(initial=0)
    sure = jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1)
    power = jnp.ldexp(jnp.ones_like(sure), jnp.frexp(sure)[1])
    return coefficients / power, power


def scaled(by: Any, leaf: Any, like: Any) -> Any:
    """Multiply a gradient in float32 or wider, and round it once.

    Args:
        by: the number to multiply by, ().
        leaf: the gradient.
        like: an array of the dtype that it is rounded to.
    """
    wide = widened(leaf)
    return (wide * by.astype(wide.dtype)).astype(like.dtype)


def flat(leaf: Any, axes: int) -> Any:
    """Reshape the first axes of an array to one.

    Args:
        leaf: the array.
        axes: the number of these axes.
    """
    rest = range(axes, leaf.ndim)
    if axes == 1:
        return leaf
    shape = (math.prod(leaf.shape[:axes]), *(leaf.shape[axis] for axis in rest))
    return reshaped(leaf, shape, (leaf, 0 if axes else None), *((leaf, axis) for axis in rest))


def unflat(leaf: Any, like: Any) -> Any:
    """Undo `flat`.

    Args:
        leaf: the array.
        like: an array whose shape and sharding it gets.
    """
    return reshaped(leaf, like.shape, *((like, axis) for axis in range(like.ndim)))
