"""Dropout that keeps its key, not its mask."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.core import Equations, Leaf, Sides
from fnn.errors import InputError, brief, check_floating
from fnn.sharding import on_mesh, sharding_of

Values = Float[Array, "..."]


@dataclass(frozen=True, repr=False)
class Dropout(Leaf):
    """Set each element to zero with probability `rate`, and divide the others by 1 - `rate`.

    It draws noise if it is given a key, `fnn.forward(net, params, x, key)`. Without a key, as in evaluation,
    it returns the input; functions that train, such as `fnn.value_and_grad`, then warn. No params. The
    backward reads neither side: the key is kept, and the mask is drawn from it again. Source: Srivastava et
    al. 2014.

    Args:
        rate: the probability, 0 <= rate < 1.

    Raises:
        InputError: where the rate is out of range, or, on use, the input is not floating-point.

    >>> import fnn
    >>> y = fnn.apply(fnn.Dropout(0.5), (), jnp.ones(1000), jax.random.key(0))
    >>> set(y.tolist())
    {0.0, 2.0}
    """

    rate: float
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset()
    couples_examples: ClassVar[bool | None] = False
    equations: ClassVar[Equations | None] = (
        ("{y} = {x} * mask(key) / (1 - rate)",),
        ("d{x} = d{y} * mask(key) / (1 - rate)",),
    )

    def __post_init__(self) -> None:
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
