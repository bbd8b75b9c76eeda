"""Stacks of params and state that a loop updates in place, so that no second copy of them exists.

A compiler writes into a loop's carry in place only if it can tell that nothing reads the old value later. Two
measures make that certain. The params of a layer are read from their stack once, before they are used. And
the leaves are read and written in a fixed order, each at an index that depends on the leaf written before:
first the param, which depends on all the others, then the state from its end, as the later parts of an
optimizer read what the earlier ones return. The result is right for every update; an update that reads in
another order costs a copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from fnn.compose.ordering import with_dependency
from fnn.contract import check_factors
from fnn.factors import Factor, is_factor
from fnn.reader import Joins, as_factors, gradient
from fnn.sharding import zeros_like

Place = tuple[Any, ...]  # an index for each stacked axis


@dataclass(frozen=True)
class InPlace:
    """A reading that replaces what it reads by: each param, and the leaves of further trees at its place.

    Args:
        update: `update(reading, param, *leaves)` returns the new tuple `(param, *leaves)`.
        params: the params that stand at `place` of the stacks.
        rows: a tree like the params, with a tuple `(param, *leaves)`, or such a tuple of stacks, at each. A
            loop carries the rows, so that they are updated in place.
        place: an index for each stacked axis.
        in_loop: whether this is the body of a loop.
        read: `read(factor, param, *leaves)` returns what the update is made of. It is made once for a row, so
            that devices exchange it once: the update is made again for each leaf that is written.
    """

    update: Callable[..., tuple[Any, ...]]
    params: Any
    rows: Any
    place: Place = ()
    in_loop: bool = False
    read: Callable[..., Any] = gradient

    @property
    def joins(self) -> Joins:
        """How readings of parts of the examples are joined: the update uses the gradient alone."""
        return "gradient"

    def placed(self, in_loop: bool) -> "InPlace":
        """Return the same reading with another `in_loop`."""
        return replace(self, in_loop=in_loop)

    def mapped(self, share: Callable[[Any], Any]) -> "InPlace":
        """Return the reading of some of the params."""
        return replace(self, params=share(self.params), rows=share(self.rows))

    def holding(self, marks: Any) -> "InPlace":
        """Return a reading that returns the factor itself for marked params; its rows end with the marks."""

        def read(factor: Factor | Array, *row: Any) -> Any:
            return self.read(factor, *row[:-1]) if row[-1] is None else factor

        def update(reading: Any, *row: Any) -> tuple[Any, ...]:
            return (*self.update(reading, *row[:-1]), None) if row[-1] is None else (reading,)

        rows = jax.tree.map(lambda _, row, mark: (*row, mark), self.params, self.rows, marks)
        return replace(self, update=update, rows=rows, read=read)

    def released(self, readings: Any) -> Any:
        """Return the rows without the marks."""
        return jax.tree.map(lambda _, row: row[0] if len(row) == 1 else row[:-1], self.params, readings)

    def split(self, axis: tuple[int, int]) -> "InPlace":
        """Return the same reading with the first axis after `place` reshaped to two."""
        at = len(self.place)

        def cut(leaf: Any, at: int) -> Any:
            return leaf.reshape(*leaf.shape[:at], *axis, *leaf.shape[at + 1 :])

        params = jax.tree.map(lambda leaf: cut(leaf, 0), self.params)
        return replace(self, params=params, rows=jax.tree.map(lambda leaf: cut(leaf, at), self.rows))

    def merged(self, rows: Any) -> Any:
        """Reshape the two axes after `place` to one."""
        at = len(self.place)
        return jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:at], -1, *leaf.shape[at + 2 :]), rows)

    def __call__(self, factors: Any, who: object) -> Any:
        """Return the rows with those of a leaf replaced at `place`."""
        check_factors(factors, self.params, who)

        def one(factor: Factor | Array, param: Any, row: Any) -> Any:
            axes = param.ndim - factor.rank if isinstance(factor, Factor) else 0
            return replaced(self.update, factor, param, row, self.place, axes, self.read)

        return jax.tree.map(one, factors, self.params, self.rows, is_leaf=is_factor)

    def enter(self) -> tuple[Any, None]:
        """Return the rows, to carry, and None, to scan over."""
        return self.rows, None

    def stack(self, params: Any, carried: Any) -> Any:
        """Return the params' stacks among the rows, which are updated for the uses that have run."""

        def one(_: Any, row: Any) -> Any:
            return _read(row[0], self.place)

        return jax.tree.map(one, self.params, carried)

    def at_use(self, i: Any, carried: Any, scanned: None) -> tuple["InPlace", Any]:
        """Return the reading of use `i`, and its params, read from the rows' stacks."""
        place = (*self.place, i)
        own = jax.tree.map(lambda _, row: taken(row[0], place), self.params, carried)
        return replace(self, params=own, rows=carried, place=place, in_loop=True), own

    def leave(self, readings: Any) -> tuple[Any, None]:
        """Return the rows, to carry, and None, to stack."""
        return readings, None

    def finished(self, carried: Any, stacked: None) -> Any:
        """Return the rows."""
        return carried


