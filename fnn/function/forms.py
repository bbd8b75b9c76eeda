"""Factors that functions need beside fnn's own: views of a param, parts of it, sums of several uses."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from fnn.arrays import accumulator
from fnn.factors import Examples, Factor, join
from fnn.function.layout import Arrangement, Layout, scattered
from fnn.function.sides import composed, sides_of
from fnn.reader import Reader, gradient, with_tokens
from fnn.readers.examples import materialised, weighted_gradient

SIDES = {"rows", "columns"}  # of `Reader.like`
KEEPING = ("order", "factor")


class Lazy(Factor):
    """A factor that is more than its form: sums over the examples take a cheaper way than by each of them."""

    def total(self, weights: Any, shape: tuple[int, ...]) -> Any:
        """Return the sum of the examples' gradients, each times its weight.

        Args:
            weights: a weight for each example, (n,), or None for weights of 1.
            shape: the shape of the param.
        """
        raise NotImplementedError

    def examples(self) -> Any:
        """Return the gradients of the examples: (n, *shape of the param)."""
        raise NotImplementedError

    def as_matrix(self) -> "Viewed | None":
        """Return the same as the factor of a matrix, where it is one of another layout."""
        return None

    def form(self) -> Examples:
        """Return the gradients of the examples."""
        return Examples(self.examples(), self.rank)

    def read(self, reader: Reader, param: Any, *leaves: Any) -> Any:
        """Sum up the cheaper way, and keep this form for sums to come."""
        if reader.like == KEEPING:
            return reader.rule(with_tokens(self.form()), param)[0], self
        if reader not in (gradient, weighted_gradient):
            return NotImplemented
        return self.total(leaves[0] if leaves else None, tuple(param.shape)).astype(param.dtype)


@partial(register_dataclass, data_fields=["factor"], meta_fields=["layout", "shape", "rank"])
@dataclass(frozen=True)
class Viewed(Lazy):
    """The factor of a param that is used as a matrix of another layout.

    A reader that says what its reading is like reads the matrix; what is like the param is brought back.

    Args:
        factor: the factor of the matrix.
        layout: the param as the matrix.
        shape, rank: the shape of the param, and the number of its axes.
    """

    factor: Factor
    layout: Arrangement
    shape: tuple[int, ...]
    rank: int

    def total(self, weights: Any, shape: tuple[int, ...]) -> Any:
        """Sum in the matrix's layout. Args: `weights`, `shape`, as for `Lazy`."""
        return self.layout.back(total_of(self.factor, self.layout.shape, weights), self.shape)

    def examples(self) -> Any:
        """Bring the matrix's back."""
        return self.layout.back(examples_of(self.factor, self.layout.shape), self.shape)

    def joined(self) -> Factor:
        """Join the matrix's uses."""
        matrix = jax.ShapeDtypeStruct(self.layout.shape, jnp.float32)
        return Viewed(join(self.factor, matrix), self.layout, self.shape, self.rank)

    def read(self, reader: Reader, param: Any, *leaves: Any) -> Any:
        """Read the matrix by the matrices of the leaves that are like the param."""
        own = NotImplemented if reader.like == KEEPING else super().read(reader, param, *leaves)
        if own is not NotImplemented or reader.like is None:
            return own

        def into(leaf: Any) -> Any:
            if isinstance(leaf, Viewed):
                return leaf.factor if leaf.layout == self.layout else None
            if isinstance(leaf, Factor):
                return None
            same = jnp.shape(leaf) == self.shape and not reader.sliced
            return self.layout.into(leaf) if same else leaf

        if SIDES & set(jax.tree.leaves(reader.like)):
            return self._read_sides(reader, param) if not leaves else NotImplemented
        inside = [into(leaf) for leaf in leaves]
        if any(own is None for own in inside):
            return NotImplemented
        matrix = jax.ShapeDtypeStruct(self.layout.shape, param.dtype)
        like = matrix if isinstance(param, jax.ShapeDtypeStruct) else self.layout.into(param)
        reading = reader(self.factor, like, *inside)
        return jax.tree.map(self._out, reader.like, reading)

    def _read_sides(self, reader: Reader, param: Any) -> Any:
        """Read the matrix, and bring what is said of its rows and of its columns into the param's order."""
        inner = self.factor.as_matrix() if isinstance(self.factor, Lazy) else None
        if inner is not None:
            layout = composed(self.layout, inner.layout, self.shape)
            own = layout and Viewed(inner.factor, layout, self.shape, self.rank)
            return own._read_sides(reader, param) if own else NotImplemented
        sides = sides_of(self.layout, len(self.layout.shape) - self.factor.rank)
        if sides is None:
            return NotImplemented
        reading = reader(self.factor, jax.ShapeDtypeStruct(self.layout.shape, param.dtype))
        tags, structure = jax.tree.flatten(reader.like)
        parts = structure.flatten_up_to(reading)
        out = [
            sides.brought(tag, part) if tag in SIDES else self._out(tag, part)
            for tag, part in zip(tags, parts, strict=True)
        ]
        if sides.turned:
            rows, columns = tags.index("rows"), tags.index("columns")
            out[rows], out[columns] = out[columns], sides.square(out[rows])
        return structure.unflatten(out)

    def _out(self, like: str, part: Any) -> Any:
        """Bring a part of a reading of the matrix into the param's layout."""
        if like == "factor":
            return Viewed(part, self.layout, self.shape, self.rank)
        stacks = len(self.layout.shape) - self.factor.rank
        if like == "order":
            return jnp.sum(part, tuple(range(stacks)))
        before = part.ndim - len(self.layout.shape)
        part = jnp.moveaxis(part, range(stacks, stacks + before), range(before))
        return self.layout.back(part, self.shape)


