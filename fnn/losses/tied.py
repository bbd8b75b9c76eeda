"""A weight with two uses, the network's embedding and the head's kernel: its readings are those of both uses.

The readings of a linear reader add up, and so do gradients. Any other reader reads one factor that has the
rows
of both uses, made chunk by chunk: from logits made again, the embedding's rows beside them as one-hot rows,
at
twice the flops and the room of an untied weight.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator, placed, sharding_of
from fnn.errors import InputError, describe
from fnn.factors import Factor, Form, Outer, Rows
from fnn.reader import Reader, as_factors, gradient, with_tokens


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
        raise InputError("tied", wanted, describe(of_net), "fnn.Embedding(V, k)")
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
