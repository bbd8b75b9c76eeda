"""Planted mistakes in recurrences, running sums and skip connections."""

import jax.numpy as jnp
from jax import lax

from .case import NARROW, ROWS, WIDE, cases, normal

STEPS = (4, 7, 9)


def make(key, size):
    t, n, k = STEPS[size], ROWS[size], NARROW[size]
    h, x, w, u = normal(key, (n, k), (t, n, k + 1), (k, k), (k + 1, k))
    return h, x, 0.4 * w, 0.4 * u


def _step(h, x, w, u):
    return jnp.tanh(h @ w + x @ u)


def recurrence(h, x, w, u):
    def step(h, x):
        h = _step(h, x, w, u)
        return h, h

    return lax.scan(step, h, x)[1]


def recurrence_forward(h, x, w, u):
    hs = recurrence(h, x, w, u)
    return hs, (jnp.concatenate([h[None], hs[:-1]]), hs, x, w, u)


def through_time_is_cut(saved, dy):
    before, hs, x, w, u = saved
    dz = dy * (1 - hs**2)
    return dz[0] @ w.T, dz @ u.T, jnp.einsum("tni,tnj->ij", before, dz), jnp.einsum("tni,tnj->ij", x, dz)


def _backward(before, hs, x, w, u, dy, factor=1.0, transpose=True, through=True):
    def step(dh, at):
        b, h, x, d = at
        dz = (d + factor * dh) * ((1 - h**2) if through else 1)
        return dz @ (w.T if transpose else w), (dz @ u.T, b.T @ dz, x.T @ dz)

    dh, (dx, dw, du) = lax.scan(step, jnp.zeros_like(hs[0]), (before, hs, x, dy), reverse=True)
    return dh, dx, dw, du


def recurrent_weight_not_transposed(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = _backward(before, hs, x, w, u, dy, transpose=False)
    return dh, dx, dw.sum(0), du.sum(0)


def recurrent_weight_from_the_last_step(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = _backward(before, hs, x, w, u, dy)
    return dh, dx, dw[-1], du.sum(0)


def weights_averaged_over_time(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = _backward(before, hs, x, w, u, dy)
    return dh, dx, dw.mean(0), du.mean(0)


def state_from_after_the_step(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = _backward(hs, hs, x, w, u, dy)
    return dh, dx, dw.sum(0), du.sum(0)


def recurrent_derivative_missing(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = _backward(before, hs, x, w, u, dy, through=False)
    return dh, dx, dw.sum(0), du.sum(0)


def inputs_in_reversed_order(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = _backward(before, hs, x, w, u, dy)
    return dh, dx[::-1], dw.sum(0), du.sum(0)


def initial_state_zero(saved, dy):
    before, hs, x, w, u = saved
    dh, dx, dw, du = _backward(before, hs, x, w, u, dy)
    return jnp.zeros_like(dh), dx, dw.sum(0), du.sum(0)


def make_rows(key, size):
    return normal(key, (ROWS[size], WIDE[size]))


def running_sum(x):
    return jnp.cumsum(x, axis=0)


def running_forward(x):
    return running_sum(x), x


def running_sum_not_reversed(x, dy):
    return (jnp.cumsum(dy, axis=0),)


def running_sum_exclusive(x, dy):
    return (jnp.cumsum(dy[::-1], axis=0)[::-1] - dy,)


def running_sum_left_out(x, dy):
    return (dy,)


def difference(x):
    return x[1:] - x[:-1]


def difference_forward(x):
    return difference(x), x


def difference_without_the_tail(x, dy):
    return (jnp.zeros_like(x).at[1:].add(dy),)


def difference_signs_equal(x, dy):
    return (jnp.zeros_like(x).at[1:].add(dy).at[:-1].add(dy),)


def block(x, w1, w2):
    return x + jnp.tanh(x @ w1) @ w2


def block_forward(x, w1, w2):
    h = jnp.tanh(x @ w1)
    return x + h @ w2, (x, w1, w2, h)


def make_block(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    return normal(key, (n, k), (k, j), (j, k))


def skip_left_out(saved, dy):
    x, w1, w2, h = saved
    dz = dy @ w2.T * (1 - h**2)
    return dz @ w1.T, x.T @ dz, h.T @ dy


def branch_left_out(saved, dy):
    x, w1, w2, h = saved
    dz = dy @ w2.T * (1 - h**2)
    return dy, x.T @ dz, h.T @ dy


def skip_counted_twice(saved, dy):
    x, w1, w2, h = saved
    dz = dy @ w2.T * (1 - h**2)
    return 2 * dy + dz @ w1.T, x.T @ dz, h.T @ dy


def first_weight_from_the_cotangent_after(saved, dy):
    x, w1, w2, h = saved
    da = dy @ w2.T
    dz = da * (1 - h**2)
    return dy + dz @ w1.T, x.T @ da, h.T @ dy


def second_weight_updated_first(saved, dy):
    x, w1, w2, h = saved
    dw2 = h.T @ dy
    dz = dy @ (w2 - 0.05 * dw2).T * (1 - h**2)
    return dy + dz @ w1.T, x.T @ dz, dw2


CASES = (
    *cases(
        "recurrence", recurrence, recurrence_forward, make,
        (through_time_is_cut, ("term dropped",)),
        (recurrent_weight_not_transposed, ("transpose missing",)),
        (recurrent_weight_from_the_last_step, ("broadcast not summed", "rows dropped")),
        (weights_averaged_over_time, ("mean for sum",)),
        (state_from_after_the_step, ("another value",)),
        (recurrent_derivative_missing, ("derivative missing",)),
        (inputs_in_reversed_order, ("order reversed",)),
        (initial_state_zero, ("zero gradient",)),
    ),
    *cases(
        "running sum", running_sum, running_forward, make_rows,
        (running_sum_not_reversed, ("order reversed", "transpose missing")),
        (running_sum_exclusive, ("rows shifted", "another formula")),
        (running_sum_left_out, ("derivative missing", "diagonal only")),
    ),
    *cases(
        "difference", difference, difference_forward, make_rows,
        (difference_without_the_tail, ("term dropped",)),
        (difference_signs_equal, ("sign",)),
    ),
    *cases(
        "residual block", block, block_forward, make_block,
        (skip_left_out, ("term dropped",)),
        (branch_left_out, ("term dropped",)),
        (skip_counted_twice, ("factor",)),
        (first_weight_from_the_cotangent_after, ("derivative missing",)),
        (second_weight_updated_first, ("weights updated early",)),
    ),
)  # fmt: skip
