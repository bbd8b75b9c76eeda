"""Readers: pure functions of a factor, and the properties that they declare.

A reader's rule is written for one factor in its plain form: `Outer(x (n, t, k), dz (n, t, j))`, `Total(dz (n,
t, j))`, `Rows(index (n, t), dz (n, t, j))` or `Examples(g (n, *shape))`, for n examples of t tokens (one
where an example has no token axis). The `Reader` around the rule converts every factor that a backward pass
can make to that form: stacked axes of `Repeat`, further token axes, other types, chunks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, Literal, TypeAlias

import jax
from jaxtyping import Array

from fnn.chunks import over_chunks
from fnn.errors import InputError, describe
from fnn.factors import Chunked, Examples, Factor, Form
from fnn.sharding import as_cotangent, reshaped
from fnn.summed import summed

Rule = Callable[..., Any]  # rule(factor, param, *leaves) -> reading
Joins = Literal["sum", "concatenate", "gradient"]


@dataclass(frozen=True, repr=False)
class Reader:
    """A rule and its properties, called as `reader(factor, param, *leaves)`.

    Args:
        rule: `rule(factor, param, *leaves)`, for a factor in its plain form and the params of one layer.
        joins: how the readings of parts of the examples make up that of all. "sum": they are added;
            "concatenate": they are concatenated on axis 0, that of the examples; "gradient": the rule is
            called with the gradient instead of the factor; None: the rule needs all examples at once.
        linear: whether the readings of several uses of a param can be added.
        sliced: whether axis 0 of the leaves is that of the examples.
        plain: False for a rule that accepts every factor, stacked or of any type, and gradients.
        readers: the readers that `zip_readers` runs.
        like: "param": the last axes of the reading are the param's; "order": the order of the param's
            elements does not matter, and readings of some and of the other elements can be added; "rows",
            "columns": matrices (k, k), (j, j), of the two sides of a param (k, j); "factor": a factor of the
            param; a tree of these for a reading that is a tree. With None, a param used in another layout is
            read by its example gradients.

    Raises:
        InputError: on a call, where a layer made an array instead of a factor, or no axis of examples.

    >>> import jax.numpy as jnp
    >>> from fnn.factors import Outer
    >>> largest = Reader(lambda factor, param: jnp.abs(factor.dz).max((1, 2)), joins="concatenate")
    >>> print(largest(Outer(jnp.ones((2, 3)), jnp.array([[1.0, -4.0], [2.0, 3.0]])), jnp.zeros((3, 2))))
    [4. 3.]
    """

    rule: Rule
    joins: Joins | None = None
    linear: bool = False
    sliced: bool = False
    plain: bool = True
    readers: tuple["Reader", ...] = ()
    like: Any = None

    def __post_init__(self) -> None:
        rule = self.rule
        vars(self).update(__doc__=rule.__doc__, __module__=rule.__module__, __wrapped__=rule)

    def __repr__(self) -> str:
        return self.name.lstrip("_")

    @property
    def name(self) -> str:
        """The name of the rule, for error messages."""
        return getattr(self.rule, "__name__", "reader")

    @property
    def by_row(self) -> bool:
        """Whether a part may end within an example: a linear sum over examples is one over rows."""
        return (
            self.joins in ("sum", "gradient")
            and (self.linear or self.joins == "gradient")
            and not self.sliced
        )

    def __call__(self, factor: Factor | Array, param: Any, *leaves: Any) -> Any:
        """Return the reading of a factor of `param`; `leaves` are those of the further trees."""
        if not self.plain:
            return self.rule(factor, param, *leaves)
        if self.joins == "gradient":
            return self.rule(gradient(factor, param), param, *leaves)
        if not isinstance(factor, Factor):
            fix = "fnn.backward(net, params, residuals, dy)"
            raise InputError(self.name, "a factor, such as fnn.factors.Outer(x, dz)", describe(factor), fix)
        if param.ndim > factor.rank:
            return jax.vmap(self)(factor, param, *leaves)
        if isinstance(factor, Chunked) and self.joins:
            return read_chunks(self, factor, param, *leaves)
        own = factor.read(self, param, *leaves)
        return self.rule(with_tokens(factor.form()), param, *leaves) if own is NotImplemented else own


Read: TypeAlias = Reader | Rule


def as_reader(read: Read) -> Reader:
    """Return a `Reader`: a bare rule is wrapped, a `functools.partial` of a reader keeps its properties.

    Raises:
        InputError: where `read` is not callable, or, on a call, where a bare rule returns None for a form.
    """
    if isinstance(read, Reader):
        return read
    if isinstance(read, partial) and isinstance(read.func, Reader):
        return replace(read.func, rule=partial(read.func.rule, *read.args, **read.keywords))
    if not callable(read):
        raise InputError(
            "backward", "a reader, a function of (factor, param)", describe(read), "fnn.gradient"
        )

    @wraps(read)
    def rule(factor: Form, param: Any, *leaves: Any) -> Any:
        reading = read(factor, param, *leaves)
        if reading is None:
            got = f"None for {type(factor).__name__}"
            fix = f"case fnn.factors.{type(factor).__name__}(): ..."
            raise InputError("read", "a reading of every form of factor", got, fix)
        return reading

    return Reader(rule)


def reader(
    joins: Joins | None = None, *, linear: bool = False, sliced: bool = False, like: Any = None
) -> Callable[[Rule], Reader]:
    """Return a decorator that makes a `Reader` of a rule.

    Args: `joins`, `linear`, `sliced` and `like` are those of `Reader`.

    >>> reader("sum")(lambda factor, param: factor.dz.sum((0, 1))).joins
    'sum'
    """
    return lambda rule: Reader(rule, joins, linear, sliced, like=like)


def zip_readers(*reads: Read) -> Reader:
    """Return a reader that runs several readers in one pass, and returns the tuple of their readings.

    Args: `reads`, the readers, all called with the same leaves. `unzip` splits a tree of such readings.

    >>> import jax.numpy as jnp
    >>> from fnn.factors import Total
    >>> print(zip_readers(gradient, gradient)(Total(jnp.ones((2, 1))), jnp.zeros(1)))
    (Array([2.], dtype=float32), Array([2.], dtype=float32))
    """
    readers = tuple(map(as_reader, reads))

    def read(factor: Factor | Array, param: Any, *leaves: Any) -> tuple[Any, ...]:
        return tuple(one(factor, param, *leaves) for one in readers)

    return Reader(read, plain=False, readers=readers)


def with_tokens(form: Form) -> Form:
    """Return a form with one axis of tokens: (n, ..., k) as (n, t, k), an index (n, ...) as (n, t)."""
    if isinstance(form, Examples):
        return form
    batch = form.dz.shape[:-1]
    if not batch:
        raise InputError("reader", "examples on axis 0, dz (n, ..., j)", f"dz {describe(form.dz)}", "x[None]")

    def flat(leaf: Any) -> Any:
        rest = range(len(batch), leaf.ndim)
        shape = (batch[0], math.prod(batch[1:]), *(leaf.shape[axis] for axis in rest))
        return reshaped(leaf, shape, (leaf, 0), (leaf, None), *((leaf, axis) for axis in rest))

    return jax.tree.map(flat, form)


def read_chunks(read: Reader, factor: Chunked, param: Any, *leaves: Any) -> Any:
    """Read a factor in chunks. Args: `read`, the reader; `factor`, of `param`; `leaves`, as in a call."""
    if read.joins == "gradient":
        return read(gradient(factor, param), param, *leaves)

    def chunk(shared: Any, rows: Any, widen: Callable[[Any], Any]) -> tuple[Any, Any]:
        (own, param, whole), (rows, cut) = shared, rows
        reading = read(factor.make(own, rows), widen(param), *(cut or whole))
        return (reading, None) if read.joins == "sum" else (None, reading)

    rows, whole = (factor.rows, leaves if read.sliced else ()), () if read.sliced else leaves
    summed, each = over_chunks(chunk, (factor.shared, param, whole), rows, factor.size)
    return summed if read.joins == "sum" else each


def _gradient(factor: Factor | Array, param: Any) -> Any:
    """Sum a factor to the gradient of `param`, in its shape and dtype: the default reader.

    The sum is accumulated in float32 or wider. A gradient instead of a factor is returned as it is.
    Cost: 2nkj flops for an `Outer` of n rows, n k for the others.

    >>> import jax.numpy as jnp
    >>> from fnn.factors import Total
    >>> gradient(Total(jnp.array([[1.0], [2.0]])), jnp.zeros(1))
    Array([3.], dtype=float32)
    """
    if not isinstance(factor, Factor):
        return factor
    if isinstance(factor, Chunked):
        return read_chunks(gradient, factor, param)
    if param.ndim > factor.rank:  # made inside `Repeat`: one factor for each of the stacked params
        return jax.vmap(gradient)(factor, param)
    own = factor.read(gradient, param)
    if own is not NotImplemented:
        return own
    total = summed(factor.form(), param)
    return as_cotangent(total.astype(param.dtype), param)


def _as_factors(factor: Factor | Array, param: Any, *leaves: Any) -> Any:
    """Return the factor itself, to keep it or to read it later.

    >>> import jax.numpy as jnp
    >>> from fnn.factors import Total
    >>> as_factors(Total(jnp.ones((2, 1))), jnp.zeros(1)).dz.shape
    (2, 1)
    """
    return factor


gradient: Reader = Reader(_gradient, "sum", linear=True, plain=False)
as_factors: Reader = Reader(_as_factors, plain=False)
