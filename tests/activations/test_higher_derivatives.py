"""Derivatives of gelu beyond the first, which a network's Hessian and its derivatives take."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn.activations import normal


def reference(order: int, x: np.ndarray) -> np.ndarray:
    """Give the derivative in closed form: gelu'' = φ (2 - x²), and from there by φ' = -x φ."""
    polynomial = np.polynomial.Polynomial([2.0, 0.0, -1.0])
    for _ in range(order - 2):
        polynomial = polynomial.deriv() - np.polynomial.Polynomial([0.0, 1.0]) * polynomial
    return polynomial(x) * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def test_up_to_the_fifth_order():
    x = np.concatenate([np.linspace(-9, 9, 37), [0.0, 1e-9, -1e-9, -0.7517915246935645]])

    def derivatives(f, x):
        found = []
        for _ in range(4):
            f = lambda x, f=f: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]  # noqa: E731
            found.append(f(x))
        return found

    for order, got in enumerate(jax.jit(lambda x: derivatives(normal.d_gelu, x))(jnp.asarray(x)), 2):
        wanted = reference(order, x)
        scale = np.abs(wanted) + np.exp(-x * x / 2) * (1 + np.abs(x)) ** order  # what its terms add up to
        assert (np.abs(np.asarray(got) - wanted) < 1e-14 * scale).all(), order


def test_what_jax_differentiates_is_our_derivative():
    x = jnp.linspace(-9.0, 9.0, 37)
    by_forward = jax.jit(lambda x: jax.jvp(normal.gelu, (x,), (jnp.ones_like(x),))[1])(x)
    np.testing.assert_allclose(by_forward, jax.jit(normal.d_gelu)(x), rtol=1e-15)


def test_at_infinity_and_where_the_density_vanishes():
    x = jnp.array([-jnp.inf, -50.0, 50.0, jnp.inf])
    for dtype in (jnp.float32, jnp.float64):
        x = x.astype(dtype)
        second = jax.jvp(normal.d_gelu, (x,), (jnp.ones_like(x),))[1]
        np.testing.assert_array_equal(second, 0)
