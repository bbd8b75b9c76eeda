"""Gelu, in the exact form by the normal distribution and in the tanh form, to full relative accuracy.

XLA's erfc loses digits in the tail, where exp(-x²) magnifies the rounding of x² (60 ulp in float32 at
x = -12), and 1 + tanh cancels there altogether. Here the tail is φ(a) R(a) with a = |x|, φ the normal
density and R the Mills ratio (1 - Φ(a)) / φ(a), a tame function of (a - 4) / (a + 4) in [-1, 1].
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpy.polynomial.chebyshev import cheb2poly

from fnn.activations.exponentials import decay, difference, tail
from fnn.activations.weighted import bend

# Chebyshev coefficients in (a - 4) / (a + 4) of (1 + a) R(a), and of (R(a) - a) / (a - root).
_MILLS = (
    1.16705253508824721, -0.161019576713465389, -0.0280028218254529747, 0.0316745218923926589,
    -0.0121032311623453687, 0.00270561297621670952, -0.000299316362027031659, -1.71668652687936102e-5,
    1.01784892641098674e-5, -4.89482957000419177e-7, -2.84400650015104784e-7, 3.0766283713811504e-8,
    9.1803786744695372e-9, -1.27561022138087362e-9, -3.66027937610413383e-10, 4.5926359348595205e-11,
    1.71893146876465266e-11, -1.27268336987006964e-12, -8.66808191331619009e-13, 1.10615572041360796e-15,
    4.27502107701033726e-14, 3.79093769226402955e-15, -1.84741030105905836e-15, -4.04190941306901738e-16,
    5.34085438503166499e-17,
)  # fmt: skip
_SLOPE = (
    -1.24317418349753129, 0.314462750602379497, -0.087494115563663593, 0.0188598973107643088,
    -0.0028977335830714466, 2.34814098845959475e-4, 1.41867671298330584e-5, -5.93502123736790395e-6,
    2.03227228063059891e-7, 1.30038227976350612e-7, -1.1455435285677949e-8, -3.42309443610753436e-9,
    4.01727351885121643e-10, 1.14180735881316863e-10, -1.23518739772464945e-11, -4.58375431759503959e-12,
    2.92465239181950578e-13, 2.01569605734520565e-13, 4.6600445989150042e-16, -8.8191961617865656e-15,
    -7.64298839184913713e-16, 3.42866945295303882e-16, 7.23792097237021825e-17,
)  # fmt: skip
# The root of R(a) - a as a number of float32 and of float64, and how far beyond the true root that lies.
_ROOT = (0.7517915368080139, 1.21144494585577201e-8), (0.7517915246935645, 1.49567591770098833e-17)


def _series(coefficients: tuple[float, ...], t: Array) -> Array:
    """Sum up the Chebyshev series at t = (a - 4) / (a + 4), as far as the dtype sees it."""
    first, *others = cheb2poly(coefficients if t.dtype == jnp.float64 else coefficients[:12])[::-1].tolist()
    total = jnp.full_like(t, first)
    for c in others:
        total = total * t + c
    return total


def _head(x: Array, share: int = 2) -> Array:
    """Keep the leading bits of x, so few that a product of as many heads as `share` says is exact."""
    bits = jnp.finfo(x.dtype).nmant + 1
    whole = lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")
    return lax.bitcast_convert_type(whole & (-1 << bits - bits // share), x.dtype)


def _density(a: Array) -> tuple[Array, Array]:
    """Two factors of exp(-a²/2), from the exact square of a's head and a small rest."""
    head = _head(a)
    f, g = decay(-head * head / 2)
    s = (a - head) * (a + head) / 2
    return f * (1 - s * (1 - s / 2 * (1 - s / 3 * (1 - s / 4)))), g


def _held(x: Array) -> Array:
    """Return x, or 0 where the density is 0 beside it: so an infinite x makes no inf * 0."""
    return jnp.where(jnp.abs(x) < 40, x, 0.0)


@jax.custom_jvp
def density(x: Array) -> Array:
    """φ(x) = exp(-x²/2) / √(2π). Every derivative is exact: φ' = -x φ."""
    f, g = _density(-tail(x, -40.0))
    return f / math.sqrt(2 * math.pi) * g


