"""A walk over the rows of a head in chunks, so that no more than a chunk's logits exist at one time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.chunks import over_chunks
from fnn.factors import Factor
from fnn.reader import Reader, gradient


class Batch(NamedTuple):
    """The rows of a head, n examples with their tokens or all rows alike.

    Args:
        x: the input, (n, ..., k).
        label: the labels, (n, ...) integers, in range.
        coefficient: what each row's gradient is multiplied by, (n, ...); 0 for a row that does not count, NaN
            for one whose label was out of range.
    """

    x: Any
    label: Any
    coefficient: Any


class Piece(NamedTuple):
    """One reader of one param's factor, called as `reader(factor, param, *leaves)`.

    Args:
        name: the param's name.
        reader: the reader.
        param: the param.
        leaves: the leaves of the further trees.
    """

    name: str
    reader: Reader
    param: Any
    leaves: tuple[Any, ...]

    @property
    def inner(self) -> Reader:
        """The reader that runs in the walk: `gradient`, where the piece's reader needs nothing else."""
        return gradient if self.reader.joins == "gradient" else self.reader

    @property
    def adds(self) -> bool:
        """Whether the readings of chunks add up."""
        return self.inner.joins == "sum"

    def read(self, factor: Factor, param: Any, leaves: tuple[Any, ...]) -> Any:
        """Read the factor of a chunk.

        Args:
            factor: the factor.
            param: the param, widened for the sum.
            leaves: the leaves, or the chunk's part of them.
        """
        return self.inner(factor, param, *(() if self.inner is not self.reader else leaves))

    def finished(self, reading: Any) -> Any:
        """Return the reading, from what the walk returned: where that is the gradient, it is read now."""
        return reading if self.inner is self.reader else self.reader(reading, self.param, *self.leaves)


# params, rows -> losses (n, ...), dx (n, ..., k), factors
Chunk = Callable[[Any, Batch], tuple[Any, Any, dict[str, Factor]]]


def walk(
    chunk: Chunk, params: Any, batch: Batch, pieces: list[Piece], size: int, reduce: Any = None
) -> tuple[Any, Any, list[Any]]:
    """Run a head over its rows in chunks.

    A reader that does not declare how it reads in chunks gets all examples at once.

    Args:
        chunk: `chunk(params, rows)` returns the losses (n, ...), dx (n, ..., k), and a factor for each param.
        params: the params of the head.
        batch: the rows.
        pieces: the readers, each with its param.
        size: the most examples of a chunk.
        reduce: the dtype in which what adds up over examples is added up over devices; None for its own.

    Returns:
        the losses (n, ...), dx (n, ..., k) and what each piece reads.
    """

    def step(shared: Any, part: Any, widen: Callable[[Any], Any]) -> tuple[Any, Any]:
        (params, whole), (rows, cuts) = shared, part
        losses, dx, factors = chunk(params, rows)
        readings = [
            p.read(factors[p.name], widen(param), cut or leaves)
            for p, (param, leaves), cut in zip(pieces, whole, cuts, strict=True)
        ]
        summed = [r if p.adds else None for p, r in zip(pieces, readings, strict=True)]
        each = [None if p.adds else r for p, r in zip(pieces, readings, strict=True)]
        return summed, (losses, dx, each)

    cuts = [piece.leaves if piece.inner.sliced else () for piece in pieces]
    shared = params, [(piece.param, () if piece.inner.sliced else piece.leaves) for piece in pieces]
    if any(piece.inner.joins is None for piece in pieces):
        summed, (losses, dx, each) = step(shared, (batch, cuts), lambda param: param)
    else:
        summed, (losses, dx, each) = over_chunks(step, shared, (batch, cuts), size, reduce=reduce)
    readings = [p.finished(s if p.adds else e) for p, s, e in zip(pieces, summed, each, strict=True)]
    return losses, dx, readings


