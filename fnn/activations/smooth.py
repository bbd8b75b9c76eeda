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

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.activations.exponentials import decay, difference, exp_minus_1, expm1, negative, tail
from fnn.activations.piecewise import positive


def elu(x: Array, alpha: float) -> Array:
    """x where x > 0, else alpha (exp(x) - 1).

    Derivative: 1 where x > 0, else alpha exp(x). Range: (-alpha, inf) for alpha > 0; -alpha at -inf.
    Source: Clevert, Unterthiner, Hochreiter 2016.

    Args:
        x: a floating array of any shape.
        alpha: the size of the limit at -inf, a number.

    >>> [round(y, 4) for y in elu(jnp.array([-1.0, 2.0]), alpha=1.0).tolist()]
    [-0.6321, 2.0]
    """
    left = negative(x)
    return jnp.where(positive(x), x, alpha * exp_minus_1(left))


def d_elu(x: Array, alpha: float) -> Array:
    """1 where x > 0, else alpha exp(x).

    Args:
        x: the input, a floating array of any shape.
        alpha: as for `elu`.
    """
    return jnp.where(positive(x), 1.0, alpha * jnp.exp(negative(x)))


def celu(x: Array, alpha: float) -> Array:
    """x where x > 0, else alpha (exp(x / alpha) - 1).

    Derivative: 1 where x > 0, else exp(x / alpha), without a jump at 0. Range: (-alpha, inf).
    Source: Barron 2017.

    Args:
        x: a floating array of any shape.
        alpha: the size of the limit at -inf, a number > 0.

    >>> [round(y, 4) for y in celu(jnp.array([-1.0, 2.0]), alpha=2.0).tolist()]
    [-0.7869, 2.0]
    """
    left = negative(x) / alpha
    return jnp.where(positive(x), x, alpha * exp_minus_1(left))


def d_celu(x: Array, alpha: float) -> Array:
    """1 where x > 0, else exp(x / alpha).

    Args:
        x: the input, a floating array of any shape.
        alpha: as for `celu`.
    """
    return jnp.where(positive(x), 1.0, jnp.exp(negative(x) / alpha))


_SCALE, _SCALE_ALPHA = 1.0507009873554805, 1.7580993408473768


def selu(x: Array) -> Array:
    """scale * x where x > 0, else scale * alpha (exp(x) - 1), with scale = 1.0507 and alpha = 1.6733.

    With these constants layers of independent weights keep mean 0 and variance 1.
    Derivative: scale where x > 0, else scale * alpha * exp(x). Range: (-1.7581, inf).
    Source: Klambauer et al. 2017 (arXiv:1706.02515).

    >>> [round(y, 4) for y in selu(jnp.array([-1.0, 2.0])).tolist()]
    [-1.1113, 2.1014]
    """
    left = negative(x)
    return jnp.where(positive(x), _SCALE * x, _SCALE_ALPHA * exp_minus_1(left))


def d_selu(x: Array) -> Array:
    """scale where x > 0, else scale * alpha * exp(x)."""
    return jnp.where(positive(x), _SCALE, _SCALE_ALPHA * jnp.exp(negative(x)))


def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + exp(-x)).

    Derivative: σ(x) σ(-x), at most 1/4. Range: (0, 1).

    >>> [round(y, 4) for y in sigmoid(jnp.array([-1.0, 0.0, 2.0])).tolist()]
    [0.2689, 0.5, 0.8808]
    """
    return lax.logistic(x)


def d_sigmoid(x: Array) -> Array:
    """σ(x) σ(-x) = e / (1 + e)²."""
    e = jnp.exp(tail(x))
    return e / (1 + e) ** 2


def tanh(x: Array) -> Array:
    """(1 - exp(-2x)) / (1 + exp(-2x)), by XLA.

    Derivative: 1 - tanh(x)² = 1 / cosh(x)², at most 1. Range: (-1, 1).
    Source: LeCun et al. 1998, section 4.4.

    >>> [round(y, 4) for y in tanh(jnp.array([-1.0, 2.0])).tolist()]
    [-0.7616, 0.964]
    """
    return jnp.tanh(x)


def d_tanh(x: Array) -> Array:
    """1 - tanh(x)² = 1 / cosh(x)² = (2e / (1 + e²))², squared last: e² underflows where that does not."""
    e = jnp.exp(tail(x))
    return (2 * e / (1 + e * e)) ** 2


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log(1 + e).

    Derivative: σ(x) = 1 - exp(-y). Range: (0, inf); 0 at -inf, x at inf. Source: Dugas et al. 2001.

    >>> [round(y, 4) for y in softplus(jnp.array([-1.0, 2.0])).tolist()]
    [0.3133, 2.1269]
    """
    return jnp.where(x > 0, x, 0.0) + jnp.log1p(jnp.exp(tail(x)))


