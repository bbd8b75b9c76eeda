"""Walks over chunks of rows, so that what is large need not exist at once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from fnn.arrays import widened
from fnn.sharding import (
    as_cotangent,
    gathered,
    names_of,
    placed,
    placed_like,
    reshaped,
    sharding_along,
    sharding_of,
    shards_of,
    varying_axes,
    varying_like,
    zeros_like,
)

Chunk = Callable[[Any, Any, Callable[[Any], Any]], tuple[Any, Any]]


def by_shard(
    f: Callable[[Any, Any], tuple[Any, Any]], shared: Any, rows: Any, reduce: Any = None
) -> tuple[Any, Any]:
    """Run `f` on each device with its own rows, and add up over the devices once, at the end.

    Args:
        f: `f(shared, rows)` returns (what is summed over rows, what is concatenated); it closes over no
            arrays.
        shared: a pytree of arrays that every device needs whole, along the axes that rows are sharded over.
        rows: a pytree of arrays (n, ...). Where the first axis of none is sharded over Explicit axes, or an
            array over others too, which `shard_map` would gather, `f` runs once, on all.
        reduce: the dtype in which the devices' sums are added up; None for their own.
    """
    lie = sharding_along(*((leaf, 0) for leaf in jax.tree.leaves(rows)))
    names = () if lie is None else tuple(name for own in lie.spec for name in names_of(own))
    if lie is None or not names or _others(names, (shared, rows)):
        return f(shared, rows)

    def whole(leaf: Any) -> Any:
        return gathered(leaf, [(row, 0) for row in jax.tree.leaves(rows)])

    def along(leaf: Any) -> Any:
        own = sharding_of(whole(leaf)) or lie
        return placed(leaf, own.update(spec=PartitionSpec(names, *tuple(own.spec)[1 : leaf.ndim])))

    def local(shared: Any, rows: Any) -> tuple[Any, Any]:
        total, each = f(shared, rows)
        return jax.tree.map(partial(_summed, names, reduce), total), varying_like(each, rows)

    ends = PartitionSpec(), PartitionSpec(names)
    run = jax.shard_map(local, mesh=lie.mesh, in_specs=ends, out_specs=ends, axis_names={*names})
    return jax.jit(run)(jax.tree.map(whole, shared), jax.tree.map(along, rows))


def _others(names: Sequence[str], tree: Any) -> bool:
    """Return whether an array of a tree is sharded over other Explicit axes than these."""
    lie = filter(None, map(sharding_of, jax.tree.leaves(tree)))
    return any(name not in names for sharding in lie for own in sharding.spec for name in names_of(own))


def shares_axes(params: Any, rows: Any) -> bool:
    """Return whether a param is sharded over an Explicit axis that rows are sharded over, as under FSDP.

    Args: `params`, a tree of arrays; `rows`, a tree of arrays (n, ...).
    """
    lie = sharding_along(*((leaf, 0) for leaf in jax.tree.leaves(rows)))
    used = set() if lie is None else {name for own in lie.spec for name in names_of(own)}
    of_params = filter(None, map(sharding_of, jax.tree.leaves(params)))
    return any(used & set(names_of(own)) for sharding in of_params for own in sharding.spec)


def own_key(key: Any, rows: Any) -> Any:
    """Return a random key of this device alone, where rows vary over devices. Args: `key`; `rows`."""
    for name in sorted(varying_axes(*jax.tree.leaves(rows)) - varying_axes(key)):
        key = jax.random.fold_in(key, lax.axis_index(name))
    return key


def _summed(names: Sequence[str], reduce: Any, leaf: Any) -> Any:
    axes = tuple(name for name in names if name in varying_axes(leaf))
    return lax.psum(leaf.astype(reduce or leaf.dtype), axes).astype(leaf.dtype) if axes else leaf


def over_chunks(
    chunk: Chunk, shared: Any, rows: Any, size: int, apart: bool = False, reduce: Any = None
) -> tuple[Any, Any]:
    """Run `chunk` on at most `size` of the rows at a time, in a scan; where they are sharded, on each device.

    Args:
        chunk: `chunk(shared, rows, widen)` returns (what is summed over the chunks, what is concatenated). It
            calls `widen` on whatever decides the dtype of the sum, so that the sum is made in float32 or
            wider. It must close over no arrays.
        shared: a pytree of arrays that every chunk needs whole.
        rows: a pytree of arrays (n, ...). Chunks are equally large, the last one padded with rows of zeros.
        size: the most rows of a chunk, on one device.
        apart: whether on axes that are not Explicit, where the compiler alone knows the shardings, every
            device has a sum of its own until the end, though the sum be one that could be sharded.
        reduce: as for `by_shard`.

    Returns:
        the sum, in the dtype it has without widening, and the concatenation, (n, ...).
    """
    return by_shard(partial(_scanned, chunk, size, apart, reduce), shared, rows, reduce)


def _scanned(chunk: Chunk, size: int, apart: bool, reduce: Any, shared: Any, rows: Any) -> tuple[Any, Any]:
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

    def parted(rows: Any, widen: Callable[[Any], Any]) -> tuple[Any, Any]:
        if not apart or shards == 1:
            return chunk(shared, rows, widen)

        def split(leaf: Any) -> Any:
            axes = [(leaf, i) for i in range(1, leaf.ndim)]
            return reshaped(leaf, (shards, size, *leaf.shape[1:]), (leaf, 0), (leaf, None), *axes)

        def merged(leaf: Any) -> Any:
            axes = [(leaf, i) for i in range(2, leaf.ndim)]
            return reshaped(leaf, (shards * size, *leaf.shape[2:]), (leaf, 0), *axes)

        more, each = jax.vmap(lambda rows: chunk(shared, rows, widen))(jax.tree.map(split, rows))
        return more, jax.tree.map(merged, each)

    def step(total: Any, part: Any) -> tuple[Any, Any]:
        more, each = parted(part, widen)
        return jax.tree.map(lambda total, more: total + placed_like(more, total), total, more), each

    parts = jax.tree.map(cut, rows)

    def first(w: Callable[[Any], Any]) -> Any:
        return jax.eval_shape(lambda parts: parted(jax.tree.map(lambda leaf: leaf[0], parts), w)[0], parts)

    wide, narrow = map(first, (widen, _same))
    total, each = lax.scan(step, jax.tree.map(zeros_like, wide), parts)
    if apart and shards > 1:
        total = jax.tree.map(lambda leaf: leaf.sum(0), total)
        narrow = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf.sum(0), tree), narrow)

    def of_all(leaf: Any, like: Any) -> Any:
        alone = reduce is None or varying_axes(leaf) <= varying_axes(like)
        return as_cotangent(leaf if alone else leaf.astype(reduce), like).astype(like.dtype)

    return jax.tree.map(of_all, total, narrow), jax.tree.map(whole, each)


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
