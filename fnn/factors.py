"""Factored gradients: what a backward pass gives for each param, before anything is summed up.

The backward of a leaf makes no gradient. It makes the pair from which the gradient, and whatever else anyone
wants to know of it, follows by a small pure function: a *reader* (see reader.py). Examples lie on axis 0 of
a factor, further leading axes (tokens) belong to their example. A factor that was made inside `Repeat` has
the stacked axes of its param first.

Readers see four forms: `Outer` (low rank), `Total` (the same with an input of 1), `Rows` and, where nothing
better is known, `Examples`. Every other type says by `form` how it looks in one of these.
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

from fnn.arrays import accumulator, as_index, widened

_F = TypeVar("_F")


class Factor(ABC):
    """A factor: a frozen dataclass that is a pytree (`jax.tree_util.register_dataclass`).

    A new type is one class with `rank` and `form`; every reader then works on it.
    """

    rank: int  # the number of axes of its param, stacked ones not counted

    @abstractmethod
    def form(self) -> "Form":
        """Return the same gradient in one of the forms that readers see."""

    def joined(self) -> "Factor":
        """Join the factors of several uses of one param, stacked on axis 0 of every leaf, into one.

        The uses become an axis among the summed ones, after the examples' axis, as if they were tokens; so
        every reader of the joined factor is right, cross terms between the uses included.
        """
        return jax.vmap(lambda use: use.form())(self).joined()

    def read(self, reader: Any, param: Any, *leaves: Any) -> Any:
        """Return the reading of a param, of no stacked axes, by a better way than the form.

        NotImplemented where there is none, as here.
        """
        return NotImplemented


@register_dataclass
@dataclass(frozen=True)
class Outer(Factor):
    """The factor of a weight (k, j): gradient = sum over rows of x_i dz_i^T."""

    x: Float[Array, "*n k"]
    dz: Float[Array, "*n j"]
    rank = 2

    def form(self) -> "Outer":
        """Return itself."""
        return self

    def joined(self) -> "Outer":
        """Put the uses behind the examples."""
        return _behind_examples(self, self.dz.ndim - 1)


@register_dataclass
@dataclass(frozen=True)
class Total(Factor):
    """The factor of a bias (j,): gradient = sum of dz over its leading axes. An `Outer` with the input 1."""

    dz: Float[Array, "*n j"]
    rank = 1

    def form(self) -> "Total":
        """Return itself."""
        return self

    def joined(self) -> "Total":
        """Put the uses behind the examples."""
        return _behind_examples(self, self.dz.ndim - 1)


@register_dataclass
@dataclass(frozen=True)
class Scaled(Factor):
    """The factor of a scale (j,): gradient = sum of x * dz over the leading axes."""

    x: Float[Array, "*n j"]
    dz: Float[Array, "*n j"]
    rank = 1

    def form(self) -> Total:
        """Multiply, in float32 or wider."""
        acc = accumulator(self.dz.dtype)
        return Total(self.x.astype(acc) * self.dz.astype(acc))

    def joined(self) -> "Scaled":
        """Put the uses behind the examples."""
        return _behind_examples(self, self.dz.ndim - 1)


@register_dataclass
@dataclass(frozen=True)
class Rows(Factor):
    """The factor of an embedding table (V, j): gradient = dz summed into the rows that `index` names.

    Rows that are out of range (negative ones too) are dropped.
    """

    index: Int[Array, "*n"]
    dz: Float[Array, "*n j"]
    rank = 2

    def form(self) -> "Rows":
        """Return itself, indices widened that may not hold the size of the table."""
        return Rows(as_index(self.index), self.dz)

    def joined(self) -> "Rows":
        """Put the uses behind the examples."""
        return _behind_examples(self, self.index.ndim)


@partial(register_dataclass, data_fields=["g"], meta_fields=["rank"])
@dataclass(frozen=True)
class Examples(Factor):
    """The gradients of the examples themselves, (n, *shape of the param): right for any use of a param."""

    g: Float[Array, "n ..."]
    rank: int

    def form(self) -> "Examples":
        """Return itself."""
        return self

    def joined(self) -> "Examples":
        """Add the uses up: the gradient of an example is the sum over all uses."""
        return replace(self, g=jnp.sum(self.g, 0))


Form = Outer | Total | Rows | Examples


@partial(register_dataclass, data_fields=["shared", "rows"], meta_fields=["make", "size", "rank"])
@dataclass(frozen=True)
class Chunked(Factor):
    """A factor too large to exist at once: it is made again, chunk by chunk, whenever it is read.

    `make(shared, rows)` makes the factor of some examples (n, t, ...); `rows` is a tree of arrays with the
    examples on axis 0, cut into `size` examples at a time. `make` is static and hashable.
    """

    make: Callable[[Any, Any], Factor]
    shared: Any
    rows: Any
    size: int
    rank: int = field(default=2)

    def form(self) -> Form:
        """Make the factor of all examples at once."""
        return self.make(self.shared, self.rows).form()


def is_factor(value: Any) -> bool:
    """Tell whether `value` is a factor."""
    return isinstance(value, Factor)


def cotangent(form: Form) -> Array:
    """Return the part of a form that is linear in the cotangent: dz, or the examples' gradients."""
    return form.g if isinstance(form, Examples) else form.dz


def with_cotangent(form: Form, dz: Array) -> Form:
    """Return the form with another part that is linear in the cotangent."""
    return replace(form, g=dz) if isinstance(form, Examples) else replace(form, dz=dz)


def join(factors: Any, param: Any) -> Any:
    """Join the uses of one param, stacked on axis 0 of its factor, into one; see `Factor.joined`.

    Gradients, which a leaf may give in a factor's place, are added up. Stacked axes of the param stay first.
    """
    if not isinstance(factors, Factor):
        return jnp.sum(factors, 0)
    if param.ndim > factors.rank:
        return jax.vmap(join, (1, 0))(factors, param)
    return factors.joined()


def _behind_examples(factors: _F, axes: int) -> _F:
    """Move the uses, axis 0 of `axes` that are summed over, behind the examples' axis."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, min(1, axes - 1)), factors)


def over_chunks(
    chunk: Callable[[Any, Callable[[Any], Any]], tuple[Any, Any]], rows: Any, size: int
) -> tuple[Any, Any]:
    """Run `chunk(rows, widen) -> (to add up, to concatenate)` on at most `size` of the rows at a time.

    `rows` is a tree of arrays with n rows each; chunks are equally large, the last one filled up with rows
    of zeros. What is added up is so in float32 or wider: `chunk` widens by `widen` what decides its dtype.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    chunks = -(-n // max(1, size))
    size = -(-n // max(1, chunks))

    def cut(leaf: Any) -> Any:
        filled = jnp.pad(leaf, [(0, chunks * size - n)] + [(0, 0)] * (leaf.ndim - 1))
        return filled.reshape(chunks, size, *leaf.shape[1:])

    def step(total: Any, part: Any) -> tuple[Any, Any]:
        more, each = chunk(part, widened)
        return jax.tree.map(jnp.add, total, more), each

    parts = jax.tree.map(cut, rows)
    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), parts)
    wide, narrow = (jax.eval_shape(lambda part, w=w: chunk(part, w)[0], first) for w in (widened, _same))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), wide)
    total, each = lax.scan(step, zeros, parts)
    total = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), total, narrow)
    return total, jax.tree.map(lambda leaf: leaf.reshape(chunks * size, *leaf.shape[2:])[:n], each)


def _same(param: Any) -> Any:
    return param
