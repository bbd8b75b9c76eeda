"""A network with a head: one function for both, and the table that the two may share.

`params = (network's, head's)`, and so are the readings. A tied table has two uses, the embedding's and the
head's. Its reading is that of both together: a linear reader's readings add up, any other reads one factor
that has the rows of both, made chunk by chunk in the network's backward.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import Layer, Params, Reader, Reading, forward
from fnn.errors import InputError, describe
from fnn.factors import Chunked, Factor, Outer, Rows, accumulator, gradient, how_chunkwise, unread
from fnn.head.walk import Piece
from fnn.readers.reading import with_tokens


def through(head: Any, net: Layer, read: Reader) -> Callable[..., tuple[Any, Any]]:
    """Give a function of `(params, x, target, key, weights, trees, place)`, as for `fnn.value_and_grad`.

    It gives `(value, readings)`. `params` are the network's and the head's; `readings` what
    `read(factor, param, *leaves)` makes of every factor; `trees` begin like the params, and with a `place`
    they are replaced, as `Reading` says. Seeded with the gradient of the value (with reduction "none": of
    the sum of the values).

    Where the reader says how (`fnn.chunkwise`), the head's factors are read chunk by chunk. `fnn.unread`
    makes them `Chunked`: the logits are made again whenever such a factor is read, 2nkV flops more. Any
    other reader gets them whole, (n, V). One that is not linear reads a tied table from logits made again,
    the embedding's rows beside them as one-hot rows: twice the flops and the room of an untied weight.
    """
    readers, structure = jax.tree.flatten(_each(read))

    def run(
        params: Params,
        x: Any,
        target: Any,
        key: Any = None,
        weights: Any = None,
        trees: tuple = (),
        place: tuple | None = None,
    ) -> tuple[Any, Any]:
        head.check_pair(params)
        y, residuals = forward(net, params[0], x, key)
        own, *own_trees = (_own(head, *tree) for tree in (params, *trees))
        head.check(own, y, target, weights)
        coefficients = head.coefficients(y, target, weights)

        def kept(name: str) -> Chunked:
            batch = head.batch(y, target, coefficients, by_row=False)
            return Chunked(Made(head, name), own, (batch,), head.examples(batch), own[name].ndim)

        now, later = [], {}
        for which in [(name, i) for name in own for i in range(len(readers))]:
            name, reader = which[0], readers[which[1]]
            tied = bool(head.tied) and name == head.weight
            how = how_chunkwise(reader)
            if reader is unread or (tied and not (how and how.linear)):
                later[which] = kept(name)
            elif tied and how and how.join == "gradient":  # the reader comes where the other use is
                now.append((which, Piece(name, gradient, own[name], ())))
            else:
                now.append((which, Piece(name, reader, own[name], tuple(tree[name] for tree in own_trees))))
        at_once, pieces = [which for which, _ in now], [piece for _, piece in now]
        losses, dy, readings = head.readings(own, y, target, coefficients, pieces)
        found = later | dict(zip(at_once, readings, strict=True))
        of_head = {name: [found[name, i] for i in range(len(readers))] for name in own}

        reader, trees = read, tuple(tree[0] for tree in trees)
        if head.tied:
            uses = of_head.pop(head.weight)
            placed = jax.tree.map_with_path(lambda p, _: uses if _keys(p) == head.tied else (), params[0])
            if place is None:
                reader, trees = _with_both_uses(read, readers, structure), (*trees, placed)
            else:
                rows = jax.tree.map(lambda _, row, uses: (*row, uses), params[0], *trees, placed)
                reader, trees = _replacing_by_both_uses(read), (rows,)
        of_net, _ = net.backward(params[0], *residuals, dy, Reading(reader, (params[0], *trees), place))
        if head.tied and place is not None:
            of_net = jax.tree.map(lambda _, row: row[:-1], params[0], of_net)
        of_head = {name: jax.tree.unflatten(structure, found) for name, found in of_head.items()}
        return head.reduced(losses, target, weights), (of_net, of_head)

    return run


@dataclass(frozen=True)
class Made:
    """What makes the factor of a head's param: of the head's rows, and of the network's that follow them."""

    head: Any
    name: str

    def __call__(self, params: Params, rows: tuple[Any, ...]) -> Factor:
        """Give the factor (n, ...) of the rows; those of the network are more tokens of the examples."""
        batch, *others = rows
        factor = self.head.factor(self.name, params, batch)
        if not others:
            return factor
        uses = [_as_outer(with_tokens(use), self.head.vocabulary) for use in (factor, *others)]
        dtype = accumulator(*(leaf.dtype for use in uses for leaf in use))
        return Outer(
            *(jnp.concatenate([leaf.astype(dtype) for leaf in pair], 1) for pair in zip(*uses, strict=True))
        )


