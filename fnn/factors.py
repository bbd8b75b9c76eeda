"""Factored gradients: what a backward pass returns for each param, before anything is summed.

The backward of a leaf does not compute a gradient. It returns the arrays (a *factor*) from which the gradient
and other quantities follow by a small pure function, a *reader* (see reader.py). Axis 0 of a factor is that
of the examples; further leading axes (tokens) belong to their example. A factor that was made inside `Repeat`
has the stacked axes of its param first.

Readers handle four forms: `Outer` (low rank), `Total` (an `Outer` with the input 1), `Rows` and, where no
smaller form is known, `Examples`. Every other type converts itself to one of these by `form`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Int

from fnn.arrays import (
    accumulator,
    as_cotangent,
    as_index,
    placed_like,
    reshaped,
    shards_of,
    varying_like,
    widened,
    zeros_like,
)

_F = TypeVar("_F")


class Factor(ABC):
    """The gradient of one param before it is summed: a frozen dataclass that is a pytree.

    A new type is one class with `rank` and `form`, registered by `jax.tree_util.register_dataclass`; every
    reader then works on it.
    """

    rank: int  # the number of axes of its param, stacked ones not counted

    @abstractmethod
    def form(self) -> "Form":
        """Return the same gradient in one of the four forms that readers handle."""

    def joined(self) -> "Factor":
        """Join the factors of several uses of one param, stacked on axis 0 of every leaf, into one factor.

        The uses become one more axis of tokens, behind the axis of the examples, so that every reader of the
        joined factor is exact, cross terms between the uses included.
        """
        return jax.vmap(lambda use: use.form())(self).joined()

    def read(self, reader: Any, param: Any, *leaves: Any) -> Any:
        """Return the reading of a param without stacked axes by a better way than `form`, or
        NotImplemented.
        """
        return NotImplemented


@register_dataclass
@dataclass(frozen=True)
class Outer(Factor):
    """The factor of a weight (k, j): gradient = sum over rows of x_i dz_i^T, x (n, ..., k) and dz (n, ...,
    j).
    """

    x: Float[Array, "*n k"]
    dz: Float[Array, "*n j"]
    rank = 2

    def form(self) -> "Outer":
        """Return the factor itself."""
        return self

    def joined(self) -> "Outer":
        """Move the axis of the uses behind that of the examples."""
        return _behind_examples(self, self.dz.ndim - 1)


@register_dataclass
@dataclass(frozen=True)
class Total(Factor):
    """The factor of a bias (j,): gradient = sum of dz (n, ..., j) over its leading axes."""

    dz: Float[Array, "*n j"]
    rank = 1

    def form(self) -> "Total":
        """Return the factor itself."""
        return self

    def joined(self) -> "Total":
        """Move the axis of the uses behind that of the examples."""
        return _behind_examples(self, self.dz.ndim - 1)


@register_dataclass
@dataclass(frozen=True)
class Scaled(Factor):
    """The factor of a scale (j,): gradient = sum of x * dz, both (n, ..., j), over the leading axes."""

    x: Float[Array, "*n j"]
    dz: Float[Array, "*n j"]
    rank = 1

    def form(self) -> Total:
        """Return the product x * dz as a `Total`, in float32 or wider."""
        acc = accumulator(self.dz.dtype)
        return Total(self.x.astype(acc) * self.dz.astype(acc))

    def joined(self) -> "Scaled":
        """Move the axis of the uses behind that of the examples."""
        return _behind_examples(self, self.dz.ndim - 1)


@register_dataclass
@dataclass(frozen=True)
class Rows(Factor):
    """The factor of a table (v, j): gradient = dz summed into the rows that `index` names.

    Args:
        index: integers (n, ...). Rows out of range, negative ones included, are dropped.
        dz: the cotangent of the rows that were looked up, (n, ..., j).
    """

    index: Int[Array, "*n"]
    dz: Float[Array, "*n j"]
    rank = 2

    def form(self) -> "Rows":
        """Return the factor, its index in a dtype that can hold the size of the table."""
        return Rows(as_index(self.index), self.dz)

    def joined(self) -> "Rows":
        """Move the axis of the uses behind that of the examples."""
        return _behind_examples(self, self.index.ndim)


@partial(register_dataclass, data_fields=["g"], meta_fields=["rank"])
@dataclass(frozen=True)
class Examples(Factor):
    """The gradients of the examples themselves, g (n, *param.shape): right for every use of a param."""

    g: Float[Array, "n ..."]
    rank: int

    def form(self) -> "Examples":
        """Return the factor itself."""
        return self

    def joined(self) -> "Examples":
        """Add the uses up: the gradient of an example is the sum over all uses."""
        return replace(self, g=jnp.sum(self.g, 0))


Form = Outer | Total | Rows | Examples


@partial(register_dataclass, data_fields=["shared", "rows"], meta_fields=["make", "size", "rank"])
@dataclass(frozen=True)
class Chunked(Factor):
    """A factor too large to exist at once: it is recomputed, chunk by chunk, whenever it is read.

    Args:
        make: `make(shared, rows)` returns the factor of some examples, (n, t, ...). Static and hashable.
        shared: a pytree that every chunk needs whole.
        rows: a pytree of arrays with the examples on axis 0, from which chunks are cut.
        size: the number of examples in a chunk.
        rank: the number of axes of the param, stacked ones not counted.
    """

    make: Callable[[Any, Any], Factor]
    shared: Any
    rows: Any
    size: int
    rank: int = field(default=2)

    def form(self) -> Form:
        """Return the factor of all examples at once."""
        return self.make(self.shared, self.rows).form()


def is_factor(value: Any) -> bool:
    """Return whether `value` is a factor."""
    return isinstance(value, Factor)


def cotangent(form: Form) -> Array:
    """Return the part of a form that is linear in the cotangent: dz, or the gradients of the examples."""
    return form.g if isinstance(form, Examples) else form.dz


def with_cotangent(form: Form, dz: Array) -> Form:
    """Return the form with `dz` as the part that is linear in the cotangent."""
    return replace(form, g=dz) if isinstance(form, Examples) else replace(form, dz=dz)


def join(factors: Any, param: Any) -> Any:
    """Join the uses of one param, stacked on axis 0 of its factor, into one factor; see `Factor.joined`.

    Args:
        factors: a factor, or a gradient that a leaf returned instead; gradients are summed over axis 0.
        param: the param, whose stacked axes stay first.
    """
    if not isinstance(factors, Factor):
        return jnp.sum(factors, 0)
    if param.ndim > factors.rank:
        return jax.vmap(join, (1, 0))(factors, param)
    return factors.joined()


def _behind_examples(factors: _F, axes: int) -> _F:
    """Move axis 0, that of the uses, behind the axis of the examples, where `axes` axes are summed over."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, min(1, axes - 1)), factors)


