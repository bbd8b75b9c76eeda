"""The gradients of a head in chunks of the vocabulary: a product more, and no second gradient of the weight.

A walk over rows adds the weight's gradient up, kV numbers in float32 beside the gradient itself where params
are narrower. Here each chunk of the vocabulary has its part of that gradient at once, and what is added up is
dx, of nk numbers. A first walk finds each row's log sum exp, a second one makes the logits again.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from fnn.arrays import accumulator
from fnn.layers.affine import row
from fnn.layers.dense import product
from fnn.losses.logits import Logits
from fnn.losses.walk import Batch, Sums, from_sums
from fnn.sharding import sharding_of, varying_like

Walk = Literal["rows", "vocabulary"]
COLUMNS = 512  # of a chunk: with fewer a product waits for its operands, more only take room


def chosen(weight: Any, x: Any, dtype: Any, vocabulary: int) -> Walk:
    """Choose what to make gradients in chunks of: the vocabulary, where a copy of the weight is saved.

    Over rows there is one of a weight that is cast for the products, and a sum in float32 of gradients that
    are narrower.

    Args:
        weight: the head's, (k, V) or (V, k), floating.
        x: the rows, (..., k).
        dtype: what the products are computed in.
        vocabulary: the number of labels V.
    """
    narrow = any(accumulator(one) != one for one in (weight.dtype, dtype))
    return "vocabulary" if narrow and vocabulary > COLUMNS and sharding_of(weight, x) is None else "rows"


class _Columns(NamedTuple):
    """A chunk of the vocabulary: its logits (n, C), and which of them are labels, and new to the walk."""

    start: Any
    weight: Any
    logits: Any
    is_label: Any
    new: Any


def gradients(
    head: Logits, params: dict[str, Array], batch: Batch, likes: dict[str, Array], chunk: int | None = None
) -> tuple[Any, dict[str, Array], Any]:
    """Return the losses (n,), the gradients by params, and dx (n, k).

    Args:
        head: how losses follow from rows.
        params: the head's: the weight (k, V) or, tied, (V, k), and the bias (V,), where there is one.
        batch: rows (n, k), their labels (n,) in range and coefficients (n,).
        likes: arrays of the gradients' shapes and dtypes, by the params' names.
        chunk: how many columns have logits at a time; None: `COLUMNS`.

    Cost: 8nkV flops. Temporaries: the logits of a chunk, twice, and nk numbers in float32.
    """
    x, weight, axis = batch.x.astype(head.dtype), params[head.weight], 0 if head.tied else 1
    size, dtype = min(chunk or COLUMNS, weight.shape[axis]), accumulator(head.dtype)
    starts = jnp.arange(0, weight.shape[axis], size, dtype=jnp.int32)

    def columns(first: Any) -> _Columns:
        # The last chunk may begin within the one before.
        start = jnp.minimum(first, weight.shape[axis] - size)
        w = lax.dynamic_slice_in_dim(weight, start, size, axis).astype(head.dtype)
        z = product(x, w, axis=1 - axis)
        if head.bias:
            z = z + row(lax.dynamic_slice_in_dim(params["bias"], start, size), z)
        at = start + jnp.arange(size, dtype=jnp.int32)
        return _Columns(start, w, z, at[None] == batch.label[:, None].astype(at.dtype), at[None] >= first)

    def add(sums: Sums, first: Any) -> tuple[Sums, None]:
        own = columns(first)
        z, counted = own.logits, own.new & ~own.is_label
        largest = lax.stop_gradient(jnp.maximum(sums.largest, jnp.where(own.new, z, -jnp.inf).max(-1)))
        e = jnp.where(counted, jnp.exp(z - largest[:, None]), 0).sum(-1)
        others = sums.others * jnp.exp(sums.largest - largest) + e
        at_label = sums.at_label + jnp.where(own.new & own.is_label, z, 0).sum(-1)
        shifted = sums.total + jnp.where(first == 0, 0, first.astype(dtype) * (sums.largest - largest))
        total = shifted + jnp.where(own.new, z - largest[:, None], 0).sum(-1)
        return Sums(largest, at_label, others, total), None

    given = (params, batch)
    nothing = jnp.zeros(batch.label.shape, dtype)
    sums = varying_like(Sums(nothing - jnp.inf, nothing, nothing, nothing), *given)
    sums, _ = lax.scan(add, sums, starts)
    found = from_sums(sums, weight.shape[axis], head.label_smoothing, head.z_loss)
    counted = batch.coefficient[:, None].astype(dtype)
    x = jnp.where(counted == 0, 0, x)  # where no row counts, no NaN does

    def pull(carry: tuple[Any, dict[str, Array]], first: Any) -> tuple[Any, None]:
        (dx, grads), own = carry, columns(first)
        dz = found.dz(jnp.exp(own.logits - sums.largest[:, None]), own.is_label)
        dz = jnp.where(counted == 0, 0, dz * counted).astype(head.dtype)
        dw = product(dz.T, x) if head.tied else product(x.T, dz)
        parts = {head.weight: (dw, axis)} | ({"bias": (dz.sum(0, dtype=dtype), 0)} if head.bias else {})
        for name, (part, along) in parts.items():
            part = part.astype(grads[name].dtype)
            grads = grads | {name: lax.dynamic_update_slice_in_dim(grads[name], part, own.start, along)}
        return (dx + product(jnp.where(own.new, dz, 0), own.weight, axis=axis), grads), None

    carry = varying_like((jnp.zeros(x.shape, dtype), jax.tree.map(jnp.zeros_like, likes)), *given)
    (dx, grads), _ = lax.scan(pull, carry, starts)
    return found.loss, grads, dx.astype(batch.x.dtype)
