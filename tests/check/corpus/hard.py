"""Functions that only appear with a right backward pass: cancellation, masks, mixed precision, ties."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import attention
from .case import NARROW, ROWS, WIDE, normal


def cancelling(x, w):
    return (x @ w - x @ w[:, ::-1]).sum(-1)


def cancelling_forward(x, w):
    return cancelling(x, w), (x, w)


def right_cancelling(saved, dy):
    x, w = saved
    one = jnp.ones((1, w.shape[1]), x.dtype) * dy[:, None]
    return one @ w.T - one[:, ::-1] @ w[:, ::-1].T, x.T @ one - (x.T @ one)[:, ::-1]


def bias_before_norm(x, b):
    z = x + b[0]
    return z - z.mean(-1, keepdims=True)


def bias_before_norm_forward(x, b):
    return bias_before_norm(x, b), b


def right_bias_before_norm(b, dy):
    dz = dy - dy.mean(-1, keepdims=True)
    return dz, dz.sum(keepdims=True)[0]


def make_bias_before_norm(key, size):
    return normal(key, (ROWS[size], WIDE[size]), (1,))


def masked_loss(z, t, mask):
    return (jnp.where(mask, (z - t) ** 2, 0).sum() / jnp.maximum(mask.sum(), 1)).astype(z.dtype)


def masked_loss_forward(z, t, mask):
    return masked_loss(z, t, mask), (z - t, mask)


def right_masked_loss(saved, dy):
    e, mask = saved
    d = jnp.where(mask, 2 * e * dy, 0) / jnp.maximum(mask.sum(), 1)
    return d, -d, np.zeros(mask.shape, jax.dtypes.float0)


def make_masked_loss(key, size):
    z, t, u = normal(key, *[(ROWS[size], NARROW[size])] * 3)
    return z, t, u > 0


def mixed(x, w):
    return jnp.einsum("nk,kj->nj", x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)).astype(jnp.float32)


def mixed_forward(x, w):
    return mixed(x, w), (x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))


def right_mixed_precision(saved, dy):
    x, w = saved
    d = dy.astype(jnp.bfloat16)
    dx = jnp.einsum("nj,kj->nk", d, w, preferred_element_type=jnp.float32)
    return dx, jnp.einsum("nk,nj->kj", x, d, preferred_element_type=jnp.float32)


def clipped_exponential(x):
    return jnp.exp(jnp.minimum(x, 20.0)) / (1 + jnp.exp(jnp.minimum(x, 20.0)))


def clipped_exponential_forward(x):
    y = clipped_exponential(x)
    return y, (x, y)


def right_clipped_exponential(saved, dy):
    x, y = saved
    return (jnp.where(x < 20.0, dy * y / (1 + jnp.exp(jnp.minimum(x, 20.0))), 0),)


def logsumexp(z):
    return jax.scipy.special.logsumexp(z, axis=-1)


def logsumexp_forward(z):
    y = logsumexp(z)
    return y, (z, y)


def right_logsumexp(saved, dy):
    z, y = saved
    return (dy[:, None] * jnp.exp(z - y[:, None]),)


def make_equal_rows(key, size):
    (z,) = attention.make_softmax(key, size)
    return (z.at[0].set(3.0),)


def sorted_rows(x):
    return jnp.sort(x, axis=-1)


def sorted_forward(x):
    order = jnp.argsort(x, axis=-1)
    return jnp.take_along_axis(x, order, -1), order


def right_sorted(order, dy):
    return (jnp.take_along_axis(dy, jnp.argsort(order, axis=-1), -1),)


def power(x):
    return lax.integer_pow(x, 3)


def power_forward(x):
    return power(x), x


def right_power(x, dy):
    return (3 * x * x * dy,)
