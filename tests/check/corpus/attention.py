"""Planted mistakes in softmax and attention: Jacobians, masks, scales and the four matrix products."""

import jax
import jax.numpy as jnp

from .case import NARROW, ROWS, WIDE, cases, normal


def softmax(z):
    e = jnp.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_forward(z):
    y = softmax(z)
    return y, y


def make_softmax(key, size):
    return normal(key, (ROWS[size], NARROW[size]))


def diagonal_of_the_jacobian_only(y, dy):
    return (y * (1 - y) * dy,)


def normalisation_left_out(y, dy):
    return (y * dy,)


def probability_left_out(y, dy):
    return (dy - (dy * y).sum(-1, keepdims=True),)


def mean_for_the_inner_sum(y, dy):
    return (y * (dy - (dy * y).mean(-1, keepdims=True)),)


def softmax_over_the_other_axis(y, dy):
    return (y * (dy - (dy * y).sum(0, keepdims=True)),)


def softmax_plus(y, dy):
    return (y * (dy + (dy * y).sum(-1, keepdims=True)),)


def log_softmax(z):
    return z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))


def log_softmax_forward(z):
    y = log_softmax(z)
    return y, y


def log_softmax_sum_left_out(y, dy):
    return (dy,)


def log_softmax_without_exp(y, dy):
    return (dy - y * dy.sum(-1, keepdims=True),)


def attention(q, k, v):
    s = q @ k.T / jnp.sqrt(q.shape[-1])
    return jax.nn.softmax(s) @ v


def attention_forward(q, k, v):
    p = jax.nn.softmax(q @ k.T / jnp.sqrt(q.shape[-1]))
    return p @ v, (q, k, v, p)


def make(key, size):
    n, d = ROWS[size], WIDE[size]
    return normal(key, (n, d), (n, d), (n, d))


def _scores(p, v, do):
    dp = do @ v.T
    return p * (dp - (dp * p).sum(-1, keepdims=True))


def scale_left_out(saved, do):
    q, k, v, p = saved
    ds = _scores(p, v, do)
    return ds @ k, ds.T @ q, p.T @ do


def scale_applied_twice(saved, do):
    q, k, v, p = saved
    ds = _scores(p, v, do) / q.shape[-1]
    return ds @ k, ds.T @ q, p.T @ do


def keys_not_transposed(saved, do):
    q, k, v, p = saved
    ds = _scores(p, v, do) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds @ q, p.T @ do


def values_not_transposed(saved, do):
    q, k, v, p = saved
    ds = _scores(p, v, do) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, p @ do


def queries_and_keys_swapped(saved, do):
    q, k, v, p = saved
    ds = _scores(p, v, do) / jnp.sqrt(q.shape[-1])
    return ds.T @ q, ds @ k, p.T @ do


def softmax_correction_left_out(saved, do):
    q, k, v, p = saved
    ds = p * (do @ v.T) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, p.T @ do


def softmax_left_out(saved, do):
    q, k, v, p = saved
    ds = do @ v.T / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, p.T @ do


def correction_averaged(saved, do):
    q, k, v, p = saved
    dp = do @ v.T
    ds = p * (dp - (dp * p).mean(-1, keepdims=True)) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, p.T @ do


def query_gradient_from_the_queries(saved, do):
    q, k, v, p = saved
    ds = _scores(p, v, do) / jnp.sqrt(q.shape[-1])
    return ds @ q, ds.T @ q, p.T @ do


def value_gradient_without_the_probabilities(saved, do):
    q, k, v, p = saved
    ds = _scores(p, v, do) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, do


def causal(q, k, v):
    s = q @ k.T / jnp.sqrt(q.shape[-1])
    s = jnp.where(jnp.tril(jnp.ones(s.shape, bool)), s, -1e9)
    return jax.nn.softmax(s) @ v


def causal_forward(q, k, v):
    s = q @ k.T / jnp.sqrt(q.shape[-1])
    p = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones(s.shape, bool)), s, -1e9))
    unmasked = jax.nn.softmax(s)
    return p @ v, (q, k, v, p, unmasked)


def probabilities_without_the_mask(saved, do):
    q, k, v, p, unmasked = saved
    ds = _scores(unmasked, v, do) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, p.T @ do


def value_gradient_without_the_mask(saved, do):
    q, k, v, p, unmasked = saved
    ds = _scores(p, v, do) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, unmasked.T @ do


def last_query_left_out(saved, do):
    q, k, v, p, unmasked = saved
    ds = _scores(p, v, do) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds[:-1].T @ q[:-1], p[:-1].T @ do[:-1]


CASES = (
    *cases(
        "softmax", softmax, softmax_forward, make_softmax,
        (diagonal_of_the_jacobian_only, ("diagonal only",)),
        (normalisation_left_out, ("term dropped",)),
        (probability_left_out, ("derivative missing",)),
        (mean_for_the_inner_sum, ("mean for sum",)),
        (softmax_over_the_other_axis, ("mean over the wrong axis", "another axis")),
        (softmax_plus, ("sign",)),
    ),
    *cases(
        "log-softmax", log_softmax, log_softmax_forward, make_softmax,
        (log_softmax_sum_left_out, ("term dropped",)),
        (log_softmax_without_exp, ("derivative missing", "another value")),
    ),
    *cases(
        "attention", attention, attention_forward, make,
        (scale_left_out, ("constant left out", "derivative missing")),
        (scale_applied_twice, ("constant applied twice", "factor")),
        (keys_not_transposed, ("transpose missing",)),
        (values_not_transposed, ("transpose missing",)),
        (queries_and_keys_swapped, ("leaves swapped",)),
        (softmax_correction_left_out, ("term dropped",)),
        (softmax_left_out, ("derivative missing",)),
        (correction_averaged, ("mean for sum",)),
        (query_gradient_from_the_queries, ("another value",)),
        (value_gradient_without_the_probabilities, ("derivative missing", "another value")),
    ),
    *cases(
        "causal attention", causal, causal_forward, make,
        (probabilities_without_the_mask, ("mask ignored", "another value")),
        (value_gradient_without_the_mask, ("mask ignored", "another value")),
        (last_query_left_out, ("rows dropped",)),
    ),
)  # fmt: skip
