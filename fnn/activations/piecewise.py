"""Activations made of straight pieces, each with its derivative right under it.

A kink belongs to the outer piece, and to the left one where both are outer: relu'(0) = 0,
leaky_relu'(0) = slope, relu6'(6) = 0, hard_silu'(3) = 1. The values are selections or clamps, never maxima,
so `jax.grad` of a value says the same at a kink (of a maximum it says the mean of the two sides). Where all
slopes are 1 and 0 the derivative is boolean: the backward selects, so an infinite dy gives zero, not NaN.
"""

import jax.numpy as jnp
from jax import Array, lax


def positive(x: Array) -> Array:
    """Return whether x > 0, for subnormal numbers too, which a CPU's comparison takes for zero."""
    return lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}") > 0


def identity(x: Array) -> Array:
    """x, without params: a layer that does nothing.

    Derivative: 1. Range: all numbers.

    >>> print(identity(jnp.array([-1.0, 2.0])))
    [-1.  2.]
    """
    return x


def relu(x: Array) -> Array:
    """x where x > 0, else 0.

    Derivative: 1 where x > 0, else 0. Range: [0, inf). Source: Nair, Hinton 2010.

    On a GPU or a TPU it is a clamp, which XLA fuses with the matrix products. On a CPU it is a selection:
    a clamp there would lose subnormal numbers, and keep x in memory beside y.

    >>> print(relu(jnp.array([-1.0, 2.0])))
    [0. 2.]
    """
    return lax.platform_dependent(x, cpu=selected, default=clamped)


def selected(x: Array) -> Array:
    """Return relu as a selection, for a CPU. Args: `x`, floating."""
    return jnp.where(positive(x) | jnp.isnan(x), x, 0.0)


def clamped(x: Array) -> Array:
    """Return relu as a clamp, for a GPU or a TPU. Args: `x`, floating."""
    return lax.clamp(jnp.zeros((), x.dtype), x, jnp.asarray(jnp.inf, x.dtype))


def d_relu(y: Array) -> Array:
    """Whether y > 0, where the slope is 1, else 0; y is positive exactly where the input is."""
    return positive(y)


def leaky_relu(x: Array, slope: float) -> Array:
    """x where x > 0, else slope * x.

    Derivative: 1 where x > 0, else slope. Range: all numbers, for slope > 0.
    Source: Maas, Hannun, Ng 2013.

    Args:
        x: a floating array of any shape.
        slope: a number >= 0.

    >>> print(leaky_relu(jnp.array([-1.0, 2.0]), slope=0.25))
    [-0.25  2.  ]
    """
    return jnp.where(positive(x), x, slope * x)


def d_leaky_relu(y: Array, slope: float) -> Array:
    """1 where y > 0, else slope; from the output, whose sign is the input's as slope >= 0.

    Args:
        y: the output, a floating array of any shape.
        slope: as for `leaky_relu`.
    """
    return jnp.where(positive(y), 1.0, jnp.full_like(y, slope))


def relu_squared(x: Array) -> Array:
    """x² where x > 0, else 0.

    Derivative: 2x where x > 0, else 0. Range: [0, inf). Source: So et al. 2021.

    >>> print(relu_squared(jnp.array([-1.0, 2.0])))
    [0. 4.]
    """
    return jnp.square(relu(x))


def d_relu_squared(x: Array) -> Array:
    """2x where x > 0, else 0."""
    return 2 * relu(x)


def relu6(x: Array) -> Array:
    """x clipped to [0, 6].

    Derivative: 1 where 0 < x < 6, else 0. Range: [0, 6]. Source: Krizhevsky 2010.

    >>> print(relu6(jnp.array([-1.0, 2.0, 8.0])))
    [0. 2. 6.]
    """
    return jnp.where(x >= 6, 6.0, relu(x))


def d_relu6(y: Array) -> Array:
    """Whether 0 < y < 6, where the slope is 1, else 0."""
    return positive(y) & (y < 6)


def hard_tanh(x: Array) -> Array:
    """x clipped to [-1, 1].

    Derivative: 1 where -1 < x < 1, else 0. Range: [-1, 1]. Source: Collobert 2004.

    >>> print(hard_tanh(jnp.array([-2.0, 0.5])))
    [-1.   0.5]
    """
    return jnp.where(jnp.abs(x) >= 1, jnp.where(x > 0, 1.0, jnp.full_like(x, -1.0)), x)


def d_hard_tanh(y: Array) -> Array:
    """Whether -1 < y < 1, where the slope is 1, else 0."""
    return jnp.abs(y) < 1


def hard_sigmoid(x: Array) -> Array:
    """(x + 3) / 6 clipped to [0, 1].

    Derivative: 1/6 where -3 < x < 3, else 0. Range: [0, 1]. Source: Howard et al. 2019, section 5.2.

    >>> print(hard_sigmoid(jnp.array([-3.0, 0.0, 6.0])))
    [0.  0.5 1. ]
    """
    return jnp.where(x >= 3, 1.0, jnp.where(x <= -3, 0.0, (x + 3) / 6))


def d_hard_sigmoid(x: Array) -> Array:
    """1/6 where -3 < x < 3, else 0."""
    return (jnp.abs(x) < 3).astype(x.dtype) / 6


def hard_silu(x: Array) -> Array:
    """x hard_sigmoid(x), also called hard swish.

    Derivative: (2x + 3) / 6 where -3 < x < 3; 0 to the left, 1 to the right. Range: [-0.375, inf), the least
    value at x = -1.5. Source: Howard et al. 2019, section 5.2.

    >>> print(hard_silu(jnp.array([-1.5, 0.0, 4.0])))
    [-0.375  0.     4.   ]
    """
    inside = jnp.where(jnp.abs(x) >= 3, 0.0, x)  # outside, the square of x may overflow
    return jnp.where(x >= 3, x, jnp.where(x <= -3, 0.0, inside * (inside + 3) / 6))


def d_hard_silu(x: Array) -> Array:
    """(2x + 3) / 6 where -3 < x < 3; 0 to the left, 1 to the right."""
    return jnp.where(x >= 3, 1.0, jnp.where(x <= -3, 0.0, (2 * x + 3) / 6))
