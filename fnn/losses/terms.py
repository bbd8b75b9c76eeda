"""The terms of a sum of losses: their entries of outputs, what is added up, and the likelihood of all."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator, zero_cotangents
from fnn.errors import InputError, describe
from fnn.losses.objective import Objective
from fnn.losses.paths import with_path

Key = int | str


@dataclass(frozen=True)
class Term:
    """One loss of a sum.

    Args:
        loss: the loss.
        weight: the number that it is multiplied by.
        path: the keys that lead to its entry of outputs and targets.
    """

    loss: Objective
    weight: float = 1.0
    path: tuple[Key, ...] = ()


class Coefficients(NamedTuple):
    """The weights of the rows in every loss of a sum.

    Args:
        of_losses: those of each loss, arrays or None.
    """

    of_losses: tuple[Any, ...]


def entry(tree: Any, term: Term) -> Any:
    """Return a term's entry of outputs, targets or weights.

    Args:
        tree: the outputs, targets or weights.
        term: the term.

    Raises:
        InputError: where there is no such entry.
    """
    for key in term.path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            wanted = f"a dict or tuple with the entry {key!r}"
            raise InputError(term.loss, wanted, describe(tree), f"{{{key!r}: y}}") from None
    return tree


def added_values(values: list[Any]) -> Any:
    """Add values, row by row where there are as many rows, and else example by example."""
    if len({value.shape for value in values}) > 1:
        values = [value.sum(tuple(range(1, value.ndim))) for value in values]
    with jax.numpy_dtype_promotion("standard"):
        return sum(values[1:], values[0])


@dataclass(frozen=True)
class Root:
    """The root of a sum's Hessian: the columns of all losses' roots.

    Args:
        terms: the terms of the sum.
    """

    terms: tuple[Term, ...]

    def __call__(self, y: Any, target: Any) -> Any:
        """Return the columns, (c, *y.shape) for each entry."""
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
    """The gradient of a sum at drawn targets: the losses' draws are independent, and their means are zero.

    Args:
        terms: the terms of the sum.
    """

    terms: tuple[Term, ...]

    def __call__(self, key: Any, y: Any, target: Any) -> Any:
        """Return the gradient, a tree like `y`."""
        draws = []
        for term, own in zip(self.terms, jax.random.split(key, len(self.terms)), strict=True):
            known: Any = term.loss.likelihood
            draw = known.sample(own, entry(y, term), entry(target, term))
            draws.append(jax.tree.map(lambda d, w=term.weight: w**0.5 * d, draw))
        return gathered(self.terms, draws, y)


def gathered(terms: tuple[Term, ...], dys: list[Any], y: Any) -> Any:
    """Add the gradients of all terms, each at its entry.

    Args:
        terms: the terms.
        dys: the gradient of each.
        y: the outputs.

    Returns:
        a tree like `y`.
    """
    total = zero_cotangents(y)
    for term, dy in zip(terms, dys, strict=True):
        total = with_path(total, term.path, jax.tree.map(_plus, entry(total, term), dy))
    return total


def _plus(a: Any, b: Any) -> Any:
    wide = accumulator(a.dtype)
    return (a.astype(wide) + b.astype(wide)).astype(a.dtype)
