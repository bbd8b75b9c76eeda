"""Planted mistakes in dense layers with an activation, alone and in a chain."""

import jax
import jax.numpy as jnp

from .case import NARROW, ROWS, WIDE, cases, normal
from .dense import make


def tanh_layer(x, w, b):
    return jnp.tanh(x @ w + b)


def tanh_forward(x, w, b):
    z = x @ w + b
    return jnp.tanh(z), (x, w, z)


def _dense(x, w, dz):
    return dz @ w.T, x.T @ dz, dz.sum(0)


def tanh_derivative_missing(saved, dy):
    x, w, _ = saved
    return _dense(x, w, dy)


def tanh_derivative_at_its_output(saved, dy):
    x, w, z = saved
    return _dense(x, w, dy * (1 - jnp.tanh(jnp.tanh(z)) ** 2))


def tanh_derivative_without_the_square(saved, dy):
    x, w, z = saved
    return _dense(x, w, dy * (1 - jnp.tanh(z)))


def sigmoid_derivative_for_tanh(saved, dy):
    x, w, z = saved
    s = jax.nn.sigmoid(z)
    return _dense(x, w, dy * s * (1 - s))


def tanh_derivative_missing_in_the_bias_only(saved, dy):
    x, w, z = saved
    dx, dw, _ = _dense(x, w, dy * (1 - jnp.tanh(z) ** 2))
    return dx, dw, dy.sum(0)


def mlp(x, w1, b1, w2, b2):
    return jax.nn.relu(x @ w1 + b1) @ w2 + b2


def mlp_forward(x, w1, b1, w2, b2):
    z = x @ w1 + b1
    h = jax.nn.relu(z)
    return h @ w2 + b2, (x, w1, w2, z, h)


def make_mlp(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    return normal(key, (n, k), (k, j), (j,), (j, k), (k,))


def hidden_derivative_missing(saved, dy):
    x, w1, w2, z, h = saved
    dz = dy @ w2.T
    return dz @ w1.T, x.T @ dz, dz.sum(0), h.T @ dy, dy.sum(0)


def second_weight_from_the_pre_activation(saved, dy):
    x, w1, w2, z, h = saved
    dz = dy @ w2.T * (z > 0)
    return dz @ w1.T, x.T @ dz, dz.sum(0), z.T @ dy, dy.sum(0)


def relu_mask_inverted(saved, dy):
    x, w1, w2, z, h = saved
    dz = dy @ w2.T * (z <= 0)
    return dz @ w1.T, x.T @ dz, dz.sum(0), h.T @ dy, dy.sum(0)


def sign_of_the_hidden_layer(saved, dy):
    x, w1, w2, z, h = saved
    dz = -(dy @ w2.T) * (z > 0)
    return dz @ w1.T, x.T @ dz, dz.sum(0), h.T @ dy, dy.sum(0)


def hidden_cotangent_clipped(saved, dy):
    x, w1, w2, z, h = saved
    dz = jnp.clip(dy @ w2.T * (z > 0), -0.5, 0.5)
    return dz @ w1.T, x.T @ dz, dz.sum(0), h.T @ dy, dy.sum(0)


def two_mistakes_at_once(saved, dy):
    x, w1, w2, z, h = saved
    dz = dy @ w2.T * (z > 0)
    return dz @ w1.T, x.T @ dz / x.shape[0], dz.sum(0), -h.T @ dy, dy.sum(0)


CASES = (
    *cases(
        "dense tanh", tanh_layer, tanh_forward, make,
        (tanh_derivative_missing, ("derivative missing",)),
        (tanh_derivative_at_its_output, ("derivative at the output",)),
        (tanh_derivative_without_the_square, ("another formula",)),
        (sigmoid_derivative_for_tanh, ("another formula",)),
        (tanh_derivative_missing_in_the_bias_only, ("derivative missing",)),
    ),
    *cases(
        "mlp", mlp, mlp_forward, make_mlp,
        (hidden_derivative_missing, ("derivative missing", "mask ignored")),
        (second_weight_from_the_pre_activation, ("another value",)),
        (relu_mask_inverted, ("mask inverted",)),
        (sign_of_the_hidden_layer, ("sign",)),
        (hidden_cotangent_clipped, ("cotangent clipped", "cotangent not linear")),
        (two_mistakes_at_once, ("mean for sum", "sign")),
    ),
)  # fmt: skip