def over_chunks(
    chunk: Callable[[Any, Callable[[Any], Any]], tuple[Any, Any]], rows: Any, size: int
) -> tuple[Any, Any]:
    """Run `chunk` on at most `size` of the rows at a time, in a scan.

    Args:
        chunk: `chunk(rows, widen)` returns (what is summed over the chunks, what is concatenated). It calls
            `widen` on whatever decides the dtype of the sum, so that the sum is made in float32 or wider.
        rows: a pytree of arrays (n, ...). Chunks are equally large, the last one padded with rows of zeros.
        size: the most rows of a chunk.

    Returns:
        the sum, in the dtype it has without widening, and the concatenation, (n, ...).
    """
    leaves = jax.tree.leaves(rows)
    n, shards = leaves[0].shape[0], max(map(shards_of, leaves))
    own = n // shards  # rows of a shard
    chunks = max(1, -(-own // max(1, size)))  # of an empty batch one, of no rows
    size = -(-own // max(1, chunks))

    def cut(leaf: Any) -> Any:
        rest, axes = leaf.shape[1:], [(leaf, i) for i in range(1, leaf.ndim)]
        by_shard = reshaped(leaf, (shards, own, *rest), (leaf, 0), (leaf, None), *axes)
        filled = jnp.pad(by_shard, [(0, 0), (0, chunks * size - own)] + [(0, 0)] * len(rest))
        return cut_up(reshaped(filled, (shards * chunks * size, *rest), (leaf, 0), *axes), chunks, shards)

    def whole(parts: Any) -> Any:
        leaf = put_together(parts, shards)
        rest, axes = leaf.shape[1:], [(leaf, i) for i in range(1, leaf.ndim)]
        filled = reshaped(leaf, (shards, chunks * size, *rest), (leaf, 0), (leaf, None), *axes)
        return reshaped(filled[:, :own], (n, *rest), (leaf, 0), *axes)

    def widen(param: Any) -> Any:  # varying, so that shards are added up once, and not chunk by chunk
        return varying_like(widened(param), rows)

    def step(total: Any, part: Any) -> tuple[Any, Any]:
        more, each = chunk(part, widen)
        return jax.tree.map(lambda total, more: total + placed_like(more, total), total, more), each

    parts = jax.tree.map(cut, rows)

    def first(w: Callable[[Any], Any]) -> Any:
        return jax.eval_shape(lambda parts: chunk(jax.tree.map(lambda leaf: leaf[0], parts), w)[0], parts)

    wide, narrow = map(first, (widen, _same))
    total, each = lax.scan(step, jax.tree.map(zeros_like, wide), parts)
    total = jax.tree.map(lambda leaf, like: as_cotangent(leaf.astype(like.dtype), like), total, narrow)
    return total, jax.tree.map(whole, each)


def cut_up(leaf: Any, chunks: int, shards: int = 1) -> Any:
    """Cut axis 0 into chunks that each have rows of all its shards: (n, ...) to (chunks, n / chunks, ...)."""
    rest, axes = leaf.shape[1:], [(leaf, i) for i in range(1, leaf.ndim)]
    split = (leaf, 0), (leaf, None), (leaf, None)
    parts = reshaped(leaf, (shards, chunks, leaf.shape[0] // max(1, chunks * shards), *rest), *split, *axes)
    return reshaped(
        jnp.moveaxis(parts, 1, 0), (chunks, leaf.shape[0] // max(1, chunks), *rest), split[1], split[0], *axes
    )


def put_together(parts: Any, shards: int = 1) -> Any:
    """Undo `cut_up`: (chunks, size, ...) to (chunks * size, ...)."""
    chunks, size, *rest = parts.shape
    axes, split = [(parts, i) for i in range(2, parts.ndim)], ((parts, None), (parts, 1), (parts, None))
    leaf = jnp.moveaxis(reshaped(parts, (chunks, shards, size // shards, *rest), *split, *axes), 0, 1)
    return reshaped(leaf, (chunks * size, *rest), (parts, 1), *axes)


def _same(param: Any) -> Any:
    return param