def flat_readers(reader: Reader) -> tuple[list[Reader], Callable[[list[Any]], Any]]:
    """Return the readers that `zip_readers` runs, and a function that makes the tuple of their readings."""
    if not reader.readers:
        return [reader], lambda found: found[0]
    inner = [flat_readers(one) for one in reader.readers]

    def together(found: list[Any]) -> tuple[Any, ...]:
        rest, parts = list(found), []
        for readers, put in inner:
            parts.append(put(rest[: len(readers)]))
            rest = rest[len(readers) :]
        return tuple(parts)

    return [one for readers, _ in inner for one in readers], together


class Sums(NamedTuple):
    """What a row's loss follows from.

    Args:
        largest: the largest logit, (n,).
        at_label: the label's logit, (n,).
        others: the sum of exp(z - largest) over the other logits, (n,).
        total: the sum of all logits, each less the largest, (n,): for label smoothing.
    """

    largest: Any
    at_label: Any
    others: Any
    total: Any


class CrossEntropy(NamedTuple):
    """Rows' losses, and what their gradients by the logits follow from.

    Args:
        loss: the losses, (n,).
        at_label: dz of the label's logit before smoothing, (n,).
        of_others: dz of the other logits before smoothing, divided by exp(z - largest), (n,).
        size: the number of logits V.
        label_smoothing: e, 0 <= e < 1.
    """

    loss: Any
    at_label: Any
    of_others: Any
    size: int
    label_smoothing: float

    def dz(self, e: Any, is_label: Any) -> Any:
        """Return the gradient by some of the logits, (n, C).

        Args:
            e: their exp(z - largest), (n, C).
            is_label: whether each is its row's label, (n, C).
        """
        at_label = (self.at_label + self.label_smoothing)[:, None]
        return jnp.where(is_label, at_label, e * self.of_others[:, None]) - self.label_smoothing / self.size


def from_sums(sums: Sums, size: int, label_smoothing: float, z_loss: float) -> CrossEntropy:
    """Return the losses of rows of `size` logits.

    With p = softmax(z), s = log sum exp z and t = (1 - e) onehot(label) + e / V:
    loss = s - t . z + c s^2, dz = (1 + 2 c s) p - t.

    The label's logit is left out of the sum of the others, so that a sure row has no cancellation:
    -log p = log1p(others / own) and p - 1 = -others / (own + others).

    Args:
        sums: what the losses follow from, each (n,).
        size: the number of logits V.
        label_smoothing: e (Szegedy et al. 2016).
        z_loss: c, the weight of the z-loss (Chowdhery et al. 2022).
    """
    largest, others, at_label = sums.largest, sums.others, sums.at_label - sums.largest
    own = jnp.exp(at_label)
    above = jnp.log1p(others + (own - 1))  # s, less the largest logit
    loss = above - (1 - label_smoothing) * at_label
    if label_smoothing:
        loss = loss - label_smoothing * (sums.total / size)
    scale = 1 / (own + others)
    dz_at_label, dz = -others * scale, scale
    if z_loss:
        s = largest + above
        loss = loss + z_loss * jnp.square(s)
        dz_at_label, dz = dz_at_label + 2 * z_loss * s * own * scale, dz * (1 + 2 * z_loss * s)
    return CrossEntropy(loss, dz_at_label, dz, size, label_smoothing)


def cross_entropy(z: Any, label: Any, label_smoothing: float, z_loss: float) -> tuple[Any, Any]:
    """Return each row's loss (...) and its gradient by the logits, (..., V); see `from_sums`.

    Args:
        z: the logits, (..., V).
        label: the labels, (...) integers in 0 .. V - 1.
        label_smoothing: e, as in `from_sums`.
        z_loss: c, likewise.
    """
    batch, size = label.shape, z.shape[-1]
    z, label = z.reshape(-1, size), label.reshape(-1)
    is_label = jnp.arange(size, dtype=jnp.int32)[None] == label[:, None].astype(jnp.int32)
    largest = jax.lax.stop_gradient(z.max(-1))
    below = z - largest[:, None]
    e = jnp.where(is_label, 0, jnp.exp(below))
    at_label = jnp.where(is_label, z, 0).sum(-1)  # a lookup would gather the logits of all devices
    found = from_sums(Sums(largest, at_label, e.sum(-1), below.sum(-1)), size, label_smoothing, z_loss)
    return found.loss.reshape(batch), found.dz(e, is_label).reshape(*batch, size)
