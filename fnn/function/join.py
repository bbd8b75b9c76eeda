"""Several uses of one param, joined: as tokens where they are of one form, else side by side."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from fnn.factors import Factor, Outer, Rows, Scaled, Total
from fnn.function.convolved import Convolved
from fnn.function.forms import Part, Viewed
from fnn.function.layout import Layout
from fnn.function.pieces import Piece
from fnn.readers.seeds import Mutual

FEATURES = {Outer: 2, Mutual: 2, Total: 1, Scaled: 1, Rows: 2}
FORMS = {form: Outer if form is Mutual else form for form in (*FEATURES, Convolved)}


def joined(pieces: list[Piece], shape: tuple[int, ...]) -> list[Any]:
    """Return the factors of a param: one, if there is a form for all of its uses.

    Args:
        pieces: the factor of each use.
        shape: the shape of the param.
    """
    size = math.prod(shape)
    whole, parts = [], []
    for own in pieces:
        (whole if own.arranged(size) else parts).append(own)
    for same in _alike(parts):
        stack = _stacked(same)
        if stack is not None and stack.arranged(size):
            whole.append(stack)
        else:
            whole += same
    groups: list[list[Piece]] = []
    for own in whole:
        for group in groups:
            turned = _like(own, group[0], size)
            if turned is not None:
                if FORMS[type(turned.factor)] is not FORMS[type(group[0].factor)]:
                    group[:] = [_plainer(one) for one in group]
                    turned = _plainer(turned)
                group.append(turned)
                break
        else:
            groups.append([own])
    return [_viewed(_mutual(group), shape) for group in groups]


def _mutual(group: list[Piece]) -> Piece:
    """Join a group, and say so where it holds a weight both as it is and transposed."""
    factor = (own := concatenated(group)).factor
    if not isinstance(factor, Outer) or not any(isinstance(one.factor, Mutual) for one in group):
        return own
    return dataclasses.replace(own, factor=Mutual(factor.x, factor.dz))


def _viewed(own: Piece, shape: tuple[int, ...]) -> Any:
    """Return the factor with its place in the param."""
    layout = own.arranged(math.prod(shape))
    if layout is None:
        axes = [*own.stacks, *(axis for group in own.groups for axis in group)]
        matrix = (*(n for n, _ in own.stacks), *(math.prod(n for n, _ in g) for g in own.groups))
        place = Layout(tuple(n for n, _ in axes), tuple(s for _, s in axes), own.offset)
        return Part(own.factor, place, matrix, shape, len(shape))
    same = layout.shape == shape and layout.order == tuple(range(len(layout.order)))
    return own.factor if same else Viewed(own.factor, layout, shape, len(shape))


def _alike(parts: list[Piece]) -> list[list[Piece]]:
    """Group uses of parts of a param that differ in nothing but their place."""
    found: dict[Any, list[Piece]] = {}
    for own in parts:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(own.factor))
        found.setdefault((type(own.factor), own.stacks, own.groups, shapes), []).append(own)
    return list(found.values())


def _stacked(parts: list[Piece]) -> Piece | None:
    """Stack uses of parts that lie evenly behind each other, such as w[0], w[1], ..."""
    places: dict[int, list[Piece]] = {}
    for own in parts:
        places.setdefault(own.offset, []).append(own)
    offsets = sorted(places)
    steps = {b - a for a, b in zip(offsets, offsets[1:], strict=False)}
    if len(steps) != 1 or len({len(same) for same in places.values()}) != 1:
        return None
    each = [concatenated(places[offset]).factor for offset in offsets]
    factor = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    first = parts[0]
    return Piece(factor, ((len(offsets), steps.pop()), *first.stacks), first.groups, offsets[0])


def _like(own: Piece, first: Piece, size: int) -> Piece | None:
    """Return a use in the form of another one, so that they can be joined; None if they cannot."""
    ours, theirs = own.arranged(size), first.arranged(size)
    if (
        ours is None
        or theirs is None
        or isinstance(own.factor, Convolved) != isinstance(first.factor, Convolved)
    ):
        return None
    if isinstance(own.factor, Convolved):
        same = isinstance(first.factor, Convolved) and own.factor.options == first.factor.options
        return own if same and ours == theirs and _window(own) == _window(first) else None
    if FEATURES[type(own.factor)] != FEATURES[type(first.factor)]:
        return None
    if ours == theirs:
        return own
    if FEATURES[type(own.factor)] == 2:
        turned = Piece(_plainer(own).factor, own.stacks, own.groups[::-1], own.offset)
        if turned.arranged(size) == theirs:
            assert isinstance(turned.factor, Outer)
            return dataclasses.replace(turned, factor=Mutual(turned.factor.dz, turned.factor.x))
    return None


def _window(own: Piece) -> Any:
    count = len(own.stacks)
    return [(*leaf.shape[: count + 1], *leaf.shape[count + 2 :]) for leaf in jax.tree.leaves(own.factor)]


def _plainer(own: Piece) -> Piece:
    """Return a lookup as the product with the rows' units, and a sum as one with ones."""
    match own.factor:
        case Rows(index, dz):
            rows = math.prod(n for n, _ in own.groups[0])
            return dataclasses.replace(own, factor=Outer(jax.nn.one_hot(index, rows, dtype=dz.dtype), dz))
        case Total(dz):
            return dataclasses.replace(own, factor=Scaled(jnp.ones_like(dz), dz))
    return own


def concatenated(uses: list[Piece]) -> Piece:
    """Join uses of one form and layout: each is among the tokens."""
    first = uses[0]
    if len(uses) == 1:
        return first
    stacks = len(first.stacks)

    def tokens(factor: Factor) -> Any:
        def one(leaf: Any, features: int) -> Any:
            return leaf if leaf.ndim > stacks + 1 + features else jnp.expand_dims(leaf, stacks + 1)

        if isinstance(factor, Convolved):
            return factor
        if isinstance(factor, Mutual):
            factor = Outer(factor.x, factor.dz)
        if isinstance(factor, Rows):
            return Rows(one(factor.index, 0), one(factor.dz, 1))
        return jax.tree.map(lambda leaf: one(leaf, 1), factor)

    def together(*leaves: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # uses may be of several precisions
            wide = jnp.result_type(*leaves)
        leaves = tuple(leaf.astype(wide) for leaf in leaves)
        return jnp.concatenate(leaves, stacks + 1)

    factor = jax.tree.map(together, *(tokens(own.factor) for own in uses))
    return dataclasses.replace(first, factor=factor)
