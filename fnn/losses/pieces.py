"""Gradients and other readings of a head's params, in one walk over its rows, or two over its vocabulary."""

from math import prod
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Float, Int

from fnn.arrays import widened
from fnn.eager import compiled_once
from fnn.factors import Chunked
from fnn.losses import columns
from fnn.losses.rows import unflat
from fnn.losses.walk import Batch, Piece, walk
from fnn.reader import as_factors, gradient
from fnn.sharding import names_of, sharding_along
from fnn.summed import exchanged_in

if TYPE_CHECKING:
    from fnn.losses.linear import LinearCrossEntropy

Params = dict[str, Array]
In = Float[Array, "*n k"]
Labels = Int[Array, "*n"]


@compiled_once(0, 5)
def gradients(
    head: "LinearCrossEntropy", params: Params, x: In, target: Labels, coefficients: Any, wide: bool
) -> tuple[Any, Params, In]:
    """Return the rows' losses (...), and the gradients by params and `x` of their weighted sum.

    Args:
        head: a `LinearCrossEntropy`.
        params: its params.
        x: the rows, (..., k).
        target: their labels, (...) integers.
        coefficients: the weights of the losses, (...).
        wide: whether the gradients by params stay in float32 or wider.
    """
    likes = {name: widened(param) if wide else param for name, param in params.items()}
    batch = head.batch(x, target, coefficients, by_row=True)
    if head.walks(params, x) == "vocabulary":
        losses, grads, dx = columns.gradients(head.logits(x), params, batch, likes, head.chunk)
        return unflat(losses, target), grads, unflat(dx, x)
    pieces = [Piece(name, gradient, like, ()) for name, like in likes.items()]
    losses, dx, readings = _walk(head, params, batch, pieces)
    grads = dict(zip(params, readings, strict=True))
    return unflat(losses, target), grads, unflat(dx, x)


def _walk(
    head: "LinearCrossEntropy", params: Params, batch: Batch, pieces: list[Piece]
) -> tuple[Any, Any, list[Any]]:
    """Run a walk over rows. Of gradients alone devices add up their sums in the dtype of the products."""
    logits = head.logits(batch.x)
    alone = all(piece.inner is gradient for piece in pieces)
    reduce = head.reduce or exchanged_in(logits.dtype) if alone else None
    return walk(logits.chunk, params, batch, pieces, _examples(head, params, batch), reduce)


def _examples(head: "LinearCrossEntropy", params: Params, batch: Batch) -> int:
    """Return how many examples make a chunk: more, where a device has logits of a part of the vocabulary."""
    lie = sharding_along((batch.x, 0), (params[head.weight], 0 if head.tied else 1))
    names = () if lie is None else names_of(lie.spec[1])
    return head.examples(batch) * (1 if lie is None else prod(lie.mesh.shape[name] for name in names))


def read_pieces(
    head: "LinearCrossEntropy",
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
    losses, dx, readings = _walk(head, params, batch, now)
    found = [
        chunked(head, piece.name, params, x, target, coefficients)
        if piece.reader is as_factors
        else readings.pop(0)
        for piece in pieces
    ]
    losses = unflat(losses, target)
    return head.counting.reduced(losses, target, weights), unflat(dx, x), found


def chunked(
    head: "LinearCrossEntropy", name: str, params: Params, x: In, target: Labels, coefficients: Any
) -> Chunked:
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
