"""Activations as layers: elementwise functions with a derivative made by hand, and the softmax."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import Equations, Leaf, Sides
from fnn.errors import InputError, check_cotangent, check_floating, describe


@dataclass(frozen=True, repr=False)
class Activation(Leaf):
    """An elementwise layer y = f(x) without params, and dx = dy f'(x) with a derivative made by hand.

    Args:
        name: how it is printed.
        f: the function, of a floating array; it keeps the shape. It is called with float32 in place of half
            precision, and its result is rounded once.
        df: the derivative, a function of the side that `of` names, called as `f` is; None for JAX's. Where
            it gives booleans they say where the slope is 1, and not 0: there dx is dy itself, and elsewhere
            zero, of an infinite dy too.
        of: "input" or "output", the side that the derivative reads, so that a chain keeps that side alone;
            "neither" for the identity, whose derivative is 1.

    Raises:
        InputError: where x is not floating-point, or f changes its shape.

    >>> half = Activation("half", lambda x: x / 2, lambda x: jnp.full_like(x, 0.5))
    >>> half, half(jnp.array([2.0, 4.0]))
    (half, Array([1., 2.], dtype=float32))
    """

    name: str
    f: Callable[[Array], Array]
    df: Callable[[Array], Array] | None = None
    of: Literal["input", "output", "neither"] = "input"
    cheap = True

    couples_examples: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        # f'[y] is f' computed from the output
        slope = {"input": f"d{{y}} * {self}'({{x}})", "output": f"d{{y}} * {self}'[{{y}}]", "neither": "d{y}"}
        vars(self).update(
            needs=frozenset() if self.of == "neither" else frozenset((self.of,)),
            equations=((f"{{y}} = {self}({{x}})",), (f"d{{x}} = {slope[self.of]}",)),
            __doc__=self.f.__doc__ or type(self).__doc__,
        )

    def __call__(self, x: Array) -> Array:
        """f(x), of x's shape and dtype. Raises InputError unless x is floating-point."""
        check_floating(self, x)
        y = self._value(wide(x)).astype(x.dtype)
        if y.shape != x.shape:
            raise InputError(self, f"an elementwise f, {describe(x)}", describe(y), "fnn.activation(jnp.sin)")
        return y

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[()]:
        """No params."""
        check_floating(self, x)
        return ()

    def forward(self, params: tuple[()], x: Array, key: Any) -> tuple[Array, tuple[()]]:
        """y = f(x)"""
        return self(x), ()

    def recompute(self, params: tuple[()], x: Array, extras: tuple[()]) -> Array:
        """y = f(x)"""
        return self(x)

    def backward(
        self, params: tuple[()], x: Array | None, y: Array | None, extras: tuple[()], dy: Array
    ) -> tuple[tuple[()], Array]:
        """dx = dy f'(x)"""
        side = {"input": x, "output": y, "neither": dy}[self.of]
        assert side is not None, f"{self}: the backward reads the {self.of}"
        check_cotangent(self, dy, side.shape, side.dtype)
        if self.of == "neither":
            return (), dy
        slope = self._derivative(wide(side))
        if slope.dtype == bool:
            return (), jnp.where(slope, dy, 0)
        slope = _floating(slope, wide(side))
        return (), (dy.astype(slope.dtype) * slope).astype(dy.dtype)

    def slope(self, x: Array | None, y: Array | None) -> Array:
        """f'(x), from the side that `of` names, in float32 or wider.

        Args:
            x: the input, of any shape; None where `of` is not "input".
            y: the output, of the same shape; None where `of` is not "output".
        """
        side = y if self.of == "output" else x
        assert side is not None, f"{self}: the derivative reads the {self.of}"
        return _floating(self._derivative(wide(side)), wide(side))

    @cached_property
    def _value(self) -> Callable[[Array], Array]:
        """f, which JAX traces and lowers once for each shape, however often a network has it."""
        return jax.jit(self.f)

    @cached_property
    def _derivative(self) -> Callable[[Array], Array]:
        """df, likewise; JAX's own without one."""
        return jax.jit(self.df or (lambda x: jax.vjp(self.f, x)[1](jnp.ones_like(x))[0]))

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, (self.name, _reference(self.f), _reference(self.df), self.of)

    def __repr__(self) -> str:
        return self.name


class _Reference(NamedTuple):
    """A function by the name that it has in its module: pickle finds no function that `jax.jit` wraps."""

    module: str
    name: str


