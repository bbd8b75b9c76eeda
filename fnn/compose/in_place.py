"""Stacks that a loop writes into where they lie, so that no second copy of them exists.

A compiler writes into a loop's carry in place only if it can tell that nothing reads the old value later. Two
things make that plain. The params of a layer are taken off their stack once, before they are used. And the
leaves are read and written in turn, each at a place that is not known before the last one is written:
first the param, which depends on all the others, then the state from its end, as the later parts of an
optimizer read what the earlier ones give. The result is right whatever a reader does; one that reads
in another order costs a copy.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.compose.recomputed import after
from fnn.core import Reading

Place = tuple[Any, ...]  # an index for each stacked axis


def at_use(read: Reading, params: Any, rows: Any, i: Any) -> Reading:
    """Give the reading of use `i` of a layer, by the params that stand there, taken off the rows' stacks."""
    place = (*(read.place or ()), i)
    own = jax.tree.map(lambda _, row: taken(row[0], place), params, rows)
    return replace(read, trees=(own, rows), place=place)


def taken(stack: Any, place: Place) -> Any:
    """Give what stands at `place` of a stack as an array of its own, read once and before it is used.

    XLA on a CPU drops barriers, and would read the stack again for each use; not so what a branch gives.
    """

    def branch(stack: Any, *place: Any) -> Any:
        nothing = jnp.zeros(stack.shape[len(place) :], stack.dtype)
        return lax.cond(place[-1] >= 0, lambda: _read(stack, place), lambda: nothing)

    def barrier(stack: Any, *place: Any) -> Any:
        return lax.optimization_barrier(_read(stack, place))

    return lax.platform_dependent(stack, *place, cpu=branch, default=barrier)


def replaced(
    read: Callable[..., Any], factor: Any, param: Any, row: Any, place: Place = (), axes: int = 0
) -> Any:
    """Give the row `(param, *trees)`, or row of stacks, with `read(factor, param, *leaves)` at `place`.

    `param` stands at `place`; `factor` and it have so many stacked `axes` of their own. Cost: what `read`
    costs, as the compiler leaves out what it does not write in a turn, and the memory of one leaf of one
    layer.
    """
    if axes:

        def at_each(i: Any, row: Any) -> Any:
            own, there = jax.tree.map(lambda leaf: _read(leaf, (i,)), factor), (*place, i)
            return replaced(read, own, taken(row[0], there), row, there, axes - 1)

        return lax.fori_loop(0, param.shape[0], at_each, row)
    if not place:
        return read(factor, *row)
    leaves, structure = jax.tree.flatten(row)
    for turn in (0, *reversed(range(1, len(leaves)))):
        old = [param, *(_read(leaf, place) for leaf in jax.tree.leaves(row)[1:])]
        new = jax.tree.leaves(read(factor, *structure.unflatten(old)))
        leaves[turn] = _written(leaves[turn], new[turn], place)
        place = (*place[:-1], after(place[-1], _read(leaves[turn], place)))
    return structure.unflatten(leaves)


def _read(stack: Any, place: Place) -> Any:
    for i in place:
        stack = lax.dynamic_index_in_dim(stack, i, keepdims=False)
    return stack


def _written(stack: Any, new: Any, place: Place) -> Any:
    starts = [jnp.asarray(i, jnp.int32) for i in (*place, *(0,) * new.ndim)]
    return lax.dynamic_update_slice(stack, new.reshape((1,) * len(place) + new.shape), starts)
