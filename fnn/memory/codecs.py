"""Codecs, which store a kept array: rounded, in a few bits by blocks, or in the memory of the host.

A codec is a frozen dataclass with two methods. `encode(x, key)` returns a pytree, from which `decode` makes
an array like x. `key` is the random key for stochastic rounding; without one, numbers are rounded to nearest.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array


class Codec(Protocol):
    """The protocol of a codec, which stores a floating array of any shape.

    >>> codec: Codec = Rounded()
    >>> codec.decode(codec.encode(jnp.array([0.5]), None))
    Array([0.5], dtype=float32)
    """

    def encode(self, x: Any, key: Any) -> Any:
        """Store an array.

        Args:
            x: a floating array of any shape.
            key: the random key for stochastic rounding, or None for rounding to nearest.

        Returns:
            a pytree to keep instead of `x`.
        """
        ...

    def decode(self, stored: Any) -> Any:
        """Return an array of x's shape and dtype from what `encode` returned."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Narrowed:
    """An array in a narrower dtype, as `Rounded` stores it.

    Args:
        x: the array.
        dtype: the name of the dtype that it had.
    """

    x: Array
    dtype: str = field(metadata={"static": True})


@dataclass(frozen=True)
class Rounded:
    """A codec that rounds to a narrower floating dtype: 2 bytes for each element in bfloat16.

    Rounding is to nearest, for every key: an error of up to half a unit in the last place, 2^-9 relative for
    bfloat16, which an average over keys does not remove.

    Args:
        dtype: the dtype to store.

    >>> codec = Rounded()
    >>> print(codec.decode(codec.encode(jnp.array([1.0, 0.1]), None)))
    [1.         0.10009766]
    """

    dtype: Any = jnp.bfloat16

    def encode(self, x: Any, key: Any) -> Narrowed:
        """Round an array to `dtype`.

        Args:
            x: a floating array of any shape.
            key: not used, as rounding is to nearest.
        """
        return Narrowed(x.astype(self.dtype), x.dtype.name)

    def decode(self, stored: Narrowed) -> Any:
        """Convert the array back to the dtype it had."""
        return stored.x.astype(stored.dtype)


@dataclass(frozen=True)
class Offloaded:
    """A codec that keeps the array exactly, in the memory of the host, where the platform has one.

    It works under jit alone: the compiler then moves the array out after the forward, and back before the
    backward reads it.

    >>> import fnn
    >>> fnn.memory.stored(fnn.Dense(3), Offloaded())
    Stored(Dense(3), Offloaded())
    """

    def encode(self, x: Any, key: Any) -> Any:
        """Move an array to the memory of the host.

        Args:
            x: an array of any shape.
            key: not used.
        """
        return jax.device_put(x, jax.memory.Space.Host)

    def decode(self, stored: Any) -> Any:
        """Move the array back to the device."""
        return jax.device_put(stored, jax.memory.Space.Device)
