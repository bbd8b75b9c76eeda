"""A weight with two uses, the network's embedding and the head's kernel: its readings are those of both uses.

The readings of a linear reader add up, and so do gradients. Any other reader reads one factor that has the
rows of both uses, made chunk by chunk: from logits made again, the embedding's rows beside them as one-hot
rows, at twice the flops and the room of an untied weight.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator
from fnn.core import Layer, forward, pull
from fnn.errors import InputError
from fnn.factors import Factor, Form, Outer, Rows
from fnn.losses.head_checks import checked
from fnn.losses.paths import at_path, with_path
from fnn.losses.pieces import chunked, read_pieces
from fnn.losses.walk import Piece, flat_readers
from fnn.reader import Reader, as_factors, gradient, with_tokens
from fnn.reading import Reading, Stacked
from fnn.sharding import placed, sharding_of


def both_uses(reader: Reader, of_net: Any, of_head: Any, table: Any, leaves: tuple[Any, ...]) -> Any:
    """Read a table by its two uses: `of_net` is the embedding's factor, `of_head` the head's, or its reading.

    Of the head there is a `Chunked` factor, or, of a linear reader or one of gradients, what `early` read.
    """
    if reader.joins == "gradient":
        return reader(gradient(of_net, table) + of_head, table, *leaves)
    if reader.linear:
        return jax.tree.map(jnp.add, reader(of_net, table, *leaves), of_head)
    if not isinstance(of_net.form(), Rows | Outer):
        wanted = "the table's other use to be that of an fnn.Embedding"
        raise InputError("tied", wanted, f"a {type(of_net).__name__}", "fnn.Embedding(V, k)")
    joint = replace(of_head, make=Joint(of_head.make, table.shape[0]), rows=(of_head.rows, of_net))
    return reader(joint, table, *leaves)


def early(reader: Reader) -> Reader | None:
    """Return what the head reads of its use in its own walk; None where the two uses are read as one
    factor.
    """
    if reader.joins == "gradient":
        return gradient
    return reader if reader.linear and reader is not as_factors else None


@dataclass(frozen=True)
class Joint:
    """Makes the factor of both uses: the rows of the network's use are more tokens of the examples."""

    head: Any
    vocabulary: int

    def __call__(self, params: Any, rows: tuple[Any, Factor]) -> Factor:
        """Return the joint factor (n, ...)."""
        batch, of_net = rows
        uses = [self._as_outer(with_tokens(use.form())) for use in (self.head(params, batch), of_net)]
        dtype = accumulator(*(leaf.dtype for use in uses for leaf in use))
        x, dz = (
            jnp.concatenate([placed(leaf.astype(dtype), sharding_of(*pair)) for leaf in pair], 1)
            for pair in zip(*uses, strict=True)
        )
        return Outer(x, dz)

    def _as_outer(self, form: Form) -> tuple[Any, Any]:
        """Return the x (n, t, V) and dz (n, t, k) of the `Outer` that a factor of a table is."""
        if isinstance(form, Rows):
            return jax.nn.one_hot(form.index, self.vocabulary, dtype=form.dz.dtype), form.dz
        assert isinstance(form, Outer)
        return form.x, form.dz


class End(Protocol):
    """How a head ends a network: alone, or in a sum of losses."""

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Return the network's and the head's own part of params, or of a tree that begins like them."""
        ...

    def entries(self, y: Any, target: Any, weights: Any) -> tuple[Any, Any, Any]:
        """Return the head's outputs, targets and weights."""
        ...

    def ended(self, value: Any, dy: Any) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Return the value and the gradient by all outputs, and what merges the readings of net and head."""
        ...


@dataclass(frozen=True)
class Alone:
    """A head that is the only loss."""

    head: Any

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Take the pair apart."""
        return self.head.split(tree)

    def entries(self, y: Any, target: Any, weights: Any) -> tuple[Any, Any, Any]:
        """Return all."""
        return y, target, weights

    def ended(self, value: Any, dy: Any) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Return what the head gives."""
        return value, dy, self.head.merge


def through_tied(
    head: Any,
    end: Callable[[Any], End],
    net: Layer,
    params: Any,
    x: Any,
    target: Any,
    key: Any,
    weights: Any,
    read: Reading,
    scale: Any,
) -> tuple[Any, Any]:
    """Run a network and a head that is tied to it: return the value and the readings of all params.

    `end(y)` says how the head ends the network, whose outputs are `y`.
    """
    of_net, own = end(None).split(params)
    table = at_path(of_net, head.tied, head)
    outputs, residuals = forward(net, of_net, x, key)
    ending = end(outputs)
    own = own | {head.weight: table}
    own, y, target, weights = checked(head, own, *ending.entries(outputs, target, weights))
    of_table = read.mapped(lambda tree: at_path(ending.split(tree)[0], head.tied, head))
    of_head = read.mapped(lambda tree: ending.split(tree)[1])
    marks = with_path(jax.tree.map(lambda _: None, of_net), head.tied, jnp.zeros(()))
    held = read.mapped(lambda tree: ending.split(tree)[0]).holding(marks)
    if read.joins == "gradient":
        value, (grads, dy) = head.value_and_grad(own, y, target, weights, scale)
        value, dy, merge = ending.ended(value, dy)
        readings = held.released(pull(net, of_net, *residuals, dy, held)[0])
        use = at_path(readings, head.tied, head)
        whole = of_table(gradient(use, table) + grads.pop(head.weight), head)
        return value, merge(with_path(readings, head.tied, whole), of_head(grads, head))
    assert isinstance(read, Stacked) and isinstance(of_table, Stacked) and isinstance(of_head, Stacked)
    readers, together = flat_readers(read.reader)
    pieces, later = [], []
    for reader in readers:
        first = early(reader)
        later.append(first is None)
        if first is not None:
            pieces.append(Piece(head.weight, first, table, of_table.trees[1:] * (first is reader)))
    others = [name for name in own if name != head.weight]
    for name in others:
        pieces += [Piece(name, r, own[name], tuple(t[name] for t in of_head.trees[1:])) for r in readers]
    coefficients = head.coefficients(y, target, weights, scale)
    value, dy, found = read_pieces(head, own, y, target, weights, coefficients, pieces)
    value, dy, merge = ending.ended(value, dy)
    readings = held.released(pull(net, of_net, *residuals, dy, held)[0])
    use, whole = at_path(readings, head.tied, head), []
    for reader, is_later in zip(readers, later, strict=True):
        part = chunked(head, head.weight, own, y, target, coefficients) if is_later else found.pop(0)
        whole.append(both_uses(reader, use, part, table, of_table.trees[1:]))
    split = [found[i : i + len(readers)] for i in range(0, len(found), len(readers))]
    rest = {name: together(own) for name, own in zip(others, split, strict=True)}
    return value, merge(with_path(readings, head.tied, together(whole)), rest)
