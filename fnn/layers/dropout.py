"""Dropout that keeps its key, not its mask."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.core import Leaf
from fnn.errors import InputError, brief, check_floating
from fnn.sharding import on_mesh, sharding_of

Values = Float[Array, "..."]


@dataclass(frozen=True, repr=False)
class Dropout(Leaf):
    """Set each element to zero with probability `rate`, divide the others by `1 - rate`.

    Noise wants a key: `fnn.forward(net, params, x, key)`. Without one (evaluation) the input passes
    unchanged, and what trains, such as `fnn.value_and_grad`, warns. No params, no boundary: the key is the
    one extra, the backward draws the mask again from it. Source: Srivastava et al. 2014.
    """

    rate: float
    __repr__ = brief
    cheap = True
    needs = frozenset()
    couples_examples = False
    equations = (("{y} = {x} * mask(key) / (1 - rate)",), ("d{x} = d{y} * mask(key) / (1 - rate)",))

    def __post_init__(self):
        if not 0 <= self.rate < 1:
            raise InputError("Dropout", "0 <= rate < 1", repr(self.rate), "fnn.Dropout(0.1)")
        vars(self).update(noisy=self.rate > 0)

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[()]:
        """No params."""
        check_floating(self, x)
        return ()

    def forward(self, params: tuple[()], x: Values, key: Any) -> tuple[Values, Any]:
        """y = x mask / (1 - rate)"""
        check_floating(self, x)
        extras = None if self.rate == 0 else key
        return self.recompute(params, x, extras), extras

    def recompute(self, params: tuple[()], x: Values, extras: Any) -> Values:
        """y = x mask / (1 - rate)"""
        if extras is None:
            return x
        draw = partial(jax.random.bernoulli, p=1 - self.rate, shape=x.shape)
        kept = on_mesh(draw, sharding_of(x), extras)
        return jnp.where(kept, x / (1 - self.rate), 0)

    def backward(self, params: tuple[()], x: None, y: None, extras: Any, dy: Values) -> tuple[Any, Values]:
        """dx = dy mask / (1 - rate): the map is linear and its own transpose."""
        return (), self.recompute(params, dy, extras)
