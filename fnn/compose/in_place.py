"""Stacks that a loop writes into where they lie, so that no second copy of them exists.

A compiler writes into a loop's carry in place only if it can tell that nothing reads the old value later. Two
things make that plain. The params of a layer are taken off their stack once, before they are used. And the
leaves are read and written in turn, each at a place that is not known before the last one is written:
first the param, which depends on all the others, then the state from its end, as the later parts of an
optimizer read what the earlier ones give. The result is right whatever a reader does; one that reads
in another order costs a copy.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Place = tuple[Any, ...]  # an index for each stacked axis


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
    read: Callable[..., Any], factor: Any, stacks: Any, place: Place = (), axes: int = 0, param: Any = None
) -> Any:
    """Give the stacks `(param, *trees)` with `read(factor, param, *leaves)` at `place`.

    `factor` has so many stacked `axes` of its own, the stacks have those of `place` before them. `param` is
    what stands at `place`, if it has been taken already. Cost: what `read` costs, as the compiler leaves out
    what it does not write in a turn; and one layer's leaf at a time.
    """
    leaves, structure = jax.tree.flatten(stacks)
    if axes:

        def at_each(i: Any, stacks: Any) -> Any:
            own, own_param = jax.tree.map(lambda leaf: _read(leaf, (i,)), (factor, param))
            return replaced(read, own, stacks, (*place, i), axes - 1, own_param)

        return lax.fori_loop(0, leaves[0].shape[len(place)], at_each, stacks)
    if not place:
        return read(factor, *stacks)
    param = taken(leaves[0], place) if param is None else param
    for turn in (0, *reversed(range(1, len(leaves)))):
        old = [param, *(_read(leaf, place) for leaf in jax.tree.leaves(stacks)[1:])]
        new = jax.tree.leaves(read(factor, *structure.unflatten(old)))
        leaves[turn] = _written(leaves[turn], new[turn], place)
        place = (*place[:-1], after(place[-1], leaves[0].shape[len(place) - 1], _read(leaves[turn], place)))
    return structure.unflatten(leaves)


def _read(stack: Any, place: Place) -> Any:
    for i in place:
        stack = lax.dynamic_index_in_dim(stack, i, keepdims=False)
    return stack


def _written(stack: Any, new: Any, place: Place) -> Any:
    starts = [jnp.asarray(i, jnp.int32) for i in (*place, *(0,) * new.ndim)]
    return lax.dynamic_update_slice(stack, new.reshape((1,) * len(place) + new.shape), starts)


def after(value: Any, bound: Any, array: Any) -> Any:
    """Give `value`, which is at most `bound`, known only when `array` is.

    XLA on a CPU drops barriers; there it is the least of itself and of a number from `bound` up that depends
    on the array.
    """

    def dependence(value: Any, array: Any) -> Any:
        some = array[(0,) * array.ndim] == 0
        return lax.min(value, jnp.where(some, bound, bound + 1).astype(value.dtype))

    def barrier(value: Any, array: Any) -> Any:
        return lax.optimization_barrier((value, array))[0]

    return lax.platform_dependent(value, array, cpu=dependence, default=barrier)
