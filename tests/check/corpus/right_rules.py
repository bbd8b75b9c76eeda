"""Right backward passes, and inputs that make them hard to judge."""

import jax
import jax.numpy as jnp
import numpy as np

from . import activations, dense, sequence, subtle
from .case import ROWS, WIDE, normal


def right(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, dy.sum(0)


def right_products_accumulated_in_float32(saved, dy):
    x, w = saved
    dw = jnp.einsum("nk,nj->kj", x, dy, preferred_element_type=jnp.float32)
    dx = jnp.einsum("nj,kj->nk", dy, w, preferred_element_type=jnp.float32)
    return dx.astype(x.dtype), dw.astype(w.dtype), dy.astype(jnp.float32).sum(0).astype(dy.dtype)


def make_bfloat16(key, size):
    return tuple(a.astype(jnp.bfloat16) for a in dense.make(key, size))


def make_float16(key, size):
    return tuple(a.astype(jnp.float16) for a in dense.make(key, size))


def make_large(key, size):
    return tuple(1e4 * a for a in dense.make(key, size))


def make_saturated(key, size):
    x, w, b = dense.make(key, size)
    return 30 * x, w, b


def make_zeros(key, size):
    return tuple(jnp.zeros_like(a) for a in dense.make(key, size))


def make_zero_bias(key, size):
    x, w, b = dense.make(key, size)
    return x.at[0].set(0), w, jnp.zeros_like(b)


def right_tanh_from_its_output(saved, dy):
    x, w, z = saved
    dz = dy * (1 - jnp.tanh(z) ** 2)
    return dz @ w.T, x.T @ dz, dz.sum(0)


def relu_layer(x, w, b):
    return jnp.maximum(x @ w + b, 0)


def relu_forward(x, w, b):
    y = relu_layer(x, w, b)
    return y, (x, w, y)


def right_relu_of_the_output(saved, dy):
    x, w, y = saved
    dz = jnp.where(y > 0, dy, 0)
    return dz @ w.T, x.T @ dz, dz.sum(0)


def right_relu_with_one_at_zero(saved, dy):
    x, w, y = saved
    dz = jnp.where(x @ w >= 0, dy, 0)
    return dz @ w.T, x.T @ dz, dz.sum(0)


def relu6(x):
    return jnp.clip(x, 0, 6)


def relu6_forward(x):
    return relu6(x), x


def right_relu6(x, dy):
    return (dy * ((x > 0) & (x < 6)),)


def absolute(x):
    return jnp.abs(x)


def absolute_forward(x):
    return jnp.abs(x), x


def right_absolute(x, dy):
    return (jnp.where(x >= 0, dy, -dy),)


def make_rows(key, size):
    return normal(key, (ROWS[size], WIDE[size]))


def make_some_zeros(key, size):
    (x,) = make_rows(key, size)
    return (jnp.where(x > 0.3, x, 0),)


def right_mlp(saved, dy):
    x, w1, w2, z, h = saved
    dz = jnp.where(z > 0, dy @ w2.T, 0)
    return dz @ w1.T, x.T @ dz, dz.sum(0), h.T @ dy, dy.sum(0)


def right_gelu(z, dy):
    return (dy * (jax.scipy.stats.norm.cdf(z) + z * activations._density(z)),)


def right_sigmoid(saved, dy):
    _, y = saved
    return (dy * y * (1 - y),)


def right_elu(saved, dy):
    z, y = saved
    return (dy * jnp.where(z > 0, 1, jnp.exp(jnp.minimum(z, 0))),)


def right_gated(saved, dy):
    x, wa, wb, a, g = saved
    da, dg = dy * g, dy * a * g * (1 - g)
    return da @ wa.T + dg @ wb.T, x.T @ da, x.T @ dg


def right_dropout(keep, dy):
    return jnp.where(keep, dy / 0.8, 0), np.zeros(keep.shape, jax.dtypes.float0)


def right_embedding(saved, dy):
    table, index = saved
    return jnp.zeros_like(table).at[index].add(dy), np.zeros(index.shape, jax.dtypes.float0)


def right_segments(saved, dy):
    index, _ = saved
    return dy[index], np.zeros(index.shape, jax.dtypes.float0)


def right_tied(saved, dy):
    x, w, h = saved
    dz = dy @ w * (1 - h**2)
    return dz @ w.T, x.T @ dz + dy.T @ h, dz.sum(0)


def right_recurrence(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = sequence._backward(before, hs, x, w, u, dy)
    return dh, dx, dw.sum(0), du.sum(0)


def right_running_sum(x, dy):
    return (jnp.cumsum(dy[::-1], axis=0)[::-1],)


def right_block(saved, dy):
    x, w1, w2, h = saved
    dz = dy @ w2.T * (1 - h**2)
    return dy + dz @ w1.T, x.T @ dz, h.T @ dy


def right_length_zero_at_zero(x, dy):
    y = subtle.length(x)[:, None]
    return (dy[:, None] * x / y,)


def right_square_root(x, dy):
    return (jnp.where(x > 0, dy * 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0),)


def right_softplus(x, dy):
    return (dy * jax.nn.sigmoid(x),)


def right_tree(saved, dy):
    x, scale = saved
    return dy["y"] * scale + dy["z"], {"scale": (dy["y"] * x).sum(0), "shift": dy["z"].sum(0)}
