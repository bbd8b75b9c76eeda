"""Activations built from one exponential, each with its derivative right under it.

Every formula is written in e = exp(-|x|), which lies in [0, 1]: nothing overflows, so no branch of
a selection is ever infinite, and derivatives of the formulas are finite too. Three habits recur:

- e comes from `decay` as a product, for e * c may be a normal number where e alone has underflowed
  (silu'(-90) in float32).
- A derivative that has a root is written around r, the number of the dtype nearest to the root. With
  t = x - r (exact close by) all large terms have t's sign, so nothing cancels; what the whole
  expression is at r itself, the tiny `rest`, is added last. (XLA folds (x - a) - b into x - (a + b).)
- `jnp.where(x > 0, ...)` rather than `abs` and `maximum`, whose derivatives at 0 are means.
"""

import math

import jax.numpy as jnp
from jax import Array, lax

from fnn.activations.piecewise import positive


def tail(x: Array, floor: float = -1000.0) -> Array:
    """-|x|, held at `floor`, where exp is 0 in every dtype: so an infinite x makes no inf * 0."""
    low = jnp.where(x > 0, -x, x)
    return jnp.where(low < floor, floor, low)


def decay(low: Array) -> tuple[Array, Array]:
    """Two factors of e = exp(low), low <= 0: multiplied one by one, e * c underflows only if it must."""
    far = low < -64
    return jnp.exp(low + jnp.where(far, 64.0, 0.0)), jnp.where(far, math.exp(-64), jnp.ones_like(low))


def expm1(x: Array, exp_x: Array) -> Array:
    """exp(x) - 1, by its Taylor series close to 0. XLA's own is 5 ulp off in float32, this one 2."""
    near = jnp.abs(x) < 0.5
    z = jnp.where(near, x, 0.0)
    series = jnp.zeros_like(z)
    for k in range(16 if x.dtype == jnp.float64 else 9, 1, -1):
        series = z * (series + 1 / math.factorial(k))
    return jnp.where(near, z + z * series, exp_x - 1)


def negative(x: Array) -> Array:
    """x where x <= 0, else 0: the argument of a branch that is taken on the left alone."""
    return jnp.where(x > 0, 0.0, x)


def elu(x: Array, alpha: float) -> Array:
    """x where x > 0, else alpha (exp(x) - 1)."""
    left = negative(x)
    return jnp.where(positive(x), x, alpha * expm1(left, jnp.exp(left)))


def d_elu(x: Array, alpha: float) -> Array:
    """1 where x > 0, else alpha exp(x)."""
    return jnp.where(positive(x), 1.0, alpha * jnp.exp(negative(x)))


def celu(x: Array, alpha: float) -> Array:
    """x where x > 0, else alpha (exp(x / alpha) - 1)."""
    left = negative(x) / alpha
    return jnp.where(positive(x), x, alpha * expm1(left, jnp.exp(left)))


def d_celu(x: Array, alpha: float) -> Array:
    """1 where x > 0, else exp(x / alpha)."""
    return jnp.where(positive(x), 1.0, jnp.exp(negative(x) / alpha))


_SCALE, _SCALE_ALPHA = 1.0507009873554805, 1.7580993408473768


def selu(x: Array) -> Array:
    """scale * elu(x, alpha), with the two constants that keep mean 0 and variance 1 (arXiv:1706.02515)."""
    left = negative(x)
    return jnp.where(positive(x), _SCALE * x, _SCALE_ALPHA * expm1(left, jnp.exp(left)))


def d_selu(x: Array) -> Array:
    """scale where x > 0, else scale * alpha * exp(x)."""
    return jnp.where(positive(x), _SCALE, _SCALE_ALPHA * jnp.exp(negative(x)))


