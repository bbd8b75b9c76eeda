"""Operations of a trace on meshes with explicit axes, of which the trace knows nothing.

A trace is made of shapes alone. Its operations find their shardings when they run, by JAX's own rules; what
has a program inside (`jax.jit`, `jax.custom_jvp`, a loop) is written for arrays that lie nowhere. The
compiler chooses there, and the results lie as the operands do.
"""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fnn.function import internals
from fnn.sharding import fitting, names_of, on_mesh, sharding_of


def bound(eqn: Any, values: list[Any]) -> list[Any]:
    """Run one operation of a trace.

    Args:
        eqn: the operation, an equation of the trace.
        values: the values of its operands.

    Returns:
        a list of its results.
    """
    cut = [value for value in values if _is_cut(value)]
    if not cut or not internals.inner(eqn):
        return internals.bind(eqn, values)
    lie = [_alongside(tuple(var.aval.shape), cut) for var in eqn.outvars]
    return on_mesh(lambda *values: internals.bind(eqn, list(values)), lie, *map(jnp.asarray, values))


def shards_along(arrays: Any) -> int:
    """Return into how many parts axis 0 of a tree of arrays is cut on explicit axes, 1 where it is not."""
    lie = filter(None, (sharding_of(leaf) for leaf in jax.tree.leaves(arrays) if jnp.ndim(leaf)))
    return max((prod(own.mesh.shape[name] for name in names_of(own.spec[0])) for own in lie), default=1)


def among(array: Any, axis: int, more: int) -> Any:
    """Return an array with its first entry on an axis so often more behind it, or with fewer entries.

    Args:
        array: the array.
        axis: the number of the axis.
        more: how many; below 0 how many fewer.
    """

    def run(array: Any) -> Any:
        first = jax.lax.slice_in_dim(array, 0, 1 if more > 0 else array.shape[axis] + more, axis=axis)
        return jnp.concatenate([array, *[first] * more], axis) if more > 0 else first

    shape = (*array.shape[:axis], array.shape[axis] + more, *array.shape[axis + 1 :])
    lie = sharding_of(array)
    return on_mesh(run, lie and fitting(lie, shape), array)


def _is_cut(value: Any) -> bool:
    lie = sharding_of(value)
    return lie is not None and any(lie.spec)


def _alongside(shape: tuple[int, ...], operands: list[Any]) -> NamedSharding:
    """Return a sharding for a result: on each axis that of an operand whose axis there has its length."""
    used: set[str] = set()
    partitions: list[Any] = [None] * len(shape)
    for operand in operands:
        lie = sharding_of(operand)
        assert lie is not None
        for axis, size in enumerate(shape):
            alike = axis < operand.ndim and operand.shape[axis] == size
            names = names_of(lie.spec[axis]) if alike and (axis == 0 or operand.ndim == len(shape)) else ()
            if names and not partitions[axis] and not used & set(names):
                partitions[axis] = names
                used |= set(names)
    lie = sharding_of(*operands)
    assert lie is not None
    return lie.update(spec=PartitionSpec(*partitions))
