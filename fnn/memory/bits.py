"""A codec of a few bits for each element, by blocks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, UInt8

from fnn.arrays import accumulator
from fnn.errors import InputError
from fnn.layers.affine import row
from fnn.sharding import fitting, names_of, on_mesh, sharding_of


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

    words: UInt8[Array, "*blocks bytes"]
    low: Float[Array, "*blocks 1"]
    high: Float[Array, "*blocks 1"]
    shape: tuple[int, ...] = field(metadata={"static": True})
    sharding: Any = field(default=None, metadata={"static": True})


@dataclass(frozen=True)
class Bits:
    """A codec that keeps a few bits for each element: steps between the least and the largest of its block.

    Rounding is stochastic, so the mean over keys of what is decoded is `x`; each error is below one step,
    (high - low) / (2^bits - 1). A block of one value, or of two with 1 bit, is decoded exactly, such as the
    derivative of a relu. A block with an infinity or NaN is decoded as NaN. A backward that reads what was
    stored has no derivative, so the network has no second one; with `Rounded` it has.

    Args:
        bits: 8, 4, 2 or 1.
        block: the number of elements in a block, a multiple of 8; the last block is padded. Where the
            features are sharded, a block is a part of one device's, and may be shorter.

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
        own, length = sharding_of(x), self._along_features(x)
        if own is not None and length:
            own = (own.update(spec=PartitionSpec(*own.spec, None)),) * 3
        elif own is not None:
            blocks = max(1, -(-x.size // self._length(x.size)))
            rows = own.update(spec=PartitionSpec(own.spec[0] if x.ndim else None, None))
            own = (fitting(rows, (blocks, 1)),) * 3
        words, low, high = on_mesh(partial(self._packed, length=length, key=key), own, x)
        return Packed(words, low, high, x.shape, sharding_of(x))

    def _length(self, size: int) -> int:
        return min(self.block, 8 * -(-max(size, 1) // 8))  # a small array is one short block

    def _along_features(self, x: Any) -> int | None:
        """Return the length of blocks that lie along the last axis, each on one device; None where they may
        go on in the next row: where that axis is not sharded, or no length fits.

        On axes that are not Explicit the compiler may shard it over one of them, if blocks stay long.
        """
        mesh = jax.typeof(x).sharding.mesh
        sizes, own = dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True)), sharding_of(x)
        names = names_of(own.spec[-1]) if own is not None and x.ndim else ()
        parts, least = prod(sizes[name] for name in names), 8
        if not names:
            parts, least = max((sizes[name] for name in mesh.auto_axes), default=1), self.block // 4
        if parts == 1 or not x.size or x.shape[-1] % parts:
            return None
        local = x.shape[-1] // parts
        lengths = range(min(self.block, local) // 8 * 8, 0, -8)
        return next((length for length in lengths if local % length == 0 and length >= least), None)

    def _packed(self, x: Any, length: int | None, key: Any) -> tuple[Any, Any, Any]:
        if length:
            rows = x.reshape(*x.shape[:-1], x.shape[-1] // length, length)
        else:
            flat = x.reshape(-1)
            block = self._length(flat.size)
            blocks = -(-flat.size // block)
            filled = jnp.pad(flat, (0, blocks * block - flat.size), mode="edge" if flat.size else "constant")
            rows = filled.reshape(blocks, block)
        low, high = rows.min(-1, keepdims=True), rows.max(-1, keepdims=True)
        wide, start, step = self._steps(low, high)
        places = (rows.astype(wide) - start) / jnp.where(step == 0, 1, step)
        if key is None:
            codes = jnp.round(places)
        else:
            codes = jnp.floor(places + jax.random.uniform(key, rows.shape, wide))
        codes = jnp.clip(codes, 0, 2**self.bits - 1).astype(jnp.uint8)
        shifts = jnp.arange(0, 8, self.bits, dtype=jnp.uint8)
        codes = codes.reshape(*rows.shape[:-1], rows.shape[-1] // shifts.size, shifts.size)
        words = (codes << row(shifts, codes)).sum(-1, dtype=jnp.uint8)
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
        words = words[..., None]
        codes = (words >> row(shifts, words)) & jnp.uint8(top)
        codes = codes.reshape(*low.shape[:-1], codes.shape[-2] * shifts.size)
        wide, start, step = self._steps(low, high)
        rows = jnp.where(codes == top, high.astype(wide), start + codes.astype(wide) * step)
        rows = jnp.where(step == step, rows, jnp.nan).astype(low.dtype)  # noqa: PLR0124
        return (rows if rows.size == prod(shape) else rows.reshape(-1)[: prod(shape)]).reshape(shape)

    def _steps(self, low: Any, high: Any) -> tuple[Any, Any, Any]:
        """Return the dtype to compute in, and the start and the step of each block, (..., 1)."""
        wide = accumulator(low.dtype)
        return wide, low.astype(wide), (high.astype(wide) - low.astype(wide)) / (2**self.bits - 1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _once(unpack: Callable[[Packed], Any], stored: Packed) -> Any:
    return unpack(stored)


@_once.defjvp
def _(unpack: Any, at: Any, along: Any) -> Any:
    wanted = "first derivatives alone of a network that is stored in bits"
    raise InputError("Bits", wanted, "a derivative of its backward", "fnn.memory.Rounded()")
