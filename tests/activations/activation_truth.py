"""The truth about every activation: its value and derivative in NumPy's float64, and the error in ulp."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy import cosh, exp, expm1, log1p, sqrt, tanh, where

np_erfc = np.vectorize(math.erfc, otypes=[np.float64])
LAMBDA, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def sigmoid(x):
    return where(x > 0, 1 / (1 + exp(-abs(x))), exp(-abs(x)) / (1 + exp(-abs(x))))


def d_sigmoid(x):
    return exp(-abs(x)) / (1 + exp(-abs(x))) ** 2


def softplus(x):
    return np.maximum(x, 0) + log1p(exp(-abs(x)))


def cdf(x):
    return np_erfc(-x / sqrt(2)) / 2


def pdf(x):
    return exp(-x * x / 2) / sqrt(2 * np.pi)


def cubic(x):
    return sqrt(8 / np.pi) * (x + 0.044715 * x**3)


def d_cubic(x):
    return sqrt(8 / np.pi) * (1 + 3 * 0.044715 * x**2)


def d_mish(x):
    s = softplus(x)
    return tanh(s) + np.clip(x, -800, 800) * sigmoid(x) / cosh(np.minimum(s, 350)) ** 2


def d_gelu_tanh(x):
    x = np.clip(x, -30, 30)
    return sigmoid(cubic(x)) + x * d_sigmoid(cubic(x)) * d_cubic(x)


def elu(x, alpha):
    return where(x > 0, x, alpha * expm1(np.minimum(x, 0)))


def d_elu(x, alpha):
    return where(x > 0, 1, alpha * exp(np.minimum(x, 0)))


ROOTS = (-1.2784645427610738, -1.1924312145154952, -0.7517915246935645, -0.752461422071016, -1.5)

Function = Callable[[np.ndarray], np.ndarray]
TRUTH: dict[str, tuple[Function, Function]] = {
    "identity": (lambda x: x, lambda x: 0 * x + 1),
    "relu": (lambda x: where(x > 0, x, 0), lambda x: where(x > 0, 1.0, 0)),
    "leaky_relu": (lambda x: where(x > 0, x, 0.01 * x), lambda x: where(x > 0, 1, 0.01)),
    "relu_squared": (lambda x: where(x > 0, x * x, 0), lambda x: where(x > 0, 2 * x, 0)),
    "elu": (lambda x: elu(x, 1.0), lambda x: d_elu(x, 1.0)),
    "selu": (lambda x: LAMBDA * elu(x, ALPHA), lambda x: LAMBDA * d_elu(x, ALPHA)),
    "celu": (lambda x: elu(x, 1.0), lambda x: d_elu(x, 1.0)),
    "gelu": (lambda x: x * cdf(x), lambda x: cdf(x) + np.clip(x, -99, 99) * pdf(np.clip(x, -99, 99))),
    "gelu_tanh": (lambda x: x * sigmoid(cubic(np.clip(x, -99, 99))), d_gelu_tanh),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
    "mish": (lambda x: x * tanh(softplus(x)), d_mish),
    "softplus": (softplus, sigmoid),
    "sigmoid": (sigmoid, d_sigmoid),
    "tanh": (tanh, lambda x: 1 / cosh(np.clip(x, -350, 350)) ** 2),
    "hard_sigmoid": (lambda x: np.clip((x + 3) / 6, 0, 1), lambda x: where(abs(x) < 3, 1 / 6, 0)),
    "hard_silu": (
        lambda x: where(abs(x) < 3, x * (x + 3) / 6, np.maximum(x, 0)),
        lambda x: where(abs(x) < 3, (2 * x + 3) / 6, where(x > 0, 1.0, 0)),
    ),
    "hard_tanh": (lambda x: np.clip(x, -1, 1), lambda x: where(abs(x) < 1, 1.0, 0)),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: where((x > 0) & (x < 6), 1.0, 0)),
    "log_sigmoid": (lambda x: -softplus(-x), lambda x: sigmoid(-x)),
    "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
}

JAX: dict[str, Callable] = {  # the yardstick
    name: getattr(jax.nn, {"hard_silu": "hard_silu", "softsign": "soft_sign"}.get(name, name))
    for name in TRUTH
    if name not in ("relu_squared", "gelu_tanh", "gelu", "softsign")
} | {
    "relu_squared": lambda x: jax.nn.relu(x) ** 2,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "softsign": jax.nn.soft_sign,
}


def every(dtype) -> np.ndarray:
    """Every number of a 16-bit dtype, with 0 in place of infinities and NaN."""
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    return where(np.isfinite(x.astype(np.float32)), x, dtype(0))


def ulps(got, truth: np.ndarray) -> np.ndarray:
    """The error of `got` in units of the last place that its dtype has at the truth; infinite for a NaN.

    Right are an infinity where the truth rounds to one and, as XLA on a CPU takes subnormal inputs and
    results for zero in all dtypes but float16, errors of up to twice the smallest normal number there.
    """
    info = jnp.finfo(got.dtype)
    got, most, tiny = np.asarray(got, np.float64), float(info.max), float(info.tiny)
    _, exponent = np.frexp(np.maximum(abs(truth), tiny))
    unit = np.ldexp(1.0, exponent - 1 - info.nmant)
    with np.errstate(invalid="ignore", over="ignore"):
        error = abs(got - truth) / unit
        error = where(
            abs(truth) >= most * (1 + float(info.eps) / 4),
            where(got == np.sign(truth) * np.inf, 0, error),
            error,
        )
        if info.bits != 16 or info.nexp == 8:
            error = where(abs(got - truth) <= 2 * tiny, 0, error)
    return where(np.isnan(error), np.inf, error)


def dense() -> np.ndarray:
    """Float32 numbers: uniform near 0, all of them next to the roots of derivatives, geometric up to 1e30."""
    far = np.geomspace(1e-37, 1e30, 50_001)
    roots = [np.float32(r) + np.arange(-500, 500) * np.spacing(np.float32(1)) / 2 for r in ROOTS]
    uniform = [np.linspace(-20, 20, 200_001), np.linspace(-120, 120, 100_001)]
    return np.concatenate([*uniform, *roots, far, -far]).astype(np.float32)


def derivative(layer, x):
    """f'(x) end to end: forward, then backward of ones, with the sides that the layer names and no other."""
    y, extras = layer.forward((), x, None)
    x_side, y_side = x if "input" in layer.needs else None, y if "output" in layer.needs else None
    return layer.backward((), x_side, y_side, extras, jnp.ones_like(x))[1]