def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + exp(-x))."""
    return lax.logistic(x)


def d_sigmoid(x: Array) -> Array:
    """σ(x) σ(-x) = e / (1 + e)²."""
    e = jnp.exp(tail(x))
    return e / (1 + e) ** 2


def tanh(x: Array) -> Array:
    """(1 - exp(-2x)) / (1 + exp(-2x)), by XLA."""
    return jnp.tanh(x)


def d_tanh(x: Array) -> Array:
    """1 - tanh(x)² = 1 / cosh(x)² = 4e² / (1 + e²)²."""
    f, g = decay(2 * tail(x))
    return 4 * f / (1 + f * g) ** 2 * g


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log(1 + e)."""
    return jnp.where(x > 0, x, 0.0) + jnp.log1p(jnp.exp(tail(x)))


def d_softplus(y: Array) -> Array:
    """σ(x) = 1 - exp(-y)."""
    return -expm1(-y, jnp.exp(-y))


def log_sigmoid(x: Array) -> Array:
    """log σ(x) = -log(1 + exp(-x))."""
    return -softplus(-x)


def d_log_sigmoid(y: Array) -> Array:
    """σ(-x) = 1 - exp(y)."""
    return -expm1(y, jnp.exp(y))


def softsign(x: Array) -> Array:
    """x / (1 + |x|)."""
    most = float(jnp.finfo(x.dtype).max)  # stands for infinity, whose quotient would be NaN
    x = jnp.where(x > most, most, jnp.where(x < -most, -most, x))
    return x / (1 + jnp.where(x > 0, x, -x))


def d_softsign(x: Array) -> Array:
    """1 / (1 + |x|)², squared last: the square of x may overflow."""
    return (1 / (1 + jnp.where(x > 0, x, -x))) ** 2


def silu(x: Array) -> Array:
    """x σ(x)."""
    low = tail(x)
    f, g = decay(low)
    return jnp.where(x > 0, x, low * f * g) / (1 + f * g)


# For float32 and for float64: the root of 1 + exp(x) + x, and the rest there.
_SILU = (-1.2784645557403564, -1.65935526353033812e-8), (-1.2784645427610737, 1.39953439128966862e-16)


def d_silu(x: Array) -> Array:
    """σ(x) (1 + x σ(-x)): on the left e (1 + e + x) / (1 + e)², on the right (1 + e + e x) / (1 + e)²."""
    low = tail(x)
    f, g = decay(low)
    e = f * g
    r, rest = _SILU[x.dtype == jnp.float64]
    t, w = low - r, math.exp(r)
    left = t + w * expm1(t, e * (1 / w)) + rest  # 1 + e + x
    return jnp.where(x > 0, 1 + e - e * low, f * left * g) / (1 + e) ** 2


def mish(x: Array) -> Array:
    """x tanh(softplus(x)), where tanh(log(1 + w)) = w (w + 2) / (w (w + 2) + 2) with w = exp(x)."""
    low = tail(x)
    f, g = decay(low)
    e = f * g
    numerator = jnp.where(x > 0, x * (1 + 2 * e), low * f * (e + 2) * g)
    return numerator / jnp.where(x > 0, 1 + 2 * e * (1 + e), 2 + e * (2 + e))


# The root of the long factor, and the rest there.
_MISH = (-1.1924312114715576, 1.95054427914457516e-8), (-1.1924312145154952, 3.10689048095461088e-16)


def d_mish(x: Array) -> Array:
    """w (w³ + 4w² + 6w + 4 + 4x (1 + w)) / (w² + 2w + 2)² with w = exp(x); to the right divided by w⁴."""
    low = tail(x)
    f, g = decay(low)
    e = f * g
    r, rest = _MISH[x.dtype == jnp.float64]
    t, w = low - r, math.exp(r)
    de = w * expm1(t, e * (1 / w))  # e - w
    left = de * (e * e + (w + 4) * e + (w * w + 4 * w + 6 + 4 * r)) + 4 * t * (1 + e) + rest
    right = 1 + e * (4 + e * (6 + 4 * e - 4 * low * (1 + e)))
    return jnp.where(x > 0, right, f * left * g) / jnp.where(x > 0, 1 + 2 * e * (1 + e), 2 + e * (2 + e)) ** 2
