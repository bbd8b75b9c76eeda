"""How a composition reads the factors of its leaves, inside a loop too: a reader and its trees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
from jax.tree_util import register_dataclass
from jaxtyping import Array

from fnn.contract import check_factors
from fnn.factors import Factor, is_factor
from fnn.reader import Joins, Reader, as_factors


@runtime_checkable
class Reading(Protocol):
    """What a composition passes to its layers: called with the factors of a leaf, it returns their readings.

    A loop over stacked params calls `enter`, and then scans over one part of the trees and carries another.
    At each use `at_use` returns the reading of that use and its params, and `leave` divides the readings of
    the use into what is carried and what is stacked. At the end `finished` returns the readings of the loop.
    """

    @property
    def joins(self) -> Joins | None:
        """How the reader joins readings of parts of the examples; see `fnn.readers.Reader`."""
        ...

    @property
    def in_loop(self) -> bool:
        """Whether this is the body of a loop, where a compiler cannot see the forward pass."""
        ...

    def placed(self, in_loop: bool) -> "Reading":
        """Return the same reading with another `in_loop`."""
        ...

    def mapped(self, share: Callable[[Any], Any]) -> "Reading":
        """Return the reading of some of the params.

        Args:
            share: a function that takes a tree that begins like the params, and returns the part for those.
        """
        ...

    def holding(self, marks: Any) -> "Reading":
        """Return a reading that returns the factor itself for some params.

        Args:
            marks: a tree like the params: an array marks a param whose factor is returned, None one that is
                read.
        """
        ...

    def released(self, readings: Any) -> Any:
        """Remove the marks from the readings of a `holding` reading."""
        ...

    def split(self, axis: tuple[int, int]) -> "Reading":
        """Return the same reading with the first stacked axis of every leaf reshaped to the two of `axis`."""
        ...

    def merged(self, readings: Any) -> Any:
        """Undo `split` in the readings: reshape the first two axes to one."""
        ...

    def __call__(self, factors: Any, who: object) -> Any:
        """Read a tree of factors.

        Args:
            factors: a tree in the structure of the params, with a factor or a gradient at each.
            who: the leaf that made them, for the error message.
        """
        ...

    def enter(self) -> tuple[Any, Any]:
        """Return what a loop carries, and what it scans over."""
        ...

    def stack(self, params: Any, carried: Any) -> Any:
        """Return the stacked params of a loop.

        Args:
            params: the params that the loop was given.
            carried: what the loop carries, which may hold newer params.
        """
        ...

    def at_use(self, i: Any, carried: Any, scanned: Any) -> tuple["Reading", Any]:
        """Return the reading of one use of the loop, and the params of that use.

        Args:
            i: the number of the use, () integer.
            carried: what the loop carries.
            scanned: what the scan returns for this use.
        """
        ...

    def leave(self, readings: Any) -> tuple[Any, Any]:
        """Divide the readings of a use into what the loop carries and what it stacks."""
        ...

    def finished(self, carried: Any, stacked: Any) -> Any:
        """Return the readings of the loop.

        Args:
            carried: what the loop carried.
            stacked: what it stacked.
        """
        ...


@partial(register_dataclass, data_fields=["trees"], meta_fields=["reader", "in_loop"])
@dataclass(frozen=True)
class Stacked:
    """The usual reading: a loop scans over the trees and stacks the readings.

    Args:
        reader: the reader.
        trees: the params, then the further trees, each of which begins like the params.
        in_loop: whether this is the body of a loop.
    """

    reader: Reader
    trees: tuple[Any, ...]
    in_loop: bool = False

    @property
    def joins(self) -> Joins | None:
        """How the reader joins readings of parts of the examples."""
        return self.reader.joins

    def placed(self, in_loop: bool) -> "Stacked":
        """Return the same reading with another `in_loop`."""
        return replace(self, in_loop=in_loop)

    def mapped(self, share: Callable[[Any], Any]) -> "Stacked":
        """Return the reading of some of the params, with `share` applied to every tree."""
        return replace(self, trees=tuple(map(share, self.trees)))

    def holding(self, marks: Any) -> "Stacked":
        """Return a reading that returns the factor itself for the params that `marks` has an array for."""

        def read(factor: Factor | Array, param: Any, *leaves: Any) -> Any:
            *own, mark = leaves
            return self.reader(factor, param, *own) if mark is None else factor

        return replace(self, reader=Reader(read, plain=False), trees=(*self.trees, marks))

    def released(self, readings: Any) -> Any:
        """Return the readings as they are: they hold no marks."""
        return readings

    def split(self, axis: tuple[int, int]) -> "Stacked":
        """Return the same reading with the first axis of every leaf reshaped to the two of `axis`."""
        return self.mapped(lambda tree: jax.tree.map(lambda leaf: leaf.reshape(*axis, *leaf.shape[1:]), tree))

    def merged(self, readings: Any) -> Any:
        """Reshape the first two axes of every reading to one."""
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), readings)

    def __call__(self, factors: Any, who: object) -> Any:
        """Read a tree of factors.

        Raises:
            InputError: where structure or shapes are not those of the params, or JAX does not know a factor's
                type.
        """
        check_factors(factors, self.trees[0], who)
        return jax.tree.map(self.reader, factors, *self.trees, is_leaf=is_factor)

    def enter(self) -> tuple[None, tuple[Any, ...]]:
        """Return None to carry, and the trees to scan over."""
        return None, self.trees

    def stack(self, params: Any, carried: None) -> Any:
        """Return the params as they were given."""
        return params

    def at_use(self, i: Any, carried: None, scanned: tuple[Any, ...]) -> tuple["Stacked", Any]:
        """Return the reading with the trees of this use, and its params."""
        return replace(self, trees=scanned, in_loop=True), scanned[0]

    def leave(self, readings: Any) -> tuple[None, Any]:
        """Return None to carry, and the readings to stack."""
        return None, readings

    def finished(self, carried: None, stacked: Any) -> Any:
        """Return the stacked readings."""
        return stacked


@register_dataclass
@dataclass(frozen=True)
class AllUses:
    """The reading of a loop that shares its params: it stacks the factors of the uses, to be joined later.

    Args:
        params: the params that all uses share.
    """

    params: Any

    def enter(self) -> tuple[None, None]:
        """Return None to carry, and None to scan over."""
        return None, None

    def stack(self, params: Any, carried: None) -> Any:
        """Return the params, which are not stacked."""
        return params

    def at_use(self, i: Any, carried: None, scanned: None) -> tuple[Stacked, Any]:
        """Return a reading that returns the factors of the use, and the params."""
        return Stacked(as_factors, (self.params,), in_loop=True), self.params

    def finished(self, carried: None, stacked: Any) -> Any:
        """Return the stacked factors."""
        return stacked
