"""A dependency between computations, which fixes their order for the compiler."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.sharding import PartitionSpec

from fnn.sharding import names_of, on_mesh, placed, sharding_of, varying_like

SMALL = 2**20  # bytes, about what the second cache of a core holds


def is_small(x: Any) -> bool:
    """Return whether the arrays of `x` have no more than 1 MiB in all; under `jax.vmap` those of one example.

    What cheap layers make of so little may stay alive: XLA then merges what is recomputed with what the
    forward computed, which takes less time.

    Args:
        x: a pytree of arrays.
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(x)) <= SMALL


def with_dependency(x: Any, on: Any) -> Any:
    """Return the arrays of `x`, with an artificial dependency on those of `on`.

    Without it XLA merges what is recomputed from `x` with what the forward computed, and so keeps the values
    of the forward alive: the memory would not be saved. On a TPU the dependency is an optimization barrier.
    On a CPU XLA drops barriers, and on a GPU they prevent fusions; there the arrays pass a selection that
    always takes them and that depends on one number of `on`.

    Args:
        x: a pytree of arrays.
        on: a pytree of arrays, which must be computed before the result is used.

    Returns:
        a pytree with the values of `x`.
    """
    arrays = [leaf for leaf in jax.tree.leaves(on) if leaf.size and leaf.dtype != jax.dtypes.float0]
    held = jax.tree.leaves(x)
    if not arrays or not held:
        return x
    if not any(isinstance(leaf, Tracer) for leaf in (arrays[0], *held)):
        return x  # eager: each operation is a program of its own, and none are merged

    x = varying_like(x, arrays[0])  # as the arrays that come out are

    def selected(x: Any, array: Any) -> Any:
        return jax.tree.map(lambda leaf: _held(leaf, lax.stop_gradient(array)), x)

    def barrier(x: Any, array: Any) -> Any:
        return lax.optimization_barrier((x, array))[0]

    return lax.platform_dependent(x, arrays[0], tpu=barrier, default=selected)


def _held(leaf: Any, array: Any) -> Any:
    """Return the leaf, selected by the first number of each of the rows that `array` has like it."""
    pairs = zip(leaf.shape, array.shape, strict=False)
    rows = next((i for i, (a, b) in enumerate(pairs) if a != b), min(leaf.ndim, array.ndim))
    rows = max(0, min(rows, max(leaf.ndim, array.ndim) - 1))
    never = _never_of_rows(array, rows)
    never = never.reshape(never.shape + (1,) * (leaf.ndim - rows))
    return jnp.where(placed(never, _rows_of(leaf, rows)), jnp.zeros_like(leaf), leaf)


def _never_of_rows(array: Any, rows: int) -> Any:
    """Return False for each of the first `rows` axes; of what is sharded each device reads a number of its
    own, so that none is sent.
    """

    def of_first(array: Any) -> Any:
        return _never(array[(..., *(0,) * (array.ndim - rows))])

    lie = sharding_of(array)
    if lie is None:
        return of_first(array)
    if not any(lie.spec[rows:]):
        return on_mesh(of_first, lie.update(spec=PartitionSpec(*lie.spec[:rows])), array)
    names = {name for own in lie.spec for name in names_of(own)}
    ends = lie.spec, PartitionSpec(*lie.spec[:rows])
    run = jax.shard_map(
        of_first, mesh=lie.mesh, in_specs=ends[0], out_specs=ends[1], axis_names=names, check_vma=False
    )
    return jax.jit(run)(array)


def _rows_of(leaf: Any, rows: int) -> Any:
    """Return the sharding of numbers that each stand for a row of the leaf."""
    own = sharding_of(leaf)
    return own and own.update(spec=PartitionSpec(*own.spec[:rows], *(None,) * (leaf.ndim - rows)))


@jax.custom_batching.custom_vmap
def _never(numbers: Any) -> Any:
    """Return False, in a way that no compiler sees through; under vmap one for all."""
    return jnp.where(numbers == 0, 1, 2) > 2


@_never.def_vmap
def _never_of_many(size: int, batched: list[bool], numbers: Any) -> tuple[Any, bool]:
    return _never(numbers[0]), False
