"""Kernels for a GPU that run a function on blocks of rows, with small matrices beside each block."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import accumulator

ROWS = 64  # of a block
WARPS = 4


def for_a_gpu() -> dict[str, Any]:
    """Return the options of a kernel for a GPU, made by Triton; none where JAX has it no more."""
    try:
        from jax.experimental.pallas.triton import CompilerParams
    except ImportError:
        return {}
    return {"compiler_params": CompilerParams(num_warps=WARPS)}


def in_blocks(
    body: Callable[..., Sequence[Any]],
    widths: Sequence[int],
    matrices: Sequence[Any],
    vectors: Sequence[Any],
    arrays: Sequence[Any],
    interpreted: bool,
) -> list[Any]:
    """Return what a function makes of arrays, block of rows by block of rows.

    A kernel wants a number of columns that is a power of two from 16 on: zeros are added to all that it is
    given, and taken away from what it returns.

    Args:
        body: `body(matrices, vectors, blocks)`, of blocks (rows, columns) and vectors (1, columns); it
            returns arrays (rows, columns), each row made of the same row of the blocks.
        widths: the numbers of columns of what it returns.
        matrices: arrays (k, j), whole beside every block.
        vectors: arrays (j,), likewise.
        arrays: arrays (..., k) of one dtype, which what is returned has, too.
        interpreted: whether JAX's interpreter runs the kernel, on any device.

    Returns:
        arrays (..., width).
    """
    from jax.experimental import pallas as pl

    lead, dtype = arrays[0].shape[:-1], arrays[0].dtype
    n = math.prod(lead)
    count = -(-n // ROWS)
    small = [*(_padded(m, _wide(m.shape[0])) for m in matrices), *(_padded(v[None], 1) for v in vectors)]
    rows = [_padded(a.reshape(n, -1), count * ROWS) for a in arrays]
    made = [jax.ShapeDtypeStruct((count * ROWS, _wide(width)), dtype) for width in widths]
    ends = len(matrices), len(small), len(small) + len(rows)

    def kernel(*refs: Any) -> None:
        values = [ref[...] for ref in refs[: ends[2]]]
        found = body(values[: ends[0]], values[ends[0] : ends[1]], values[ends[1] :])
        for ref, value in zip(refs[ends[2] :], found, strict=True):
            ref[...] = value

    def block(a: Any) -> Any:
        return pl.BlockSpec((ROWS, a.shape[1]), lambda i: (i, 0))

    whole = [pl.BlockSpec(a.shape, lambda i: (0, 0)) for a in small]
    how: Any = {"interpret": True} if interpreted else for_a_gpu()
    specs = {"in_specs": [*whole, *map(block, rows)], "out_specs": [*map(block, made)]}
    found = pl.pallas_call(kernel, made, grid=(count,), **specs, **how)(*small, *rows)
    return [a[:n, :width].reshape(*lead, width) for a, width in zip(found, widths, strict=True)]


def affine(x: Any, matrix: Any, vector: Any, dtype: Any) -> Any:
    """Return x W + b, of a block.

    Args:
        x: the block (rows, k).
        matrix: the matrix (k, j).
        vector: the vector (1, j).
        dtype: the dtype of the product's operands, and of the result.
    """
    z = product(x, matrix.astype(dtype))
    return (z + vector.astype(z.dtype)).astype(dtype)


def product(a: Any, b: Any, axis: int = 0, like: Any = None) -> Any:
    """Contract the columns of a block with an axis of a matrix, in float32 or wider.

    Args:
        a: a block (rows, k).
        b: a matrix (k, j), or (j, k) where `axis` is 1.
        axis: the axis of `b` that is contracted.
        like: an array of the result's shape, which is not needed here.
    """
    contract = (((1,), (axis,)), ((), ()))
    return lax.dot_general(a, b, contract, preferred_element_type=accumulator(a.dtype, b.dtype))


def _wide(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())


def _padded(a: Any, rows: int) -> Any:
    return jnp.pad(a, ((0, rows - a.shape[0]), (0, _wide(a.shape[1]) - a.shape[1])))
