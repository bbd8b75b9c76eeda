"""Walks over chunks of rows, so that what is large need not exist at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import widened
from fnn.sharding import as_cotangent, placed_like, reshaped, shards_of, varying_like, zeros_like


def over_chunks(
    chunk: Callable[[Any, Callable[[Any], Any]], tuple[Any, Any]], rows: Any, size: int
) -> tuple[Any, Any]:
    """Run `chunk` on at most `size` of the rows at a time, in a scan.

    Args:
        chunk: `chunk(rows, widen)` returns (what is summed over the chunks, what is concatenated). It calls
            `widen` on whatever decides the dtype of the sum, so that the sum is made in float32 or wider.
        rows: a pytree of arrays (n, ...). Chunks are equally large, the last one padded with rows of zeros.
        size: the most rows of a chunk.

    Returns:
        the sum, in the dtype it has without widening, and the concatenation, (n, ...).
    """
    leaves = jax.tree.leaves(rows)
    n, shards = leaves[0].shape[0], max(map(shards_of, leaves))
    own = n // shards  # rows of a shard
    chunks = max(1, -(-own // max(1, size)))  # of an empty batch one, of no rows
    size = -(-own // chunks)

    def cut(leaf: Any) -> Any:
        rest, axes = leaf.shape[1:], [(leaf, i) for i in range(1, leaf.ndim)]
        by_shard = reshaped(leaf, (shards, own, *rest), (leaf, 0), (leaf, None), *axes)
        filled = jnp.pad(by_shard, [(0, 0), (0, chunks * size - own)] + [(0, 0)] * len(rest))
        return cut_up(reshaped(filled, (shards * chunks * size, *rest), (leaf, 0), *axes), chunks, shards)

    def whole(parts: Any) -> Any:
        leaf = put_together(parts, shards)
        rest, axes = leaf.shape[1:], [(leaf, i) for i in range(1, leaf.ndim)]
        filled = reshaped(leaf, (shards, chunks * size, *rest), (leaf, 0), (leaf, None), *axes)
        return reshaped(filled[:, :own], (n, *rest), (leaf, 0), *axes)

    def widen(param: Any) -> Any:  # varying, so that shards are added up once, and not chunk by chunk
        return varying_like(widened(param), rows)

    def step(total: Any, part: Any) -> tuple[Any, Any]:
        more, each = chunk(part, widen)
        return jax.tree.map(lambda total, more: total + placed_like(more, total), total, more), each

    parts = jax.tree.map(cut, rows)

    def first(w: Callable[[Any], Any]) -> Any:
        return jax.eval_shape(lambda parts: chunk(jax.tree.map(lambda leaf: leaf[0], parts), w)[0], parts)

    wide, narrow = map(first, (widen, _same))
    total, each = lax.scan(step, jax.tree.map(zeros_like, wide), parts)
    total = jax.tree.map(lambda leaf, like: as_cotangent(leaf.astype(like.dtype), like), total, narrow)
    return total, jax.tree.map(whole, each)


def cut_up(leaf: Any, chunks: int, shards: int = 1) -> Any:
    """Cut axis 0 into chunks that each have rows of all its shards.

    Args:
        leaf: an array (n, ...).
        chunks: the number of chunks, which divides n.
        shards: the number of shards of axis 0.

    Returns:
        an array (chunks, n / chunks, ...).
    """
    rest, axes = leaf.shape[1:], [(leaf, i) for i in range(1, leaf.ndim)]
    split = (leaf, 0), (leaf, None), (leaf, None)
    parts = reshaped(leaf, (shards, chunks, leaf.shape[0] // max(1, chunks * shards), *rest), *split, *axes)
    return reshaped(
        jnp.moveaxis(parts, 1, 0), (chunks, leaf.shape[0] // max(1, chunks), *rest), split[1], split[0], *axes
    )


def put_together(parts: Any, shards: int = 1) -> Any:
    """Undo `cut_up`: (chunks, size, ...) to (chunks * size, ...).

    Args:
        parts: an array (chunks, size, ...).
        shards: the number of shards that each chunk has rows of.
    """
    chunks, size, *rest = parts.shape
    axes, split = [(parts, i) for i in range(2, parts.ndim)], ((parts, None), (parts, 1), (parts, None))
    leaf = jnp.moveaxis(reshaped(parts, (chunks, shards, size // shards, *rest), *split, *axes), 0, 1)
    return reshaped(leaf, (chunks * size, *rest), (parts, 1), *axes)


def _same(param: Any) -> Any:
    return param