def taken(stack: Any, place: Place) -> Any:
    """Return what stands at `place` of a stack as an array of its own, read once and before it is used.

    On a CPU XLA removes barriers, and would read the stack again for each use; the result of a branch it
    reads once.

    Args:
        stack: an array whose first axes are stacked.
        place: an index for each stacked axis, () integers.
    """

    def branch(stack: Any, *place: Any) -> Any:
        own = jax.eval_shape(_read, stack, place)
        return lax.cond(place[-1] >= 0, lambda: _read(stack, place), lambda: zeros_like(own))

    def barrier(stack: Any, *place: Any) -> Any:
        return lax.optimization_barrier(_read(stack, place))

    return lax.platform_dependent(stack, *place, cpu=branch, default=barrier)


def replaced(
    update: Callable[..., Any],
    factor: Factor | Array,
    param: Any,
    row: Any,
    place: Place = (),
    axes: int = 0,
    read: Callable[..., Any] = as_factors,
) -> Any:
    """Return a row `(param, *leaves)`, or row of stacks, with `update(reading, param, *leaves)` at `place`.

    Args:
        update: the function that returns the new `(param, *leaves)`.
        factor: the factor or the gradient of `param`.
        param: what stands at `place` of the row's first stack.
        row: the tuple `(param, *leaves)`, or such a tuple of stacks.
        place: an index for each stacked axis of the row.
        axes: the number of further stacked axes, which `factor` and `param` have themselves.
        read: `read(factor, param, *leaves)` returns the reading, once; by default the factor itself.

    Cost: that of `update`, as the compiler removes what is not written in a turn, and the memory of one leaf
    of one layer.
    """
    if axes:

        def at_each(i: Any, row: Any) -> Any:
            own, there = jax.tree.map(lambda leaf: _read(leaf, (i,)), factor), (*place, i)
            return replaced(update, own, taken(row[0], there), row, there, axes - 1, read)

        return lax.fori_loop(0, param.shape[0], at_each, row)
    reading = read(factor, param, *row[1:])
    if not place:
        return update(reading, *row)
    leaves, structure = jax.tree.flatten(row)
    for turn in (0, *reversed(range(1, len(leaves)))):
        old = [param, *(_read(leaf, place) for leaf in jax.tree.leaves(row)[1:])]
        new = jax.tree.leaves(update(reading, *structure.unflatten(old)))
        leaves[turn] = _written(leaves[turn], new[turn], place)
        place = (*place[:-1], with_dependency(place[-1], _read(leaves[turn], place)))
    return structure.unflatten(leaves)


def _read(stack: Any, place: Place) -> Any:
    for i in place:
        stack = lax.dynamic_index_in_dim(stack, i, keepdims=False)
    return stack


def _written(stack: Any, new: Any, place: Place) -> Any:
    starts = [jnp.asarray(i, jnp.int32) for i in (*place, *(0,) * new.ndim)]
    return lax.dynamic_update_slice(stack, new.reshape((1,) * len(place) + new.shape), starts)
