"""A weight with two uses, the network's embedding and the head's kernel: its readings are those of both uses.

The readings of a linear reader are added, and so are gradients. Any other reader reads one factor with the
rows of both uses, made chunk by chunk: the logits are computed again, and the embedding's rows stand beside
them as one-hot rows. This costs twice the flops and the room of an untied weight.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator
from fnn.core import Layer, forward, pull
from fnn.errors import InputError
from fnn.factors import Factor, Form, Outer, Rows
from fnn.losses.ending import End
from fnn.losses.head_checks import checked
from fnn.losses.paths import at_path, with_path
from fnn.losses.pieces import chunked, read_pieces
from fnn.losses.walk import Piece, flat_readers
from fnn.reader import Reader, as_factors, gradient, with_tokens
from fnn.reading import Reading, Stacked
from fnn.sharding import placed, sharding_of

if TYPE_CHECKING:
    from fnn.losses.linear import LinearCrossEntropy


def both_uses(reader: Reader, of_net: Factor, of_head: Any, table: Any, leaves: tuple[Any, ...]) -> Any:
    """Read a table by its two uses.

    Args:
        reader: the reader.
        of_net: the embedding's factor.
        of_head: the head's `Chunked` factor, or, where `early` returns a reader, what that has read.
        table: the table, (V, k).
        leaves: the leaves of the further trees.
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
    """Return the reader of the head's use in the walk over its rows.

    It is None where the two uses are read as one factor.
    """
    if reader.joins == "gradient":
        return gradient
    return reader if reader.linear and reader is not as_factors else None


@dataclass(frozen=True)
class Joint:
    """A function that makes the factor of both uses.

    The rows of the network's use are more tokens of the examples.

    Args:
        head: makes the factor of the head's use.
        vocabulary: the number of rows of the table.
    """

    head: Callable[..., Factor]
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


def through_tied(
    head: "LinearCrossEntropy",
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
    """Run a network and a head that is tied to it.

    Args:
        head: the head.
        end: `end(y)` says how the head ends the network, whose outputs are `y`.
        net: the network.
        params: the params of both.
        x: the input of the network.
        target: the labels, or what the head and others of a sum take.
        key: the random key for dropout, or None.
        weights: the weights of the rows or of the examples, or None.
        read: the reading of all params.
        scale: a number that the gradients are multiplied by, or None.

    Returns:
        the value and the readings of all params.
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
        with jax.named_scope("loss"):
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
    with jax.named_scope("loss"):
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
