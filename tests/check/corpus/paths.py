"""Planted mistakes that lie between operations: sums over other axes, single paths, steps of unrolled loops."""

import jax
import jax.numpy as jnp

from .case import NARROW, ROWS, cases, normal

EPSILON, STEPS, TAPS = 0.1, 4, 3


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


def states(x, h, w):
    found = [h]
    for t in range(STEPS):
        found.append(jnp.tanh(x[t] + found[-1] @ w))
    return found


def recur(x, h, w):
    return states(x, h, w)[-1]


def recur_forward(x, h, w):
    found = states(x, h, w)
    return found[-1], (found, w)


def make_recur(key, size):
    n, k = ROWS[size], NARROW[size]
    x, h, w = normal(key, (STEPS, n, k), (n, k), (k, k))
    return x, h, 0.5 * w


def _recur(saved, dh, shift=0, tanh=True):
    found, w = saved
    dx, dw = [jnp.zeros_like(dh)] * STEPS, jnp.zeros_like(w)
    for t in reversed(range(STEPS)):
        dx[t] = dh * (1 - found[t + 1] ** 2 if tanh else 1)
        dw += found[t + shift].T @ dx[t]
        dh = dx[t] @ w.T
    return jnp.stack(dx), dh, dw


def state_of_the_step_after(saved, dh):
    return _recur(saved, dh, shift=1)


def activation_left_out_of_every_step(saved, dh):
    return _recur(saved, dh, tanh=False)


def taps(x, w):
    n = x.shape[0] - TAPS + 1
    return sum(x[i : i + n] @ w[i] for i in range(TAPS))


def taps_forward(x, w):
    return taps(x, w), (x, w)


def make_taps(key, size):
    k = NARROW[size]
    return normal(key, (ROWS[size] + TAPS, k), (TAPS, k, k + 1))


def taps_in_the_opposite_order(saved, dy):
    x, w = saved
    n = len(dy)
    dx = jnp.zeros_like(x)
    for i in range(TAPS):
        dx = dx.at[i : i + n].add(dy @ w[TAPS - 1 - i].T)
    return dx, jnp.stack([x[i : i + n].T @ dy for i in range(TAPS)])


def turn(x, sign=1.0):
    a, b = jnp.split(x, 2, -1)
    angle = jnp.arange(x.shape[0], dtype=x.dtype)[:, None] / 7
    c, s = jnp.cos(angle), sign * jnp.sin(angle)
    return jnp.concatenate([a * c - b * s, a * s + b * c], -1)


def turn_forward(x):
    return turn(x), None


def make_turn(key, size):
    return normal(key, (ROWS[size], 2 * NARROW[size]))


def turned_forwards(_, dy):
    return (turn(dy),)


def not_turned_back(_, dy):
    return (dy,)


def shuffle(x):
    h, w, k = x.shape
    return x.reshape(h, w, 2, 3, k // 6).transpose(0, 2, 1, 3, 4).reshape(2 * h, 3 * w, k // 6)


def shuffle_forward(x):
    return shuffle(x), x


def make_shuffle(key, size):
    return normal(key, (ROWS[size] // 2, 5, 12))


def rows_and_columns_exchanged(x, dy):
    h, w, k = x.shape
    return (dy.reshape(h, 2, w, 3, k // 6).transpose(0, 2, 3, 1, 4).reshape(x.shape),)


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
    *cases(
        "unrolled", recur, recur_forward, make_recur,
        (state_of_the_step_after, ("another value",)),
        (activation_left_out_of_every_step, ("derivative missing",)),
    ),
    *cases("taps", taps, taps_forward, make_taps, (taps_in_the_opposite_order, ("order reversed",))),
    *cases(
        "rotation", turn, turn_forward, make_turn,
        (turned_forwards, ("transpose missing", "sign")),
        (not_turned_back, ("derivative missing",)),
    ),
    *cases("pixel shuffle", shuffle, shuffle_forward, make_shuffle,
        (rows_and_columns_exchanged, ("transpose missing", "order of elements")),
    ),
    *cases("pool with ties", pool, pool_forward, make_pool, (every_largest_gets_all, ("ties counted twice",))),
    *cases("precision", precision, precision_forward, make_precision,
        (divided_where_it_multiplies, ("another formula",)),
    ),
)  # fmt: skip
