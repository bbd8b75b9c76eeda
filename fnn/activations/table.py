"""The activations: a table of functions, their derivatives, and the side that each derivative reads.

The numerics are in piecewise, smooth, weighted and normal.py, every derivative right under its value.
Measured on a CPU over every finite number (`python -m experiments.bench.activations`), all within:

    float16, bfloat16   0.501 ulp, all but correctly rounded; derivatives read from a rounded output 1.3
    float32             5.1 ulp (tanh 4.4, by XLA), derivatives 6.1, next to their roots too
    float64             6e-16, likewise

where XLA on a CPU takes subnormal float32, bfloat16 and float64 numbers for zero in arithmetic: there the
error is up to twice the smallest normal number. Selections (relu and its like) pass them through.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from jax import Array

from fnn.activations import normal, piecewise, smooth, weighted
from fnn.activations.layer import Activation as Activation
from fnn.activations.layer import Softmax as Softmax
from fnn.activations.layer import activation as activation
from fnn.activations.layer import wide as wide
from fnn.errors import InputError


@dataclass(frozen=True)
class _With:
    """f(x, parameter) as a function of x; unlike a partial it equals another of the same f and parameter."""

    f: Callable[[Array, float], Array]
    parameter: float

    def __post_init__(self) -> None:
        vars(self).update(__doc__=self.f.__doc__)

    def __call__(self, x: Array) -> Array:
        return self.f(x, self.parameter)


def leaky_relu_with(slope: float = 0.01) -> Activation:
    """Make the activation x where x > 0, else slope * x; `leaky_relu` has the slope 0.01.

    Args:
        slope: a finite number >= 0.

    Raises:
        InputError: for a negative slope, with which the output would not tell the sign of the input.

    >>> import jax.numpy as jnp
    >>> print(leaky_relu_with(0.25)(jnp.array([-1.0, 2.0])))
    [-0.25  2.  ]
    """
    if not 0 <= slope < inf:
        raise InputError(
            "leaky_relu", "a finite slope >= 0", repr(slope), "fnn.activations.leaky_relu_with(slope=0.01)"
        )
    name = "leaky_relu" if slope == 0.01 else f"leaky_relu(slope={slope})"
    f, df = _With(piecewise.leaky_relu, slope), _With(piecewise.d_leaky_relu, slope)
    return Activation(name, f, df, "output")


def elu_with(alpha: float = 1.0) -> Activation:
    """Make the activation x where x > 0, else alpha (exp(x) - 1); `elu` has the alpha 1.

    Args:
        alpha: a finite number.

    Raises:
        InputError: where alpha is not finite.

    >>> import jax.numpy as jnp
    >>> [round(y, 4) for y in elu_with(0.5)(jnp.array([-1.0, 2.0])).tolist()]
    [-0.3161, 2.0]
    """
    if not isfinite(alpha):
        raise InputError("elu", "a finite alpha", repr(alpha), "fnn.activations.elu_with(alpha=1.0)")
    name = "elu" if alpha == 1 else f"elu(alpha={alpha})"
    return Activation(name, _With(smooth.elu, alpha), _With(smooth.d_elu, alpha), "input")


def celu_with(alpha: float = 1.0) -> Activation:
    """Make the activation x where x > 0, else alpha (exp(x / alpha) - 1); `celu` has the alpha 1.

    Args:
        alpha: a finite number > 0.

    Raises:
        InputError: where alpha is not finite, or not > 0.

    >>> import jax.numpy as jnp
    >>> [round(y, 4) for y in celu_with(2.0)(jnp.array([-1.0, 2.0])).tolist()]
    [-0.7869, 2.0]
    """
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
identity: Activation =     _row(piecewise.identity,     None,                     "neither")
relu: Activation =         _row(piecewise.relu,         piecewise.d_relu,         "output")  # y tells x > 0
leaky_relu: Activation =   leaky_relu_with(slope=0.01)  # output: likewise
relu_squared: Activation = _row(piecewise.relu_squared, piecewise.d_relu_squared, "input")   # y overflows
relu6: Activation =        _row(piecewise.relu6,        piecewise.d_relu6,        "output")  # y = x inside
hard_tanh: Activation =    _row(piecewise.hard_tanh,    piecewise.d_hard_tanh,    "output")  # y = x inside
hard_sigmoid: Activation = _row(piecewise.hard_sigmoid, piecewise.d_hard_sigmoid, "input")   # y rounds to 1
hard_silu: Activation =    _row(piecewise.hard_silu,    piecewise.d_hard_silu,    "input")   # two x for a y
elu: Activation =          elu_with(alpha=1.0)     # input: y rounds to -alpha
celu: Activation =         celu_with(alpha=1.0)    # input: likewise
selu: Activation =         _row(smooth.selu,            smooth.d_selu,            "input")   # likewise
sigmoid: Activation =      _row(smooth.sigmoid,         smooth.d_sigmoid,         "input")   # y rounds to 1
tanh: Activation =         _row(smooth.tanh,            smooth.d_tanh,            "input")   # y rounds to 1
softsign: Activation =     _row(smooth.softsign,        smooth.d_softsign,        "input")   # y rounds to 1
softplus: Activation =     _row(smooth.softplus,        smooth.d_softplus,        "output")  # 1 - exp(-y)
log_sigmoid: Activation =  _row(smooth.log_sigmoid,     smooth.d_log_sigmoid,     "output")  # 1 - exp(y)
silu: Activation =         _row(weighted.silu,          weighted.d_silu,          "input")   # two x for a y
mish: Activation =         _row(weighted.mish,          weighted.d_mish,          "input")   # likewise
gelu: Activation =         _row(normal.gelu,            normal.d_gelu,            "input")   # likewise
gelu_tanh: Activation =    _row(normal.gelu_tanh,       normal.d_gelu_tanh,       "input")   # likewise
softmax: Softmax =         Softmax()