def d_softplus(y: Array) -> Array:
    """σ(x) = 1 - exp(-y)."""
    return -expm1(-y, jnp.exp(-y))


def log_sigmoid(x: Array) -> Array:
    """log σ(x) = -log(1 + exp(-x)).

    Derivative: σ(-x) = 1 - exp(y). Range: (-inf, 0); x at -inf, 0 at inf.

    >>> [round(y, 4) for y in log_sigmoid(jnp.array([-1.0, 2.0])).tolist()]
    [-1.3133, -0.1269]
    """
    return -softplus(-x)


def d_log_sigmoid(y: Array) -> Array:
    """σ(-x) = 1 - exp(y)."""
    return -expm1(y, jnp.exp(y))


def softsign(x: Array) -> Array:
    """x / (1 + |x|).

    Derivative: 1 / (1 + |x|)². Range: (-1, 1). Source: Glorot, Bengio 2010.

    >>> [round(y, 4) for y in softsign(jnp.array([-1.0, 2.0])).tolist()]
    [-0.5, 0.6667]
    """
    most = float(jnp.finfo(x.dtype).max)  # stands for infinity, whose quotient would be NaN
    x = jnp.where(x > most, most, jnp.where(x < -most, -most, x))
    return x / (1 + jnp.where(x > 0, x, -x))


def d_softsign(x: Array) -> Array:
    """1 / (1 + |x|)², squared last: the square of x may overflow."""
    return (1 / (1 + jnp.where(x > 0, x, -x))) ** 2


def silu(x: Array) -> Array:
    """x σ(x), also called swish.

    Derivative: σ(x) (1 + x σ(-x)), in [-0.0998, 1.0998]. Range: [-0.2785, inf), the least value at
    x = -1.2785; 0 at -inf, x at inf. Source: Hendrycks, Gimpel 2016; Elfwing, Uchibe, Doya 2018.

    >>> [round(y, 4) for y in silu(jnp.array([-1.0, 2.0])).tolist()]
    [-0.2689, 1.7616]
    """
    return _silu(x)


# One loop of a CPU: abs and max take fewer operations than selections, and each function names its derivative.
@jax.custom_jvp
def _silu(x: Array) -> Array:
    a = jnp.minimum(jnp.abs(x), 1000.0)
    far = a > 64  # where exp(-a) may have underflowed, and a exp(-a) not
    over = jnp.where(far, 0.0, 1.0) + jnp.exp(a - jnp.where(far, 64.0, 0.0))
    return jnp.maximum(x, 0) - a * jnp.where(far, math.exp(-64), 1.0) / over


@_silu.defjvp
def _(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = at, along
    return silu(x), d_silu(x) * dx


# For float32 and for float64: the root of 1 + exp(x) + x, and the rest there.
_SILU = (-1.2784645557403564, -1.65935526353033812e-8), (-1.2784645427610737, 1.39953439128966862e-16)


def d_silu(x: Array) -> Array:
    """σ(x) (1 + x σ(-x)): e (1 + e + x) / (1 + e)² to the left of 0, one minus that to the right."""
    return _d_silu(x)


@jax.custom_jvp
def _d_silu(x: Array) -> Array:
    low = -jnp.minimum(jnp.abs(x), 1000.0)
    f, g = decay(low)
    e = f * g
    r, rest = _SILU[x.dtype == jnp.float64]
    t = low - r
    left = f * (t + difference(t, math.exp(r), e) + rest) * g / (1 + e) ** 2
    return jnp.where(x > 0, 1 - left, left)


@_d_silu.defjvp
def _(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = at, along
    held = jnp.where(jnp.abs(x) < 1000, x, 0.0)
    return d_silu(x), d_sigmoid(x) * (2 - held * jnp.tanh(held / 2)) * dx


def mish(x: Array) -> Array:
    """x tanh(softplus(x)), where tanh(log(1 + w)) = w (w + 2) / (w (w + 2) + 2) with w = exp(x).

    Derivative: see `d_mish`; in [-0.1125, 1.0885]. Range: [-0.3088, inf), the least value at
    x = -1.1924; 0 at -inf, x at inf. Source: Misra 2019.

    >>> [round(y, 4) for y in mish(jnp.array([-1.0, 2.0])).tolist()]
    [-0.3034, 1.944]
    """
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
    de = difference(t, w, e)
    left = de * (e * e + (w + 4) * e + (w * w + 4 * w + 6 + 4 * r)) + 4 * t * (1 + e) + rest
    right = 1 + e * (4 + e * (6 + 4 * e - 4 * low * (1 + e)))
    return jnp.where(x > 0, right, f * left * g) / jnp.where(x > 0, 1 + 2 * e * (1 + e), 2 + e * (2 + e)) ** 2
