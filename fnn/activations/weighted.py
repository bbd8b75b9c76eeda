"""Inputs weighted by a function of one exponential that goes from 0 to 1: silu and mish.

Two habits recur, here and in normal.py, where gelu is a third of the kind:

- e = exp(-|x|) comes from `decay` as a product, for e * c may be a normal number where e alone has
  underflowed (silu'(-90) in float32).
- A derivative that has a root is written around r, the number of the dtype nearest to the root. With
  t = x - r (exact close by) all large terms have t's sign, so nothing cancels; what the whole
  expression is at r itself, the tiny `rest`, is added last. (XLA folds (x - a) - b into x - (a + b).)
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from fnn.activations.exponentials import decay, difference, tail
from fnn.activations.smooth import d_sigmoid


def silu(x: Array) -> Array:
    """x σ(x), also called swish.

    Derivative: σ(x) (1 + x σ(-x)), in [-0.0998, 1.0998]. Range: [-0.2785, inf), the least value at
    x = -1.2785; 0 at -inf, x at inf. Source: Hendrycks, Gimpel 2016; Elfwing, Uchibe, Doya 2018.

    >>> [round(y, 4) for y in silu(jnp.array([-1.0, 2.0])).tolist()]
    [-0.2689, 1.7616]
    """
    return _silu(x)


# `abs` and `maximum` take fewer operations than selections; so each function names its derivative. Both take
# the same exponential and the same division, which XLA then shares where a chain is small.
@jax.custom_jvp
def _silu(x: Array) -> Array:
    low = -jnp.minimum(jnp.abs(x), 1000.0)
    f, g = decay(low)
    return jnp.maximum(x, 0) + low * f * (1 / (1 + f * g)) * g


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
    share = 1 / (1 + e)
    left = f * (t + difference(t, math.exp(r), e) + rest) * g * (share * share)
    return jnp.where(x > 0, 1 - left, left)


@_d_silu.defjvp
def _(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = at, along
    held = jnp.where(jnp.abs(x) < 1000, x, 0.0)
    return d_silu(x), bend(held, held, 1.0, 0.0) * dx


def bend(x: Array, u: Array, du: Array | float, d2u: Array | float) -> Array:
    """Return the second derivative of x σ(u): σ'(u) (2 u' + x u'' - x u'² tanh(u / 2)).

    Args:
        x: a finite floating array of any shape.
        u: a function of x, of its shape.
        du: its derivative.
        d2u: its second derivative.
    """
    return d_sigmoid(u) * (2 * du + x * (d2u - du * du * jnp.tanh(u / 2)))


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