def _with_both_uses(read: Reader, readers: list[Any], structure: Any) -> Reader:
    """Give the reader of the network's params whose last leaf is what the head says of the same param."""

    def both(factor: Any, param: Any, *leaves_and_uses: Any) -> Any:
        *leaves, uses = leaves_and_uses
        if not uses:
            return read(factor, param, *leaves)
        pairs = zip(readers, uses, strict=True)
        return jax.tree.unflatten(
            structure, [one(reader, use, factor, param, leaves) for reader, use in pairs]
        )

    def one(reader: Reader, use: Any, factor: Any, param: Any, leaves: list[Any]) -> Any:
        if isinstance(use, Chunked):
            if not isinstance(factor, Outer | Rows):
                wanted = "the table's other use to be that of an fnn.Embedding"
                raise InputError("tied", wanted, describe(factor), "fnn.Embedding(V, k)")
            grown = replace(use, rows=(*use.rows, factor))
            return grown if reader is unread else grown.read(reader, param, *leaves)
        how = how_chunkwise(reader)
        if how is not None and how.join == "gradient":
            return reader(gradient(factor, param) + use, param, *leaves)
        return jax.tree.map(jnp.add, reader(factor, param, *leaves), use)

    return both


def _replacing_by_both_uses(read: Reader) -> Reader:
    """Give the reader of the network's params whose rows end with the gradient that the head says."""

    def both(factor: Any, param: Any, row: tuple[Any, ...], place: tuple[Any, ...]) -> tuple[Any, ...]:
        *own, uses = row
        if uses:
            factor = gradient(factor, param) + uses[0]
        return (*read(factor, param, tuple(own), place=place), uses)

    return both


def _each(read: Reader) -> Any:
    """Give the readers that `fnn.together` runs, in tuples as it puts their readings; else the one reader."""
    readers = getattr(read, "readers", None)
    return read if readers is None else tuple(map(_each, readers))


def _own(head: Any, of_net: Any, of_head: Any) -> Any:
    """Give the head's leaves, the tied table's among them, from where it is in the network's tree."""
    if not head.tied:
        return of_head
    leaf = of_net
    try:
        for key in head.tied:
            leaf = leaf[key]
    except (KeyError, IndexError, TypeError):
        expected = f"tied={head.tied!r} to lead to a table among the network's params"
        fix = 'tied=(0, "table")'
        raise InputError(head, expected, describe(of_net), fix) from None
    return of_head | {head.weight: leaf}


def _as_outer(factor: Any, vocabulary: int) -> tuple[Any, Any]:
    """Give the x (n, t, V) and dz (n, t, k) of the `Outer` that a factor of a table is."""
    if isinstance(factor, Rows):
        return jax.nn.one_hot(factor.index, vocabulary, dtype=factor.dz.dtype), factor.dz
    return factor.x, factor.dz


def _keys(path: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(getattr(entry, "idx", getattr(entry, "key", getattr(entry, "name", None))) for entry in path)
