"""What the losses of a sum are made of: their entries of outputs, and their values and gradients added up."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator, zero_cotangents
from fnn.errors import InputError, describe
from fnn.losses.objective import Objective
from fnn.losses.paths import with_path

Key = int | str


@dataclass(frozen=True)
class Term:
    """One loss of a sum: its weight, and the keys that lead to its entry of outputs and targets."""

    loss: Objective
    weight: float = 1.0
    path: tuple[Key, ...] = ()


def entry(tree: Any, term: Term) -> Any:
    """Return a term's entry of outputs, targets or weights. Raises InputError where there is none."""
    for key in term.path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            wanted = f"a dict or tuple with the entry {key!r}"
            raise InputError(term.loss, wanted, describe(tree), f"{{{key!r}: y}}") from None
    return tree


def added_values(values: list[Any]) -> Any:
    """Add up values, row by row where there are as many rows, and else example by example."""
    if len({value.shape for value in values}) > 1:
        values = [value.sum(tuple(range(1, value.ndim))) for value in values]
    with jax.numpy_dtype_promotion("standard"):
        return sum(values[1:], values[0])


def gathered(terms: tuple[Term, ...], dys: list[Any], y: Any) -> Any:
    """Add up the gradients of all terms, each in its place."""
    total = zero_cotangents(y)
    for term, dy in zip(terms, dys, strict=True):
        total = with_path(total, term.path, jax.tree.map(_plus, entry(total, term), dy))
    return total


def _plus(a: Any, b: Any) -> Any:
    wide = accumulator(a.dtype)
    return (a.astype(wide) + b.astype(wide)).astype(a.dtype)


@dataclass(frozen=True)
class Root:
    """The columns of all losses' roots: their squares add up to the weighted sum of the Hessians."""

    terms: tuple[Term, ...]

    def __call__(self, y: Any, target: Any) -> Any:
        """Return the columns, zero at the entries of other losses."""
        columns = []
        for term in self.terms:
            known: Any = term.loss.likelihood
            root = known.root(entry(y, term), entry(target, term))
            columns.append(jax.tree.map(lambda r, w=term.weight: w**0.5 * r, root))
        count = [jax.tree.leaves(root)[0].shape[0] for root in columns]
        parts = []
        for term, root, c in zip(self.terms, columns, count, strict=True):
            zeros = jax.tree.map(lambda leaf, c=c: jnp.zeros((c, *leaf.shape), leaf.dtype), y)
            parts.append(with_path(zeros, term.path, root))
        return jax.tree.map(lambda *roots: jnp.concatenate(roots), *parts)


@dataclass(frozen=True)
class Sample:
    """The sum of all losses' draws: those are independent, and their means are zero."""

    terms: tuple[Term, ...]

    def __call__(self, key: Any, y: Any, target: Any) -> Any:
        """Draw the gradient of every loss."""
        draws = []
        for term, own in zip(self.terms, jax.random.split(key, len(self.terms)), strict=True):
            known: Any = term.loss.likelihood
            draw = known.sample(own, entry(y, term), entry(target, term))
            draws.append(jax.tree.map(lambda d, w=term.weight: w**0.5 * d, draw))
        return gathered(self.terms, draws, y)