def _reference(f: Any) -> Any:
    """Return a reference to a function that its module has by its name, anything else itself."""
    module, name = getattr(f, "__module__", None), getattr(f, "__qualname__", None)
    found = getattr(sys.modules.get(module or ""), name or "", None)
    return _Reference(module, name) if module and name and found is f else f


def _loaded(name: str, f: Any, df: Any, of: Any) -> Activation:
    """Make the activation of two functions, or references to them."""
    f, df = (getattr(import_module(g.module), g.name) if isinstance(g, _Reference) else g for g in (f, df))
    return Activation(name, f, df, of)


@dataclass(frozen=True)
class Softmax(Leaf):
    """y = exp(x) / Σ exp(x) along `axis`, with dx = y (dy - Σ dy y) read from the output. No params.

    Half precision is computed in float32 and rounded once. Range: [0, 1], with sum 1; a slice of nothing but
    -inf gives NaN. Source: Bridle 1990.

    Args:
        axis: the axis along which the sum is taken.

    Raises:
        InputError: where x is not floating-point, or does not have the axis.

    >>> print(Softmax()(jnp.zeros((1, 4))))
    [[0.25 0.25 0.25 0.25]]
    """

    axis: int = -1
    cheap = True
    needs: ClassVar[Sides] = frozenset(("output",))
    equations: ClassVar[Equations | None] = (
        ("{y} = softmax({x})",),
        ("d{x} = {y} * (d{y} - rowsum(d{y} * {y}))",),
    )

    def __post_init__(self) -> None:
        vars(self).update(couples_examples=False if self.axis == -1 else None)  # another may be the examples'

    def __call__(self, x: Array) -> Array:
        """exp(x) / Σ exp(x). Raises InputError unless x is floating-point and has the axis."""
        check_floating(self, x)
        if not -x.ndim <= self.axis < x.ndim:
            fix = "fnn.softmax" if x.ndim else "x.reshape(1)"
            raise InputError(self, f"x with an axis {self.axis}", describe(x), fix)
        return jax.nn.softmax(wide(x), self.axis).astype(x.dtype)

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[()]:
        """No params."""
        check_floating(self, x)
        return ()

    def forward(self, params: tuple[()], x: Array, key: Any) -> tuple[Array, tuple[()]]:
        """y = exp(x) / Σ exp(x)"""
        return self(x), ()

    def recompute(self, params: tuple[()], x: Array, extras: tuple[()]) -> Array:
        """y = exp(x) / Σ exp(x)"""
        return self(x)

    def backward(
        self, params: tuple[()], x: Array | None, y: Array, extras: tuple[()], dy: Array
    ) -> tuple[tuple[()], Array]:
        """dx = y (dy - Σ dy y)"""
        check_cotangent(self, dy, y.shape, y.dtype)
        p, dp = wide(y), wide(dy)
        return (), (p * (dp - jnp.sum(dp * p, self.axis, keepdims=True))).astype(dy.dtype)

    def __repr__(self) -> str:
        return "softmax" if self.axis == -1 else f"softmax(axis={self.axis})"


def _floating(slope: Array, side: Array) -> Array:
    """Return slopes that a derivative gave as booleans or integers in the dtype of its side."""
    return slope if jnp.issubdtype(slope.dtype, jnp.floating) else slope.astype(side.dtype)


def wide(x: Array) -> Array:
    """Return half precision as float32."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def activation(
    f: Callable[[Array], Array],
    df: Callable[[Array], Array] | None = None,
    of: Literal["input", "output"] = "input",
) -> Activation:
    """Make an activation of an elementwise f and its derivative, a function of the input or of the output.

    Two are equal where f and df are the same objects. A lambda written inline equals no other: a jitted
    function that takes the net as a static argument compiles anew for each, and the net cannot be pickled.
    Name the function in a module.

    Args:
        f: the function, of a floating array; it keeps the shape.
        df: the derivative, a function of the side that `of` names; None for JAX's. Booleans are slopes of 1
            and 0, as for `fnn.activations.Activation`.
        of: "input" or "output", the side that the derivative reads and a chain keeps.

    Returns:
        an `Activation` with the name of `f`.

    Raises:
        InputError: where `of` is no side, or is the output and there is no `df`.

    >>> import jax.numpy as jnp
    >>> activation(jnp.tanh, lambda y: 1 - y**2, of="output")
    tanh
    """
    if of not in ("input", "output"):
        raise InputError(
            "activation", 'of "input" or "output"', repr(of), 'fnn.activation(f, df, of="input")'
        )
    if df is None and of == "output":
        raise InputError("activation", "df, a function of y", "None", 'fnn.activation(f, df, of="output")')
    return Activation(getattr(f, "__name__", repr(f)), f, df, of)
