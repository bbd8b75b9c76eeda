"""Codecs, which store a kept array: rounded, in a few bits by blocks, or in the memory of the host.

A codec is a frozen dataclass with two methods. `encode(x, key)` returns a pytree, from which `decode` makes
an array like x. `key` is the random key for stochastic rounding; without one, numbers are rounded to nearest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, UInt8

from fnn.arrays import accumulator
from fnn.errors import InputError
from fnn.sharding import fitting, on_mesh, sharding_of


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Packed:
    """An array as small integers in blocks, several in a byte, as `Bits` stores it.

    Args:
        words: the bytes of each block, uint8.
        low: the least number of each block.
        high: the largest number of each block.
        shape: the shape that the array had.
        sharding: the sharding that it had, where a mesh is explicit.
    """

    words: UInt8[Array, "blocks bytes"]
    low: Float[Array, "blocks 1"]
    high: Float[Array, "blocks 1"]
    shape: tuple[int, ...] = field(metadata={"static": True})
    sharding: Any = field(default=None, metadata={"static": True})


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
class Bits:
    """A codec that keeps a few bits for each element: steps between the least and the largest of its block.

    Rounding is stochastic, so the mean over keys of what is decoded is `x`; each error is below one step,
    (high - low) / (2^bits - 1). A block of one value, or of two with 1 bit, is decoded exactly, such as the
    derivative of a relu. A block with an infinity or NaN is decoded as NaN. A backward that reads what was
    stored has no derivative, so the network has no second one; with `Rounded` it has.

    Args:
        bits: 8, 4, 2 or 1.
        block: the number of elements in a block, a multiple of 8; the last block is padded.

    Raises:
        InputError: where `bits` or `block` is another number.

    Cost: bits / 8 bytes for each element, and two numbers of x's dtype for each block.
    Source: Chen et al. 2021.

    >>> codec = Bits(1)
    >>> print(codec.decode(codec.encode(jnp.array([0.0, 1.0, 1.0]), None)))
    [0. 1. 1.]
    """

    bits: int = 8
    block: int = 256

    def __post_init__(self) -> None:
        if self.bits not in (8, 4, 2, 1):
            raise InputError("Bits", "8, 4, 2 or 1 bits", repr(self.bits), "fnn.memory.Bits(4)")
        if self.block < 8 or self.block % 8:
            raise InputError(
                "Bits", "block to be a multiple of 8", repr(self.block), "fnn.memory.Bits(4, block=256)"
            )

    def encode(self, x: Any, key: Any) -> Packed:
        """Pack an array into bytes.

        Args:
            x: a floating array of any shape.
            key: the random key for stochastic rounding, or None for rounding to nearest.
        """
        blocks = max(1, -(-x.size // self._length(x.size)))
        own = sharding_of(x)
        if own is not None:
            rows = own.update(spec=PartitionSpec(own.spec[0] if x.ndim else None, None))
            own = (fitting(rows, (blocks, 1)),) * 3
        words, low, high = on_mesh(partial(self._packed, key=key), own, x)
        return Packed(words, low, high, x.shape, sharding_of(x))

    def _length(self, size: int) -> int:
        return min(self.block, 8 * -(-max(size, 1) // 8))  # a small array is one short block

    def _packed(self, x: Any, key: Any) -> tuple[Any, Any, Any]:
        flat = x.reshape(-1)
        block = self._length(flat.size)
        blocks = -(-flat.size // block)
        filled = jnp.pad(flat, (0, blocks * block - flat.size), mode="edge" if flat.size else "constant")
        rows = filled.reshape(blocks, block)
        low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
        wide, start, step = self._steps(low, high)
        places = (rows.astype(wide) - start) / jnp.where(step == 0, 1, step)
        if key is None:
            codes = jnp.round(places)
        else:
            codes = jnp.floor(places + jax.random.uniform(key, rows.shape, wide))
        codes = jnp.clip(codes, 0, 2**self.bits - 1).astype(jnp.uint8)
        shifts = jnp.arange(0, 8, self.bits, dtype=jnp.uint8)
        words = (codes.reshape(blocks, block * self.bits // 8, shifts.size) << shifts[None, None]).sum(
            -1, dtype=jnp.uint8
        )
        return words, low, high

    def decode(self, stored: Packed) -> Any:
        """Unpack the bytes to an array of x's shape and dtype.

        Raises:
            InputError: where it is differentiated: the rounding to steps has no derivative.
        """
        return _once(self._unpack, stored)

    def _unpack(self, stored: Packed) -> Any:
        return on_mesh(
            partial(self._unpacked, stored.shape), stored.sharding, stored.words, stored.low, stored.high
        )

    def _unpacked(self, shape: tuple[int, ...], words: Any, low: Any, high: Any) -> Any:
        shifts = jnp.arange(0, 8, self.bits, dtype=jnp.uint8)
        top = 2**self.bits - 1
        codes = (words[..., None] >> shifts[None, None]) & jnp.uint8(top)
        codes = codes.reshape(len(words), codes.shape[1] * shifts.size)
        wide, start, step = self._steps(low, high)
        rows = jnp.where(codes == top, high.astype(wide), start + codes.astype(wide) * step)
        rows = jnp.where(step == step, rows, jnp.nan).astype(low.dtype)  # noqa: PLR0124
        return rows.reshape(-1)[: prod(shape)].reshape(shape)

    def _steps(self, low: Any, high: Any) -> tuple[Any, Any, Any]:
        """Return the dtype to compute in, and the start and the step of each block, (blocks, 1)."""
        wide = accumulator(low.dtype)
        return wide, low.astype(wide), (high.astype(wide) - low.astype(wide)) / (2**self.bits - 1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _once(unpack: Callable[[Packed], Any], stored: Packed) -> Any:
    return unpack(stored)


@_once.defjvp
def _(unpack: Any, at: Any, along: Any) -> Any:
    wanted = "first derivatives alone of a network that is stored in bits"
    raise InputError("Bits", wanted, "a derivative of its backward", "fnn.memory.Rounded()")


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
