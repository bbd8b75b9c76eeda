"""Factored gradients: what a backward pass gives for each parameter, before anything is summed up.

A parametric layer's backward makes no gradient. It makes the pair from which the gradient, and whatever
else anyone wants to know of it, follows by a small pure function: a *reader*, called as
`read(factor, param, *leaves)`. Examples lie on axis 0 of a factor, further leading axes (tokens) belong
to their example. A factor that was made inside `Repeat` has the stacked axes of its parameter first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Int


@register_dataclass
@dataclass(frozen=True)
class Outer:
    """The factor of a weight (k, j): gradient = sum over rows of x_i dz_i^T."""

    x: Float[Array, "*n k"]
    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 2


@register_dataclass
@dataclass(frozen=True)
class Total:
    """The factor of a bias (j,): gradient = sum of dz over its leading axes."""

    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 1


@register_dataclass
@dataclass(frozen=True)
class Scaled:
    """The factor of a scale (j,): gradient = sum of x * dz over the leading axes."""

    x: Float[Array, "*n j"]
    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 1


@register_dataclass
@dataclass(frozen=True)
class Rows:
    """The factor of an embedding table (V, j): gradient = dz summed into the rows that `index` names.

    Rows that are out of range (negative ones too) are dropped.
    """

    index: Int[Array, "*n"]
    dz: Float[Array, "*n j"]
    rank: ClassVar[int] = 2


Factor = Outer | Total | Scaled | Rows


@partial(register_dataclass, data_fields=["shared", "rows"], meta_fields=["make", "size", "rank"])
@dataclass(frozen=True)
class Chunked:
    """A factor too large to exist at once: it is made again, chunk by chunk, whenever it is read.

    `make(shared, rows)` gives the factor of some examples, one of the four (n, t, ...); `rows` is a tree of
    arrays with the examples on axis 0, cut into `size` examples at a time. `make` is static and hashable.
    """

    make: Callable[[Any, Any], Factor]
    shared: Any
    rows: Any
    size: int
    rank: int

    def whole(self) -> Factor:
        """Make the factor of all examples at once."""
        return self.make(self.shared, self.rows)

    def read(self, reader: Callable[..., Any], param: Any, *leaves: Any) -> Any:
        """Read chunk by chunk if the reader says how (see `chunkwise`), else the whole at once."""
        how = how_chunkwise(reader)
        if how is None:
            return reader(self.whole(), param, *leaves)
        if how.join == "gradient":
            return reader(gradient(self, param), param, *leaves)

        def chunk(rows: Any, widen: Callable[[Any], Any]) -> tuple[Any, Any]:
            rows, cut = rows
            reading = reader(self.make(self.shared, rows), widen(param), *(cut or leaves))
            return (reading, None) if how.join == "sum" else (None, reading)

        rows = self.rows, leaves if how.sliced else ()
        summed, each = over_chunks(chunk, rows, self.size)
        return summed if how.join == "sum" else each


def is_factor(value: Any) -> bool:
    """Tell whether `value` is a factor: one of the four, or one that is made in chunks."""
    return isinstance(value, Factor | Chunked)


def accumulator(*dtypes: Any) -> Any:
    """Give the dtype to accumulate in: the widest of these, at least float32 (jax issue 34330)."""
    with jax.numpy_dtype_promotion("standard"):  # here a promotion is what we ask for
        return jnp.result_type(jnp.float32, *dtypes)


class Chunkwise(NamedTuple):
    """How a reader reads chunk by chunk: see `chunkwise`."""

    join: str
    linear: bool
    sliced: bool

    @property
    def by_row(self) -> bool:
        """Whether a chunk may end within an example: a sum over examples that is linear is one over rows."""
        return self.join in ("sum", "gradient") and self.linear and not self.sliced


def chunkwise(join: str, *, linear: bool = False, sliced: bool = False) -> Callable[[Any], Any]:
    """Say of a reader how its readings of chunks of the examples make up that of the whole: a decorator.

    `join="sum"`: they add up; `"concatenate"`: their axis 0 is that of the examples; `"gradient"`: the reader
    reads nothing but the gradient, and takes it in the factor's place. `linear`: so do the readings of
    several uses of a param add up. `sliced`: axis 0 of the reader's leaves is that of the examples.

    A factor that is large, such as that of `LinearCrossEntropy`, then need not exist at once. A reader that
    says nothing gets it whole.
    """

    def say(reader: Any) -> Any:
        vars(reader).update(chunkwise=Chunkwise(join, linear or join == "gradient", sliced))
        return reader

    return say


def how_chunkwise(reader: Any) -> Chunkwise | None:
    """Give what a reader says of itself by `chunkwise`."""
    return getattr(reader, "chunkwise", None)


def over_chunks(chunk: Callable[[Any, Any], tuple[Any, Any]], rows: Any, size: int) -> tuple[Any, Any]:
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


def widened(param: Any) -> Any:
    """Give an array of a low precision in float32."""
    return param.astype(accumulator(param.dtype))


def _same(param: Any) -> Any:
    return param


@chunkwise("sum", linear=True)
def gradient(factor: Any, param: Any) -> Any:
    """Read the gradient of `param` off its factor: the default reader.

    The sum is accumulated in float32 or wider and then has `param`'s shape and dtype. A layer whose
    backward gives an array where a factor could stand has given the gradient itself.

    Cost: 2nkj flops for an `Outer` of n rows, n k for the others.
    """
    if isinstance(factor, Chunked):
        return factor.read(gradient, param)
    if not isinstance(factor, Factor):
        return factor
    if param.ndim > factor.rank:  # made inside `Repeat`: one factor for each of the stacked params
        return jax.vmap(gradient)(factor, param)
    acc = accumulator(factor.dz.dtype)
    match factor:
        case Outer(x, dz):
            rows = tuple(range(x.ndim - 1))
            total = lax.dot_general(x, dz, ((rows, rows), ((), ())), preferred_element_type=acc)
        case Total(dz):
            total = jnp.sum(dz, tuple(range(dz.ndim - 1)), dtype=acc)
        case Scaled(x, dz):
            total = jnp.sum(x.astype(acc) * dz.astype(acc), tuple(range(dz.ndim - 1)))
        case Rows(index, dz):
            safe = jnp.where(index < 0, param.shape[0], index)  # negative indices would wrap around
            total = jnp.zeros(param.shape, acc).at[safe].add(dz.astype(acc), mode="drop")
    return total.astype(param.dtype)


def unread(factor: Any, param: Any, *leaves: Any) -> Any:
    """Give the factor itself: `backward(..., read=unread)` returns a value to keep, replay, or read later."""
    return factor


def join(factors: Any, param: Any) -> Any:
    """Join the factors of several uses of one param, stacked on axis 0, into one factor.

    The uses become an axis among the summed ones, after the examples' axis, as if they were tokens; so
    every reader of the joined factor is right, cross terms between the uses included.
    """
    if not is_factor(factors):
        return jnp.sum(factors, 0)
    if param.ndim > factors.rank:  # the stacked axis of the params stays first
        return jax.vmap(join, (1, 0))(factors, param)
    rows = factors.index.ndim if isinstance(factors, Rows) else factors.dz.ndim - 1
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, min(1, rows - 1)), factors)
