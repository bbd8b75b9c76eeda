"""Planted mistakes that lie between operations: sums over other axes, single paths."""

import jax
import jax.numpy as jnp

from .case import NARROW, ROWS, cases, normal

EPSILON = 0.1


def norm(x, g):
    c = x - x.mean(-1, keepdims=True)
    return c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + EPSILON) * g


def norm_forward(x, g):
    return norm(x, g), (x, g)


def make_norm(key, size):
    return normal(key, (ROWS[size], NARROW[size]), (NARROW[size],))


def _norm(saved, dy, axis=-1, both=False, gain=True):
    x, g = saved
    c = x - x.mean(-1, keepdims=True)
    r = jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + EPSILON)
    h, dh = c * r, dy * g
    mean = dh.mean(axis if both else -1, keepdims=True)
    scale = h * ((dh if gain else dy) * h).mean(axis, keepdims=True)
    return r * (dh - mean - scale), (dy * h).sum(0)


def variance_over_the_batch(saved, dy):
    return _norm(saved, dy, axis=0)


def both_statistics_over_the_batch(saved, dy):
    return _norm(saved, dy, axis=0, both=True)


def gain_left_out_of_the_variance(saved, dy):
    return _norm(saved, dy, gain=False)


def gain_summed_over_the_features_too(saved, dy):
    dx, dg = _norm(saved, dy)
    return dx, jnp.full_like(dg, dg.sum())


def unit(x):
    return x / jnp.sqrt((x * x).sum(-1, keepdims=True))


def unit_forward(x):
    return unit(x), x


def length_held_constant(x, dy):
    return (dy / jnp.sqrt((x * x).sum(-1, keepdims=True)),)


def softmax_forward(x):
    y = jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)
    return y, y


def softmax(x):
    return softmax_forward(x)[0]


def make_rows(key, size):
    return normal(key, (ROWS[size], NARROW[size]))


def sum_over_the_batch(y, dy):
    return (y * (dy - (dy * y).sum(0)),)


def log_softmax(x):
    return x - jnp.log(jnp.exp(x).sum(-1, keepdims=True))


def log_softmax_forward(x):
    return log_softmax(x), x


def cotangent_taken_to_sum_to_one(x, dy):
    return (dy - jax.nn.softmax(x),)


def derivative_of_softmax(x, dy):
    p = jax.nn.softmax(x)
    return (p * (dy - (p * dy).sum(-1, keepdims=True)),)


def pool(x):
    return x.reshape(x.shape[0] // 2, 2, -1).max(1)


def pool_forward(x):
    return pool(x), x


def make_pool(key, size):
    (x,) = normal(key, (2 * ROWS[size], NARROW[size]))
    return (jnp.round(x),)


def every_largest_gets_all(x, dy):
    pairs = x.reshape(x.shape[0] // 2, 2, -1)
    return (jnp.where(pairs == pairs.max(1, keepdims=True), dy[:, None], 0).reshape(x.shape),)


def precision(x, s):
    return x * x * jnp.exp(-s)


def precision_forward(x, s):
    return precision(x, s), (x, s)


def make_precision(key, size):
    return normal(key, (ROWS[size], NARROW[size]), (ROWS[size], NARROW[size]))


def divided_where_it_multiplies(saved, dy):
    x, s = saved
    return 2 * dy * x * jnp.exp(s), -dy * x * x * jnp.exp(-s)


CASES = (
    *cases(
        "norm", norm, norm_forward, make_norm,
        (variance_over_the_batch, ("mean over the wrong axis",)),
        (both_statistics_over_the_batch, ("mean over the wrong axis",)),
        (gain_left_out_of_the_variance, ("derivative missing",)),
        (gain_summed_over_the_features_too, ("summed too far",)),
    ),
    *cases("unit", unit, unit_forward, make_rows, (length_held_constant, ("term dropped",))),
    *cases("softmax of a batch", softmax, softmax_forward, make_rows,
        (sum_over_the_batch, ("mean over the wrong axis",)),
    ),
    *cases(
        "log-softmax", log_softmax, log_softmax_forward, make_rows,
        (cotangent_taken_to_sum_to_one, ("cotangent ignored",)),
        (derivative_of_softmax, ("another formula",)),
    ),
    *cases("pool with ties", pool, pool_forward, make_pool, (every_largest_gets_all, ("ties counted twice",))),
    *cases("precision", precision, precision_forward, make_precision,
        (divided_where_it_multiplies, ("another formula",)),
    ),
)  # fmt: skip
