"""A codec: keeps a third of the digits, by rounding to a multiple of the array's own unit."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Steps:
    """Whole numbers, and the unit that they count."""

    count: jax.Array
    unit: jax.Array
    dtype: str = field(metadata={"static": True})


@dataclass(frozen=True)
class Thirds:
    """Keep int8 multiples of max |x| / 127."""

    def encode(self, x, key):
        unit = jnp.abs(x).max() / 127
        return Steps(jnp.round(x / jnp.where(unit == 0, 1, unit)).astype(jnp.int8), unit, x.dtype.name)

    def decode(self, stored):
        return stored.count.astype(stored.dtype) * stored.unit
