"""Factored gradients: what a backward pass returns for each param, before anything is summed.

The backward of a leaf returns the arrays (a *factor*) from which the gradient and other quantities follow by
a small pure function, a *reader* (see reader.py). Axis 0 of a factor is that of the examples; further leading
axes (tokens) belong to their example. A factor made inside `Repeat` has the stacked axes of its param first.

Readers handle four forms: `Outer` (low rank), `Total` (an `Outer` with the input 1), `Rows` and, where no
smaller form is known, `Examples`. Every other type converts itself to one of these by `form`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Int

from fnn.arrays import accumulator, as_index

if TYPE_CHECKING:
    from fnn.reader import Reader

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

    def read(self, reader: "Reader", param: Any, *leaves: Any) -> Any:
        """Return a param's reading in a better way than by `form`, or NotImplemented where there is none.

        Args:
            reader: the `Reader` that asks.
            param: the param, without stacked axes.
            leaves: the leaves of the further trees at the param.
        """
        return NotImplemented


@partial(register_dataclass, data_fields=["x", "dz"], meta_fields=["reduce"])
@dataclass(frozen=True)
class Outer(Factor):
    """The factor of a weight (k, j): gradient = sum over rows of x_i dz_i^T.

    Args:
        x: the input of the weight, (n, ..., k).
        dz: the cotangent of the output, (n, ..., j).
        reduce: the dtype in which devices add up their rows' parts of the gradient, where rows are sharded
            over Explicit axes; None for that of `dz` where it has float32's range, as bfloat16, else float32.

    >>> import fnn
    >>> factor = Outer(jnp.array([[1.0, 2.0]]), jnp.array([[3.0]]))
    >>> fnn.gradient(factor, jnp.zeros((2, 1)))
    Array([[3.],
           [6.]], dtype=float32)
    """

    x: Float[Array, "*n k"]
    dz: Float[Array, "*n j"]
    reduce: Any = None
    rank = 2

    def form(self) -> "Outer":
        """Return the factor itself."""
        return self

    def joined(self) -> "Outer":
        """Move the axis of the uses behind that of the examples."""
        return _behind_examples(self, self.dz.ndim - 1)


@partial(register_dataclass, data_fields=["dz"], meta_fields=["reduce"])
@dataclass(frozen=True)
class Total(Factor):
    """The factor of a bias (j,): gradient = sum of dz over its leading axes.

    Args:
        dz: the cotangent of the sum, (n, ..., j).
        reduce: as for `Outer`.
    """

    dz: Float[Array, "*n j"]
    reduce: Any = None
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
    """The factor of a scale (j,): gradient = sum of x * dz over the leading axes.

    Args:
        x: what is scaled, (n, ..., j).
        dz: the cotangent of the product, (n, ..., j).
    """

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
    """The gradients of the examples themselves: right for every use of a param.

    Args:
        g: the gradient of each example, (n, *param.shape).
        rank: the number of axes of the param, stacked ones not counted.
    """

    g: Float[Array, "n ..."]
    rank: int

    def form(self) -> "Examples":
        """Return the factor itself."""
        return self

    def joined(self) -> "Examples":
        """Sum the uses: the gradient of an example is the sum over all uses."""
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
    """Return the form with another array as the part that is linear in the cotangent.

    Args:
        form: an `Outer`, `Total`, `Rows` or `Examples`.
        dz: the new dz, or gradients of the examples.
    """
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
