"""A layer that is run again in the backward, so that its forward leaves its input alone."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core import Layer, Reading
from fnn.errors import InputError, at, brief


@dataclass(frozen=True, repr=False)
class Recomputed:
    """Keep a layer's input alone, and run its forward again when its backward comes. params: the layer's.

    What the layer would have kept is alive while its own backward runs, and at no other time. The price is
    a second forward; gradients are the same. With a key, the key is kept, and the noise is drawn again.
    Source: Griewank, Walther 2000; Chen et al. 2016.
    """

    layer: Layer
    place: str = field(default=".layer", repr=False)
    __repr__ = brief
    cheap = False
    needs = frozenset({"input"})

    def __post_init__(self):
        if not isinstance(self.layer, Layer):
            raise InputError("Recomputed", "a layer", repr(self.layer), "fnn.Recomputed(fnn.Serial(a, b))")

    def parts(self, params: Any, x: Any) -> list[tuple[str, Layer, Any, Any]]:
        """List the one layer: place, layer, its params, and the shape of its input."""
        return [(self.place, self.layer, params, x)]

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> Any:
        """Make the layer's params."""
        with at(self.place):
            return self.layer.init(key, x)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        """y = f(x), and the key"""
        with at(self.place):
            return self.layer.forward(params, x, key)[0], key

    def recompute(self, params: Any, x: Any, extras: Any) -> Any:
        """y = f(x)"""
        return self.layer.forward(params, x, extras)[0]

    def backward(self, params: Any, x: Any, y: None, extras: Any, dy: Any, read: Reading) -> tuple[Any, Any]:
        """dx = the layer's dx, from residuals that are made again here"""
        x = after(x, dy)
        y, extras = self.layer.forward(params, x, extras)
        with at(self.place):
            own = replace(read, looped=False)  # the second forward is in sight
            return self.layer.backward(params, *sides(self.layer, x, y), extras, dy, own)


def sides(layer: Layer, x: Any, y: Any) -> tuple[Any, Any]:
    """Give the two sides of a layer, None for one that its backward does not read."""
    return x if "input" in layer.needs else None, y if "output" in layer.needs else None


def rebuilds(layer: Any) -> bool:
    """Tell whether `layer.rebuild(params, extras)` gives its output by cheap layers, without its input."""
    return getattr(layer, "rebuilds", False)


def after(x: Any, array: Any) -> Any:
    """Give the arrays of x back, known only when `array` is.

    What is made again from such an x cannot be merged by the compiler with what the forward made, which
    would keep that alive: the memory would be spent after all. A barrier says so to a TPU's compiler. XLA on
    a CPU drops barriers, and on a GPU they keep what is behind them from its fusions; there the arrays go
    through a choice that always falls on them and hangs on a number of `array`.
    """
    if array.size == 0:
        return x

    def choice(x: Any, array: Any) -> Any:
        never = _never(lax.stop_gradient(array[(0,) * array.ndim]))
        return jax.tree.map(lambda leaf: jnp.where(never, jnp.zeros_like(leaf), leaf), x)

    def barrier(x: Any, array: Any) -> Any:
        return lax.optimization_barrier((x, array))[0]

    return lax.platform_dependent(x, array, tpu=barrier, default=choice)


@jax.custom_batching.custom_vmap
def _never(number: Any) -> Any:
    """Give False, in a way that no compiler sees through; under vmap one for all."""
    return jnp.where(number == 0, 1, 2) > 2


@_never.def_vmap
def _never_of_many(size: int, batched: list[bool], numbers: Any) -> tuple[Any, bool]:
    return _never(numbers[0]), False