@density.defjvp
def _(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = at, along
    y = density(x)
    return y, -_held(x) * y * dx


def gelu(x: Array) -> Array:
    """x Φ(x) = x (1 + erf(x / √2)) / 2, with Φ the normal distribution's function.

    Derivative: Φ(x) + x φ(x), in [-0.1289, 1.1289]. Range: [-0.1700, inf), the least value at
    x = -0.7518; 0 at -inf, x at inf. Source: Hendrycks, Gimpel 2016.

    >>> [round(y, 4) for y in gelu(jnp.array([-1.0, 2.0])).tolist()]
    [-0.1587, 1.9545]
    """
    return _gelu(x)


# A series differentiates worse than it approximates, so each function names its derivative.
@jax.custom_jvp
def _gelu(x: Array) -> Array:
    a = jnp.minimum(jnp.abs(x), 40.0)
    f, g = _density(a)
    share = 1 / ((a + 4) * (1 + a))  # one division, which takes as long as ten products, for two
    mills = _series(_MILLS, (a - 4) * (1 + a) * share) * (a + 4) * share
    return jnp.maximum(x, 0) - a * f * mills * (g / math.sqrt(2 * math.pi))


@_gelu.defjvp
def _(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = at, along
    return gelu(x), d_gelu(x) * dx


def d_gelu(x: Array) -> Array:
    """Φ(x) + x φ(x): φ(a) (R(a) - a) to the left of 0, one minus that to the right."""
    return _d_gelu(x)


@jax.custom_jvp
def _d_gelu(x: Array) -> Array:
    a = jnp.minimum(jnp.abs(x), 40.0)
    f, g = _density(a)
    (root, beyond), slope = _ROOT[a.dtype == jnp.float64], _series(_SLOPE, (a - 4) / (a + 4))
    left = f * ((a - root) * slope + beyond * slope) / math.sqrt(2 * math.pi) * g
    return jnp.where(x > 0, 1 - left, left)


@_d_gelu.defjvp
def _(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = at, along
    held = _held(x)
    return d_gelu(x), density(x) * (2 - held * held) * dx


# u = B x + C x³ with B = √(8/π), C = 0.044715 B; heads of 8 bits, whose products with heads of x are exact.
_B_HEAD, _B_REST = 204 / 2**7, 0.00201912160573071176
_C_HEAD, _C_REST = 146 / 2**11, 0.0000657537726002487763
_B, _C = _B_HEAD + _B_REST, _C_HEAD + _C_REST
_TANH = (-0.7524614334106445, -2.79029330306115859e-8), (-0.7524614220710163, -8.94586656020445255e-17)


def _tanh_decay(x: Array) -> tuple[Array, Array]:
    """Two factors of exp(u): u is made as hi + lo of twice the precision, for exp magnifies its rounding."""
    head, third = _head(x), _head(x, 3)
    w = _head(_B_HEAD + _C_HEAD * (third * third))
    rest = (_B_HEAD - w) + _C_HEAD * (third * third)
    rest = rest + (_B_REST + _C_REST * (third * third) + _C * (x - third) * (x + third))
    lo = head * rest + (x - head) * (w + rest)
    u = head * w + lo
    f, g = decay(u)
    return f * (1 + (head * w - u + lo)), g


def gelu_tanh(x: Array) -> Array:
    """x σ(u), which is x (1 + tanh(u / 2)) / 2, with u = √(8/π) (x + 0.044715 x³): gelu's approximation.

    Derivative: σ(u) (1 + x u' σ(-u)), in [-0.1290, 1.1290]. Range: [-0.1700, inf), the least value at
    x = -0.7525; 0 at -inf, x at inf. Source: Hendrycks, Gimpel 2016, section 2.

    >>> [round(y, 4) for y in gelu_tanh(jnp.array([-1.0, 2.0])).tolist()]
    [-0.1588, 1.9546]
    """
    low = tail(x, -40.0)
    f, g = _tanh_decay(low)
    return jnp.where(x > 0, x, low * f * g) / (1 + f * g)


def d_gelu_tanh(x: Array) -> Array:
    """σ(u) (1 + x u' σ(-u)), as `weighted.d_silu`: e (1 + e + x u') / (1 + e)², or one minus that."""
    return _d_gelu_tanh(x)


@jax.custom_jvp
def _d_gelu_tanh(x: Array) -> Array:
    low = -jnp.minimum(jnp.abs(x), 40.0)
    f, g = _tanh_decay(low)
    e = f * g
    r, rest = _TANH[x.dtype == jnp.float64]
    t = low - r
    q = low * low + r * low + r * r  # (x³ - r³) / (x - r)
    de = difference(t * (_B + _C * q), math.exp(_B * r + _C * r**3), e)
    left = f * (de + t * (_B + 3 * _C * q) + rest) * g / (1 + e) ** 2  # of 1 + e + x u'
    return jnp.where(x > 0, 1 - left, left)


@_d_gelu_tanh.defjvp
def _(at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = at, along
    x = _held(x)
    u, du = x * (_B + _C * x * x), _B + 3 * _C * x * x
    return d_gelu_tanh(at[0]), bend(x, u, du, 6 * _C * x) * dx
