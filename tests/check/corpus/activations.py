"""Planted mistakes in activations."""

import jax
import jax.numpy as jnp
import numpy as np

from .case import ROWS, WIDE, cases, normal


def make(key, size):
    return normal(key, (ROWS[size], WIDE[size]))


def gelu(z):
    return jax.nn.gelu(z, approximate=False)


def gelu_forward(z):
    return gelu(z), z


def _density(z):
    return jnp.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def derivative_of_the_tanh_formula(z, dy):
    return (dy * jax.vmap(jax.vmap(jax.grad(jax.nn.gelu)))(z),)


def density_left_out(z, dy):
    return (dy * jax.scipy.stats.norm.cdf(z),)


def density_not_normalised(z, dy):
    return (dy * (jax.scipy.stats.norm.cdf(z) + z * jnp.exp(-0.5 * z * z)),)


def relu_for_gelu(z, dy):
    return (dy * (z > 0),)


def gelu_derivative_at_its_output(z, dy):
    y = gelu(z)
    return (dy * (jax.scipy.stats.norm.cdf(y) + y * _density(y)),)


def silu(z):
    return z * jax.nn.sigmoid(z)


def silu_forward(z):
    return silu(z), z


def silu_product_rule_halved(z, dy):
    return (dy * jax.nn.sigmoid(z),)


def silu_without_one_minus(z, dy):
    s = jax.nn.sigmoid(z)
    return (dy * (s + z * s),)


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


def sigmoid_forward(z):
    y = sigmoid(z)
    return y, (z, y)


def sigmoid_from_its_input(saved, dy):
    z, y = saved
    return (dy * z * (1 - z),)


def sigmoid_without_one_minus(saved, dy):
    z, y = saved
    return (dy * y,)


def sigmoid_derivative_left_out(saved, dy):
    return (dy,)


def elu(z):
    return jnp.where(z > 0, z, jnp.exp(z) - 1)


def elu_forward(z):
    return elu(z), (z, elu(z))


def elu_from_its_output(saved, dy):
    z, y = saved
    return (dy * jnp.where(z > 0, 1, y),)


def elu_mask_left_out(saved, dy):
    z, y = saved
    return (dy * jnp.exp(z),)


def leaky_relu(z):
    return jnp.where(z > 0, z, 0.1 * z)


def leaky_forward(z):
    return leaky_relu(z), z


def leak_left_out(z, dy):
    return (dy * (z > 0),)


def leak_of_another_slope(z, dy):
    return (dy * jnp.where(z > 0, 1, 0.01),)


CASES = (
    *cases(
        "gelu", gelu, gelu_forward, make,
        (derivative_of_the_tanh_formula, ("another formula",)),
        (density_left_out, ("term dropped",)),
        (density_not_normalised, ("constant left out", "factor")),
        (relu_for_gelu, ("another formula",)),
        (gelu_derivative_at_its_output, ("derivative at the output",)),
    ),
    *cases(
        "silu", silu, silu_forward, make,
        (silu_product_rule_halved, ("term dropped",)),
        (silu_without_one_minus, ("another formula",)),
    ),
    *cases(
        "sigmoid", sigmoid, sigmoid_forward, make,
        (sigmoid_from_its_input, ("another formula", "another value")),
        (sigmoid_without_one_minus, ("another formula",)),
        (sigmoid_derivative_left_out, ("derivative missing",)),
    ),
    *cases(
        "elu", elu, elu_forward, make,
        (elu_from_its_output, ("another value", "another formula")),
        (elu_mask_left_out, ("mask ignored", "another formula")),
    ),
    *cases(
        "leaky relu", leaky_relu, leaky_forward, make,
        (leak_left_out, ("term dropped", "another formula")),
        (leak_of_another_slope, ("factor", "another formula", "constant applied twice")),
    ),
)  # fmt: skip
