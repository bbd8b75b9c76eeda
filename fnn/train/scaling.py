"""The loss scale of float16, which follows what the gradients can bear."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.errors import InputError


class Scale(NamedTuple):
    """A loss scale, as the state of a training run holds it.

    Args:
        value: the number that gradients are multiplied by before they are rounded, () float32.
        steps: the number of finite steps since it changed, () int32.

    >>> LossScale(initial=4.0).init().value
    Array(4., dtype=float32)
    """

    value: Array
    steps: Array


@dataclass(frozen=True)
class LossScale:
    """How a loss scale follows the gradients: up after many finite steps, down after one that is not.

    A step whose gradient is not finite changes nothing but the scale.

    Args:
        initial: the first scale, > 0; a power of two loses no digit.
        factor: what the scale is multiplied by or divided by, > 1.
        every: the number of finite steps after which it is multiplied.
        least: the smallest scale: a gradient that is not finite even with this one is the network's fault.

    Raises:
        InputError: where a number is out of its range.

    Source: Micikevicius et al. 2018.

    >>> scaling = LossScale(initial=4.0, every=2)
    >>> scale = scaling.after(scaling.init(), jnp.array(False))
    >>> float(scale.value)
    2.0
    """

    initial: float = 2.0**15
    factor: float = 2.0
    every: int = 2000
    least: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.least <= self.initial < float("inf") and self.factor > 1 and self.every >= 1):
            wanted = "0 < least <= initial, factor > 1 and every >= 1"
            raise InputError("LossScale", wanted, repr(self), "fnn.train.LossScale(2.0**15)")

    def init(self) -> Scale:
        """Return the first scale."""
        return Scale(jnp.float32(self.initial), jnp.int32(0))

    def after(self, scale: Scale, finite: Any) -> Scale:
        """Return the scale for the next step.

        Args:
            scale: that of this step.
            finite: whether the gradient was finite, () bool.
        """
        grown = jnp.minimum(scale.value * self.factor, 2.0**120)  # which float32 holds, and its inverse
        up = scale.steps + 1 >= self.every
        value = jnp.where(finite, jnp.where(up, grown, scale.value), scale.value / self.factor)
        steps = jnp.where(finite & ~up, scale.steps + 1, 0)
        return Scale(jnp.maximum(value, self.least), steps.astype(jnp.int32))
