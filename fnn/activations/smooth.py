"""Activations built from one exponential, each with its derivative right under it.

Every formula is written in e = exp(-|x|), which lies in [0, 1]: nothing overflows, so no branch of
a selection is ever infinite, and derivatives of the formulas are finite too. They are
made with `jnp.where(x > 0, ...)`, not with `abs` and `maximum`, whose derivatives at 0 are means.
"""

import jax.numpy as jnp
from jax import Array, lax

from fnn.activations.exponentials import exp_minus_1, expm1, negative, tail
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
