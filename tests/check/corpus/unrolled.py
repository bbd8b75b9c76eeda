"""Planted mistakes in what is unrolled, turned and shuffled: steps, taps, orders of elements."""

import jax.numpy as jnp

from .case import NARROW, ROWS, cases, normal

STEPS, TAPS = 4, 3


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


def _recur(saved, dh, shift=0, tanh=True, sign=1):
    found, w = saved
    dx, dw = [jnp.zeros_like(dh)] * STEPS, jnp.zeros_like(w)
    for t in reversed(range(STEPS)):
        dx[t] = dh * (1 - found[t + 1] ** 2 if tanh else 1)
        dw += found[t + shift].T @ dx[t]
        dh = sign * (dx[t] @ w.T)
    return jnp.stack(dx), dh, dw


def state_of_the_step_after(saved, dh):
    return _recur(saved, dh, shift=1)


def activation_left_out_of_every_step(saved, dh):
    return _recur(saved, dh, tanh=False)


def sign_of_the_memory_in_every_step(saved, dh):
    return _recur(saved, dh, sign=-1)


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


def turn(x):
    a, b = jnp.split(x, 2, -1)
    angle = jnp.arange(x.shape[0], dtype=x.dtype)[:, None] / 7
    c, s = jnp.cos(angle), jnp.sin(angle)
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


CASES = (
    *cases(
        "unrolled", recur, recur_forward, make_recur,
        (state_of_the_step_after, ("another value",)),
        (activation_left_out_of_every_step, ("derivative missing",)),
        (sign_of_the_memory_in_every_step, ("sign",)),
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
)  # fmt: skip
