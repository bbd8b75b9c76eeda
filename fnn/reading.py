"""How a composition reads the factors of its leaves, in a loop too: a reader, and the trees that it reads
by.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import jax

from fnn.errors import InputError, describe
from fnn.factors import Factor, is_factor
from fnn.reader import Joins, Reader, as_factors


@runtime_checkable
class Reading(Protocol):
    """What a composition hands on to its layers: called with a leaf's factors, it returns what is read of
    them.

    A loop over stacked params `enter`s it: part of the trees is scanned over, part is carried. At each use
    `at_use` gives the reading of that use and its params; `leave` says of what came out of the use what is
    carried on and what is stacked, and `finished` what the loop has read.
    """

    @property
    def joins(self) -> Joins | None:
        """What the reader says of parts of the examples; see `fnn.readers.Reader`."""
        ...

    @property
    def in_loop(self) -> bool:
        """Whether this is the body of a loop, in which a compiler sees nothing of the forward."""
        ...

    def placed(self, in_loop: bool) -> "Reading":
        """Return the same reading, inside of a loop or not."""
        ...

    def mapped(self, share: Callable[[Any], Any]) -> "Reading":
        """Return the reading of some of the params: `share` takes that part of a tree that begins like
        them.
        """
        ...

    def holding(self, marks: Any) -> "Reading":
        """Return the same reading, but of the params that `marks` has an array for, the factor as it is."""
        ...

    def released(self, readings: Any) -> Any:
        """Return the readings of a reading that is `holding` some, without the marks."""
        ...

    def split(self, axis: tuple[int, int]) -> "Reading":
        """Return the same reading with the first stacked axis of every leaf split into two."""
        ...

    def merged(self, readings: Any) -> Any:
        """Undo in the readings what `split` did to the trees."""
        ...

    def __call__(self, factors: Any, who: object) -> Any:
        """Read a tree of factors that a leaf, `who`, made."""
        ...

    def enter(self) -> tuple[Any, Any]:
        """Return what a loop carries, and what it scans over."""
        ...

    def stack(self, params: Any, carried: Any) -> Any:
        """Return the stacked params of the loop, given as `params`, from where they lie now."""
        ...

    def at_use(self, i: Any, carried: Any, scanned: Any) -> tuple["Reading", Any]:
        """Return the reading of use `i` of the loop, and its params."""
        ...

    def leave(self, readings: Any) -> tuple[Any, Any]:
        """Return what is carried on from a use, and what is stacked."""
        ...

    def finished(self, carried: Any, stacked: Any) -> Any:
        """Return what the loop has read."""
        ...


@dataclass(frozen=True)
class Stacked:
    """The usual reading: a loop scans over the trees, the params first, and stacks what is read."""

    reader: Reader
    trees: tuple[Any, ...]
    in_loop: bool = False

    @property
    def joins(self) -> Joins | None:
        """What the reader says."""
        return self.reader.joins

    def placed(self, in_loop: bool) -> "Stacked":
        """Return the same reading, inside of a loop or not."""
        return replace(self, in_loop=in_loop)

    def mapped(self, share: Callable[[Any], Any]) -> "Stacked":
        """Return the reading of some of the params."""
        return replace(self, trees=tuple(map(share, self.trees)))

    def holding(self, marks: Any) -> "Stacked":
        """Return the same reading, but of marked params the factor as it is."""

        def read(factor: Any, param: Any, *leaves: Any) -> Any:
            *own, mark = leaves
            return self.reader(factor, param, *own) if mark is None else factor

        return replace(self, reader=Reader(read, plain=False), trees=(*self.trees, marks))

    def released(self, readings: Any) -> Any:
        """Return them as they are: only the trees that were read by had marks."""
        return readings

    def split(self, axis: tuple[int, int]) -> "Stacked":
        """Return the same reading with the first axis of every leaf split into two."""
        return self.mapped(lambda tree: jax.tree.map(lambda leaf: leaf.reshape(*axis, *leaf.shape[1:]), tree))

    def merged(self, readings: Any) -> Any:
        """Make the first two axes one."""
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), readings)

    def __call__(self, factors: Any, who: object) -> Any:
        """Read a tree of factors. Raises InputError where it has another structure than the params."""
        params = self.trees[0]
        if jax.tree.structure(factors, is_leaf=is_factor) != jax.tree.structure(params):
            wanted = f"factors in the structure of its params, {describe(params)}"
            got = str(jax.tree.map(lambda f: type(f).__name__, factors, is_leaf=is_factor))
            raise InputError(who, wanted, got, '{"kernel": fnn.factors.Outer(x, dz)}')
        check_registered(factors, who)
        return jax.tree.map(self.reader, factors, *self.trees, is_leaf=is_factor)

    def enter(self) -> tuple[None, tuple[Any, ...]]:
        """Scan over the trees."""
        return None, self.trees

    def stack(self, params: Any, carried: None) -> Any:
        """Return them as they were given."""
        return params

    def at_use(self, i: Any, carried: None, scanned: tuple[Any, ...]) -> tuple["Stacked", Any]:
        """Read by what the scan gives."""
        return replace(self, trees=scanned, in_loop=True), scanned[0]

    def leave(self, readings: Any) -> tuple[None, Any]:
        """Stack the readings."""
        return None, readings

    def finished(self, carried: None, stacked: Any) -> Any:
        """Return the stacked readings."""
        return stacked


@dataclass(frozen=True)
class AllUses:
    """The reading of a loop that shares its params: it stacks the factors of the uses, to be joined."""

    params: Any

    def enter(self) -> tuple[None, None]:
        """Carry and scan over nothing."""
        return None, None

    def stack(self, params: Any, carried: None) -> Any:
        """Return the params, which are not stacked."""
        return params

    def at_use(self, i: Any, carried: None, scanned: None) -> tuple[Stacked, Any]:
        """Return the factors of the use."""
        return Stacked(as_factors, (self.params,), in_loop=True), self.params

    def finished(self, carried: None, stacked: Any) -> Any:
        """Return the stacked factors."""
        return stacked


def check_registered(factors: Any, who: object) -> None:
    """Raise InputError for a factor type that JAX does not know."""
    for factor in jax.tree.leaves(factors, is_leaf=is_factor):
        if isinstance(factor, Factor) and any(leaf is factor for leaf in jax.tree.leaves(factor)):
            name = type(factor).__name__
            fix = f"jax.tree_util.register_dataclass({name})"
            raise InputError(who, "factors that are pytrees", f"a {name}, which JAX does not know", fix)
