"""The walk over chunks of rows: losses, cotangents and readings, with no more than a chunk's logits alive."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.chunks import over_chunks
from fnn.factors import Factor
from fnn.reader import Reader, gradient


class Batch(NamedTuple):
    """The rows, n examples with their tokens or all rows alike, and what each loss is multiplied by."""

    x: Any  # (n, ..., k)
    label: Any  # (n, ...), in range
    coefficient: Any  # (n, ...); zero counts a row out, NaN says that its label was out of range


class Piece(NamedTuple):
    """One reader of one param's factor. `reader` is called as `reader(factor, param, *leaves)`."""

    name: str
    reader: Reader
    param: Any
    leaves: tuple[Any, ...]

    @property
    def inner(self) -> Reader:
        """What reads in the walk: the gradient, where the reader asks for nothing else."""
        return gradient if self.reader.joins == "gradient" else self.reader

    @property
    def adds(self) -> bool:
        """Whether the readings of chunks add up."""
        return self.inner.joins == "sum"

    def read(self, factor: Factor, param: Any, cut: tuple[Any, ...]) -> Any:
        """Read the factor of a chunk, with the chunk's part of the leaves."""
        if self.inner is not self.reader:
            return self.inner(factor, param)
        return self.reader(factor, param, *(cut or self.leaves))

    def finished(self, reading: Any) -> Any:
        """Read what the walk gave, where that was but the gradient."""
        return reading if self.inner is self.reader else self.reader(reading, self.param, *self.leaves)


# rows -> losses (n, ...), dx (n, ..., k), factors
Chunk = Callable[[Batch], tuple[Any, Any, dict[str, Factor]]]


def walk(chunk: Chunk, batch: Batch, pieces: list[Piece], size: int) -> tuple[Any, Any, list[Any]]:
    """Return the losses (n, ...), their `dx` (n, ..., k) and what each piece reads, `size` examples at a
    time.

    A reader that does not say how it reads chunk by chunk takes all examples at once.
    """

    def step(part: Any, widen: Callable[[Any], Any]) -> tuple[Any, Any]:
        rows, cuts = part
        losses, dx, factors = chunk(rows)
        readings = [p.read(factors[p.name], widen(p.param), cut) for p, cut in zip(pieces, cuts, strict=True)]
        summed = [r if p.adds else None for p, r in zip(pieces, readings, strict=True)]
        each = [None if p.adds else r for p, r in zip(pieces, readings, strict=True)]
        return summed, (losses, dx, each)

    cuts = [piece.leaves if piece.inner.sliced else () for piece in pieces]
    if any(piece.inner.joins is None for piece in pieces):
        summed, (losses, dx, each) = step((batch, cuts), lambda param: param)
    else:
        summed, (losses, dx, each) = over_chunks(step, (batch, cuts), size)
    readings = [p.finished(s if p.adds else e) for p, s, e in zip(pieces, summed, each, strict=True)]
    return losses, dx, readings


def flat_readers(reader: Reader) -> tuple[list[Reader], Callable[[list[Any]], Any]]:
    """Return the readers that `zip_readers` runs, and what puts their readings together as it does."""
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
    """What a row's loss follows from, each (n,)."""

    largest: Any  # logit
    at_label: Any  # the label's logit
    others: Any  # the sum of exp(z - largest) over the other logits
    total: Any  # the sum of all logits, each less the largest, for label smoothing


class CrossEntropy(NamedTuple):
    """Rows' losses (n,), and what their gradients by the logits follow from."""

    loss: Any
    at_label: Any  # dz of the label's logit, before smoothing
    of_others: Any  # dz of the other logits, divided by exp(z - largest), before smoothing
    size: int
    label_smoothing: float

    def dz(self, e: Any, is_label: Any) -> Any:
        """Return the gradient by logits (n, C), of which `e` is exp(z - largest)."""
        at_label = (self.at_label + self.label_smoothing)[:, None]
        return jnp.where(is_label, at_label, e * self.of_others[:, None]) - self.label_smoothing / self.size


def from_sums(sums: Sums, size: int, label_smoothing: float, z_loss: float) -> CrossEntropy:
    """Return the losses of rows of `size` logits.

    With p = softmax(z), s = log sum exp z, t = (1 - e) onehot(label) + e / V, e the label smoothing (Szegedy
    et al. 2016) and c the weight of the z-loss (Chowdhery et al. 2022):
    loss = s - t . z + c s^2, dz = (1 + 2 c s) p - t.

    The label's logit is left out of the sum of the others, so that a sure row keeps its digits:
    -log p = log1p(others / own) and p - 1 = -others / (own + others).
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
    """Return each row's loss (...) and its gradient by the logits `z` (..., V); see `from_sums`."""
    batch, size = label.shape, z.shape[-1]
    z, label = z.reshape(-1, size), label.reshape(-1)
    is_label = jnp.arange(size, dtype=jnp.int32)[None] == label[:, None].astype(jnp.int32)
    largest = jax.lax.stop_gradient(z.max(-1))
    below = z - largest[:, None]
    e = jnp.where(is_label, 0, jnp.exp(below))
    at_label = z[jnp.arange(label.size), label]
    found = from_sums(Sums(largest, at_label, e.sum(-1), below.sum(-1)), size, label_smoothing, z_loss)
    return found.loss.reshape(batch), found.dz(e, is_label).reshape(*batch, size)
