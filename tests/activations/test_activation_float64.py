"""Float64 against 500 decimal digits: values written as in a textbook, derivatives by their differences."""

from collections.abc import Callable
from decimal import Decimal as D
from decimal import localcontext
from functools import cache

import jax
import numpy as np
import pytest

from fnn.activations import table as activation
from tests.activations.activation_truth import ALPHA, LAMBDA, ROOTS, derivative

DIGITS, STEP = 400, D("1e-40")


@cache
def pi() -> D:
    """Machin: π = 16 arctan(1/5) - 4 arctan(1/239)."""

    def arctan_of_inverse(n: int) -> D:
        power, total, k = 1 / D(n), D(0), 0
        while abs(power) > D(10) ** -(DIGITS + 5):
            total, power, k = total + power / (2 * k + 1), -power / (n * n), k + 1
        return total

    return 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)


def normal_cdf(x: D) -> D:
    """Φ(x) = 1/2 + φ(x) (x + x³/3 + x⁵/(3·5) + ...)."""
    term, total, k = x, x, 1
    while abs(term) > D(10) ** -DIGITS:
        k += 2
        term *= x * x / k
        total += term
    return D("0.5") + (-x * x / 2).exp() / (2 * pi()).sqrt() * total


def sigmoid(x: D) -> D:
    return 1 / (1 + (-x).exp())


def tanh(x: D) -> D:
    return 2 * sigmoid(2 * x) - 1


def softplus(x: D) -> D:
    return (1 + x.exp()).ln()


def elu(x: D) -> D:
    return x if x > 0 else x.exp() - 1


VALUES: dict[str, Callable[[D], D]] = {
    "elu": elu,
    "selu": lambda x: D(LAMBDA) * x if x > 0 else D(LAMBDA) * D(ALPHA) * elu(x),
    "gelu": lambda x: x * normal_cdf(x) if abs(x) < 50 else max(x, D(0)),
    "gelu_tanh": lambda x: (
        x / 2 * (1 + tanh((2 / pi()).sqrt() * (x + D("0.044715") * x**3))) if abs(x) < 50 else max(x, D(0))
    ),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * tanh(softplus(x)),
    "softplus": softplus,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "log_sigmoid": lambda x: -softplus(-x),
    "softsign": lambda x: x / (1 + abs(x)),
}
POINTS = np.concatenate(
    [
        np.random.default_rng(0).normal(size=28) * np.repeat([0.1, 1, 5, 20], 7),
        [r + d for r in ROOTS for d in (0, 2e-16, -1e-12, 3e-9, 1e-2)],
        [1e-30, -1e-30, 1e-9, -1e-9, -8.3, -18.5, -37.4, -100.3, -600.1, -706.3, 33.3, 400.7],
    ]
)


def relative(got, truth: list[D]) -> float:
    """The largest relative error where float64 has a normal number for the truth (else its flush to zero)."""
    tiny = D(float(np.finfo(np.float64).tiny))
    return max(
        float(abs(D(float(g)) - t) / abs(t)) if abs(t) > 2 * tiny else float(abs(D(float(g)) - t) > 2 * tiny)
        for g, t in zip(got, truth, strict=True)
    )


@pytest.mark.parametrize("name", VALUES)
def test_float64_is_accurate_to_1e_15(name):
    f, layer = VALUES[name], getattr(activation, name)
    with localcontext() as context:
        context.prec = DIGITS
        values = [f(D(float(x))) for x in POINTS]
        slopes = [(f(D(float(x)) + STEP) - f(D(float(x)) - STEP)) / (2 * STEP) for x in POINTS]
        with jax.enable_x64(True):
            v, d = jax.jit(lambda x: (layer(x), derivative(layer, x)))(POINTS)
            assert v.dtype == d.dtype == np.float64
        figures = relative(v, values), relative(d, slopes)
    print(name, figures)
    assert max(figures) < 1e-15
