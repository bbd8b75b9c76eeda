"""Readings of a head's params, in one walk over its rows."""

from functools import partial
from typing import Any

from jaxtyping import Array, Float, Int

from fnn.factors import Chunked
from fnn.losses.rows import unflat
from fnn.losses.walk import Piece, flat_readers, walk
from fnn.reader import as_factors
from fnn.reading import Reading, Stacked

Params = dict[str, Array]
In = Float[Array, "*n k"]
Labels = Int[Array, "*n"]


def read_pieces(
    head: Any,
    params: Params,
    x: In,
    target: Labels,
    weights: Any,
    coefficients: Any,
    pieces: list[Piece],
) -> tuple[Any, In, list[Any]]:
    """Return the value of a head, `dx` and what each piece reads, all in one walk over the rows.

    Readers that add over rows may have a chunk end within an example; others get the examples of axis 0
    with all their tokens. Factors that are read as such are not made.

    Args:
        head: the head.
        params: its params.
        x: the rows, (..., k).
        target: the labels, (...) integers.
        weights: the weights of the rows or of the examples, or None.
        coefficients: what each row's gradient is multiplied by, (...).
        pieces: the readers, each with its param.
    """
    now = [piece for piece in pieces if piece.reader is not as_factors]
    batch = head.batch(x, target, coefficients, by_row=all(piece.inner.by_row for piece in now))
    losses, dx, readings = walk(partial(head.logits(x).chunk, params), batch, now, head.examples(batch))
    found = [
        chunked(head, piece.name, params, x, target, coefficients)
        if piece.reader is as_factors
        else readings.pop(0)
        for piece in pieces
    ]
    losses = unflat(losses, target)
    return head.counting.reduced(losses, target, weights), unflat(dx, x), found


def read_params(
    head: Any, params: Params, y: In, target: Labels, weights: Any, read: Reading, scale: Any
) -> tuple[Any, In, dict[str, Any]]:
    """Return the value of a head, its gradient by `y`, and the readings of its params, chunk by chunk.

    Args:
        head: the head.
        params: its params.
        y: the rows, (..., k).
        target: the labels, (...) integers.
        weights: the weights of the rows or of the examples, or None.
        read: the reading of the params.
        scale: a number that multiplies the gradients, or None.
    """
    assert isinstance(read, Stacked)
    readers, together = flat_readers(read.reader)
    pieces = [
        Piece(name, reader, params[name], tuple(tree[name] for tree in read.trees[1:]))
        for name in params
        for reader in readers
    ]
    coefficients = head.coefficients(y, target, weights, scale)
    losses, dy, found = read_pieces(head, params, y, target, weights, coefficients, pieces)
    split = [found[i : i + len(readers)] for i in range(0, len(found), len(readers))]
    return losses, dy, {name: together(own) for name, own in zip(params, split, strict=True)}


def chunked(head: Any, name: str, params: Params, x: In, target: Labels, coefficients: Any) -> Chunked:
    """Return a param's factor, which is made when it is read.

    Args:
        head: the head.
        name: the param's name.
        params: the head's params.
        x: the rows, (..., k).
        target: the labels, (...) integers.
        coefficients: what each row's gradient is multiplied by, (...).
    """
    batch = head.batch(x, target, coefficients, by_row=False)
    rank = params[name].ndim
    return Chunked(head.logits(x).of(name), params, batch, head.examples(batch), rank)
