"""Right backward passes of norms, losses, attention and pooling, and inputs that make them hard to judge."""

import jax
import jax.numpy as jnp
import numpy as np

from . import attention, convolution, losses, norms


def right_layernorm(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    dx = r * (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True))
    return dx, (dy * xhat).sum(0), dy.sum(0)


def make_offset(key, size):
    x, scale, shift = norms.make(key, size)
    return x + 100, scale, shift


def make_constant_rows(key, size):
    x, scale, shift = norms.make(key, size)
    return x.at[0].set(1.0), scale, shift


def make_tiny(key, size):
    x, scale, shift = norms.make(key, size)
    return 1e-4 * x, scale, shift


def right_rmsnorm(saved, dy):
    x, r, scale = saved
    d = dy * scale
    return r * d - x * r**3 * (d * x).mean(-1, keepdims=True), (dy * x * r).sum(0)


def right_batchnorm(saved, dy):
    xhat, s, scale = saved
    dx = scale / s * (dy - dy.mean(0) - xhat * (dy * xhat).mean(0))
    return dx, (dy * xhat).sum(0), dy.sum(0)


def right_unit_length(saved, dy):
    y, length = saved
    return ((dy - y * (dy * y).sum(-1, keepdims=True)) / length,)


def right_crossentropy(saved, dy):
    p, labels = saved
    onehot = jax.nn.one_hot(labels, p.shape[-1], dtype=p.dtype)
    return dy * (p - onehot) / p.shape[0], np.zeros(labels.shape, jax.dtypes.float0)


def none_for_the_labels(saved, dy):
    return right_crossentropy(saved, dy)[0], None


def make_confident(key, size):
    z, labels = losses.make_labels(key, size)
    return 40 * z, labels


def right_softmax(y, dy):
    return (y * (dy - (dy * y).sum(-1, keepdims=True)),)


def make_large_softmax(key, size):
    return (50 * attention.make_softmax(key, size)[0] + 1000,)


def stable_log_softmax(z):
    return jax.nn.log_softmax(z)


def stable_log_softmax_forward(z):
    y = stable_log_softmax(z)
    return y, y


def right_log_softmax(y, dy):
    return (dy - jnp.exp(y) * dy.sum(-1, keepdims=True),)


def right_attention(saved, do):
    q, k, v, p = saved
    dp = do @ v.T
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, p.T @ do


def right_causal_attention(saved, do):
    return right_attention(saved[:4], do)


def right_convolution(saved, dy):
    x, w = saved
    return convolution._input(w, dy), convolution._kernel(x, dy), dy.sum((0, 1, 2))


def right_average_pool(x, dy):
    return (convolution._spread(dy) / 4,)


def right_max_pool(saved, dy):
    x, y = saved
    hit = x == convolution._spread(y)
    return (jnp.where(hit, convolution._spread(dy), 0),)