@partial(register_dataclass, data_fields=["factors"], meta_fields=["shape", "rank"])
@dataclass(frozen=True)
class Several(Lazy):
    """The factors of several uses of one param, which no one form holds: their gradients add up.

    Args:
        factors: the factors of the uses.
        shape, rank: the shape of the param, and the number of its axes.
    """

    factors: tuple[Any, ...]
    shape: tuple[int, ...]
    rank: int

    def total(self, weights: Any, shape: tuple[int, ...]) -> Any:
        """Add the uses' sums up. Args: `weights`, `shape`, as for `Lazy`."""
        return sum(total_of(own, self.shape, weights) for own in self.factors)

    def examples(self) -> Any:
        """Add the uses' gradients up."""
        return sum(examples_of(own, self.shape) for own in self.factors)


@partial(register_dataclass, data_fields=["factor"], meta_fields=["layout", "matrix", "shape", "rank"])
@dataclass(frozen=True)
class Part(Lazy):
    """The factor of some elements of a param.

    Args:
        factor: the factor of a matrix that is made of the elements.
        layout: where the elements lie in the param, in the order of the matrix.
        matrix: the shape of the matrix.
        shape, rank: the shape of the param, and the number of its axes.
    """

    factor: Factor
    layout: Layout
    matrix: tuple[int, ...]
    shape: tuple[int, ...]
    rank: int

    def total(self, weights: Any, shape: tuple[int, ...]) -> Any:
        """Put the elements' sums into zeros. Args: `weights`, `shape`, as for `Lazy`."""
        g = total_of(self.factor, self.matrix, weights)[None]
        return scattered(self.layout, g, math.prod(self.shape)).reshape(self.shape)

    def examples(self) -> Any:
        """Put the elements' gradients into zeros."""
        g = examples_of(self.factor, self.matrix)
        return scattered(self.layout, g, math.prod(self.shape)).reshape(g.shape[0], *self.shape)


def total_of(factor: Factor, shape: tuple[int, ...], weights: Any = None) -> Any:
    """Return the sum of the examples' gradients, in float32 or wider.

    Args:
        factor: the factor of a param.
        shape: the shape of the param.
        weights: a weight for each example, (n,), or None for weights of 1.
    """
    wide = jax.ShapeDtypeStruct(shape, widest(factor))
    if weights is None:
        return gradient(factor, wide)
    stack = shape[: len(shape) - factor.rank]
    if isinstance(factor, Viewed):
        return factor.total(weights, shape)
    return weighted_gradient(factor, wide, jnp.broadcast_to(weights, (*stack, *weights.shape)))


def examples_of(factor: Factor, shape: tuple[int, ...]) -> Any:
    """Return the gradients of the examples, (n, *shape), in float32 or wider.

    Args:
        factor: the factor of a param.
        shape: the shape of the param.
    """

    def of(own: Any) -> Callable[[Any], Any]:
        wide = jax.ShapeDtypeStruct(shape[len(shape) - own.rank :], widest(own))
        return lambda one: materialised(with_tokens(one.form()), wide).astype(wide.dtype)

    stacks, f = len(shape) - factor.rank, of(factor)
    for _ in range(stacks):
        f = jax.vmap(f)
    return jnp.moveaxis(f(factor), stacks, 0)


def widest(factor: Factor) -> Any:
    """Return the dtype in which to add up what a factor says."""
    leaves = [leaf.dtype for leaf in jax.tree.leaves(factor) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return accumulator(*leaves)
