"""Activations as layers: elementwise functions with a derivative made by hand, and the softmax."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import Leaf
from fnn.errors import InputError, check_cotangent, check_floating, describe


@dataclass(frozen=True, repr=False)
class Activation(Leaf):
    """An elementwise layer y = f(x) without params, and dx = dy f'(x) with a derivative made by hand.

    `df` is the derivative as a function of the side named by `of`, so that a chain keeps that side alone.
    Without `df` it is JAX's; `of="neither"` is for the identity. Both are called with float32 in place of
    half precision, and what they make is rounded once.
    """

    name: str
    f: Callable[[Array], Array]
    df: Callable[[Array], Array] | None = None
    of: Literal["input", "output", "neither"] = "input"
    cheap = True

    couples_examples = False

    def __post_init__(self):
        # f'[y] is f' computed from the output
        slope = {"input": f"d{{y}} * {self}'({{x}})", "output": f"d{{y}} * {self}'[{{y}}]", "neither": "d{y}"}
        vars(self).update(
            needs=frozenset() if self.of == "neither" else frozenset((self.of,)),
            equations=((f"{{y}} = {self}({{x}})",), (f"d{{x}} = {slope[self.of]}",)),
        )

    def __call__(self, x: Array) -> Array:
        """f(x), of x's shape and dtype. Raises InputError unless x is floating-point."""
        check_floating(self, x)
        y = self.f(wide(x)).astype(x.dtype)
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
        slope = self.slope(x, y)
        return (), (dy.astype(slope.dtype) * slope).astype(dy.dtype)

    def slope(self, x: Array | None, y: Array | None) -> Array:
        """f'(x), from the side that `of` names, in float32 or wider."""
        side = y if self.of == "output" else x
        assert side is not None, f"{self}: the derivative reads the {self.of}"
        side = wide(side)
        return jax.vjp(self.f, side)[1](jnp.ones_like(side))[0] if self.df is None else self.df(side)

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

    Half precision is computed in float32 and rounded once. A slice of nothing but -inf gives NaN.
    """

    axis: int = -1
    cheap = True
    needs = frozenset(("output",))
    equations = ("{y} = softmax({x})",), ("d{x} = {y} * (d{y} - rowsum(d{y} * {y}))",)

    def __post_init__(self):
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


def wide(x: Array) -> Array:
    """Return half precision as float32."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def activation(
    f: Callable[[Array], Array],
    df: Callable[[Array], Array] | None = None,
    of: Literal["input", "output"] = "input",
) -> Activation:
    """Make an activation of an elementwise f and its derivative, a function of the input or of the output.

    Without `df` the derivative is JAX's. Two are equal where f and df are the same objects. A lambda written
    inline equals no other: a jitted function that takes the net as a static argument compiles anew for each,
    and the net cannot be pickled. Name the function in a module. Raises InputError where `of` is no side, or
    is the output and there is no `df`.

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
