"""Activations: the layer, and the one table of rows, each a value, its derivative and the side that it reads.

The numerics are in piecewise.py, smooth.py and normal.py, every derivative right under its value.
Measured on a CPU over every finite number (`python -m experiments.bench.activations`), all within:

    float16, bfloat16   0.501 ulp, all but correctly rounded; derivatives read from a rounded output 1.3
    float32             5.1 ulp (tanh 4.4, by XLA), derivatives 6, next to their roots too
    float64             6e-16, likewise

where XLA on a CPU takes subnormal float32, bfloat16 and float64 numbers for zero in arithmetic: there the
error is up to twice the smallest normal number. Selections (relu and its like) pass them through.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import inf, isfinite
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn.activations import normal, piecewise, smooth
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
            raise InputError(self, f"an elementwise f, {describe(x)}", describe(y), "activation(jnp.sin)")
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
    return _Reference(module, name) if f is not None and found is f else f


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
            raise InputError(
                self, f"x with an axis {self.axis}", describe(x), "fnn.softmax" if x.ndim else "x.reshape(1)"
            )
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
    and the net cannot be pickled. Name the function in a module. Raises InputError where `of` is no side, or is
    the output and there is no `df`.

    >>> import jax.numpy as jnp
    >>> activation(jnp.tanh, lambda y: 1 - y**2, of="output")
    tanh
    """
    if of not in ("input", "output"):
        raise InputError("activation", 'of "input" or "output"', repr(of), 'activation(f, df, of="input")')
    if df is None and of == "output":
        raise InputError("activation", "df, a function of y", "None", 'activation(f, df, of="output")')
    return Activation(getattr(f, "__name__", repr(f)), f, df, of)


@dataclass(frozen=True)
class _With:
    """f(x, parameter) as a function of x; unlike a partial it equals another of the same f and parameter."""

    f: Callable[[Array, float], Array]
    parameter: float

    def __call__(self, x: Array) -> Array:
        return self.f(x, self.parameter)


def leaky_relu_with(slope: float = 0.01) -> Activation:
    """x where x > 0, else slope * x. Raises InputError for a negative slope: y would not tell x's sign."""
    if not 0 <= slope < inf:
        raise InputError(
            "leaky_relu", "a finite slope >= 0", repr(slope), "fnn.activations.leaky_relu_with(slope=0.01)"
        )
    name = "leaky_relu" if slope == 0.01 else f"leaky_relu(slope={slope})"
    f, df = _With(piecewise.leaky_relu, slope), _With(piecewise.d_leaky_relu, slope)
    return Activation(name, f, df, "output")


def elu_with(alpha: float = 1.0) -> Activation:
    """x where x > 0, else alpha (exp(x) - 1)."""
    if not isfinite(alpha):
        raise InputError("elu", "a finite alpha", repr(alpha), "fnn.activations.elu_with(alpha=1.0)")
    name = "elu" if alpha == 1 else f"elu(alpha={alpha})"
    return Activation(name, _With(smooth.elu, alpha), _With(smooth.d_elu, alpha), "input")


def celu_with(alpha: float = 1.0) -> Activation:
    """x where x > 0, else alpha (exp(x / alpha) - 1). Raises InputError unless alpha > 0."""
    if not 0 < alpha < inf:
        raise InputError("celu", "a finite alpha > 0", repr(alpha), "fnn.activations.celu_with(alpha=1.0)")
    name = "celu" if alpha == 1 else f"celu(alpha={alpha})"
    return Activation(name, _With(smooth.celu, alpha), _With(smooth.d_celu, alpha), "input")


def _row(f: Callable[[Array], Array], df: Any, of: Any) -> Activation:
    return Activation(f.__name__, f, df, of)


# The table: value, derivative, side, and why that side. The output is read where it still tells the
# derivative; the input where rounding has wiped that out (1 - y² of a tanh that has become 1), or where two
# inputs share an output. Either way a chain keeps one boundary.
# fmt: off
identity     = _row(piecewise.identity,     None,                     "neither")
relu         = _row(piecewise.relu,         piecewise.d_relu,         "output")  # y > 0 where x > 0
leaky_relu   = leaky_relu_with(slope=0.01)                                     # output: likewise
relu_squared = _row(piecewise.relu_squared, piecewise.d_relu_squared, "input")   # y overflows sooner
relu6        = _row(piecewise.relu6,        piecewise.d_relu6,        "output")  # y = x inside
hard_tanh    = _row(piecewise.hard_tanh,    piecewise.d_hard_tanh,    "output")  # y = x inside
hard_sigmoid = _row(piecewise.hard_sigmoid, piecewise.d_hard_sigmoid, "input")   # y rounds to 1
hard_silu    = _row(piecewise.hard_silu,    piecewise.d_hard_silu,    "input")   # two x for a y
elu          = elu_with(alpha=1.0)                                             # input: y rounds to -alpha
celu         = celu_with(alpha=1.0)                                            # input: likewise
selu         = _row(smooth.selu,            smooth.d_selu,            "input")   # likewise
sigmoid      = _row(smooth.sigmoid,         smooth.d_sigmoid,         "input")   # y rounds to 1
tanh         = _row(smooth.tanh,            smooth.d_tanh,            "input")   # y rounds to 1
softsign     = _row(smooth.softsign,        smooth.d_softsign,        "input")   # y rounds to 1
softplus     = _row(smooth.softplus,        smooth.d_softplus,        "output")  # 1 - exp(-y)
log_sigmoid  = _row(smooth.log_sigmoid,     smooth.d_log_sigmoid,     "output")  # 1 - exp(y)
silu         = _row(smooth.silu,            smooth.d_silu,            "input")   # two x for a y
mish         = _row(smooth.mish,            smooth.d_mish,            "input")   # likewise
gelu         = _row(normal.gelu,            normal.d_gelu,            "input")   # likewise
gelu_tanh    = _row(normal.gelu_tanh,       normal.d_gelu_tanh,       "input")   # likewise
softmax      = Softmax()
