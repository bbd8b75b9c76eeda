"""Planted mistakes in steps of recurrent networks: gated units, memory cells, moving averages."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import NARROW, ROWS, cases, normal

DECAY = 0.8


def gru(h, x, wz, wr, wn):
    hx = jnp.concatenate([h, x], -1)
    z, r = jax.nn.sigmoid(hx @ wz), jax.nn.sigmoid(hx @ wr)
    n = jnp.tanh(jnp.concatenate([r * h, x], -1) @ wn)
    return (1 - z) * n + z * h


def gru_forward(h, x, wz, wr, wn):
    return gru(h, x, wz, wr, wn), (h, x, wz, wr, wn)


def make_gru(key, size):
    n, k = ROWS[size], NARROW[size]
    wide = (2 * k + 2, k)
    h, x, *weights = normal(key, (n, k), (n, k + 2), wide, wide, wide)
    return h, x, *(0.5 * w for w in weights)


def _gru(saved, dy, reset=1.0, carried=1.0, update=1.0, tanh=True, sigmoid=True, by="state"):
    h, x, wz, wr, wn = saved
    k, hx = h.shape[-1], jnp.concatenate([h, x], -1)
    z, r = jax.nn.sigmoid(hx @ wz), jax.nn.sigmoid(hx @ wr)
    rhx = jnp.concatenate([r * h, x], -1)
    n = jnp.tanh(rhx @ wn)
    dn = dy * (1 - z) * (1 - n**2 if tanh else 1)
    dz = update * dy * (h - n) * (z * (1 - z) if sigmoid else 1)
    drhx = dn @ wn.T
    dr = drhx[:, :k] * (h if by == "state" else n) * r * (1 - r)
    dhx = dz @ wz.T + reset * dr @ wr.T
    dh = carried * dy * z + drhx[:, :k] * r + dhx[:, :k]
    return dh, drhx[:, k:] + dhx[:, k:], hx.T @ dz, hx.T @ dr, rhx.T @ dn


def right_gru(saved, dy):
    return _gru(saved, dy)


def reset_gate_path_left_out(saved, dy):
    return _gru(saved, dy, reset=0.0)


def carried_state_left_out(saved, dy):
    return _gru(saved, dy, carried=0.0)


def sign_of_the_update_gate(saved, dy):
    return _gru(saved, dy, update=-1.0)


def candidate_derivative_missing(saved, dy):
    return _gru(saved, dy, tanh=False)


def update_gate_derivative_missing(saved, dy):
    return _gru(saved, dy, sigmoid=False)


def reset_gate_from_the_candidate(saved, dy):
    return _gru(saved, dy, by="candidate")


def lstm(c, z):
    i, f, g, o = jnp.split(z, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)


def lstm_forward(c, z):
    return lstm(c, z), (c, z)


def make_lstm(key, size):
    n, k = ROWS[size], NARROW[size]
    return normal(key, (n, k), (n, 4 * k))


def _lstm(saved, dys, cell=1.0, hidden=1.0, tanh=True, order=(0, 1, 2, 3)):
    c, z = saved
    i, f, g, o = jnp.split(z, 4, -1)
    si, sf, so, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), jnp.tanh(g)
    t = jnp.tanh(sf * c + si * g)
    dc = cell * dys[0] + hidden * dys[1] * so * (1 - t**2 if tanh else 1)
    parts = dc * g * si * (1 - si), dc * c * sf * (1 - sf), dc * si * (1 - g**2), dys[1] * t * so * (1 - so)
    return dc * sf, jnp.concatenate([parts[n] for n in order], -1)


def right_lstm(saved, dys):
    return _lstm(saved, dys)


def cell_cotangent_left_out(saved, dys):
    return _lstm(saved, dys, cell=0.0)


def hidden_state_is_no_path_to_the_cell(saved, dys):
    return _lstm(saved, dys, hidden=0.0)


def cell_derivative_missing(saved, dys):
    return _lstm(saved, dys, tanh=False)


def gates_in_another_order(saved, dys):
    return _lstm(saved, dys, order=(1, 0, 2, 3))


def moving_average(m, x):
    def step(m, x):
        m = DECAY * m + (1 - DECAY) * x
        return m, m

    return lax.scan(step, m, x)[1]


def moving_forward(m, x):
    return moving_average(m, x), None


def make_moving(key, size):
    return normal(key, (NARROW[size],), (ROWS[size], NARROW[size]))


def _moving(dy, decay=DECAY, gain=1 - DECAY, reverse=True):
    def step(dm, d):
        return decay * (d + dm), gain * (d + dm)

    return lax.scan(step, jnp.zeros_like(dy[0]), dy, reverse=reverse)


def right_moving_average(_, dy):
    return _moving(dy)


def decay_left_out(_, dy):
    return _moving(dy, decay=1.0)


def gain_left_out(_, dy):
    return _moving(dy, gain=1.0)


def averaged_forwards(_, dy):
    return _moving(dy, reverse=False)


def memory_cut(_, dy):
    return _moving(dy, decay=0.0)


CASES = (
    *cases(
        "gru", gru, gru_forward, make_gru,
        (reset_gate_path_left_out, ("term dropped",)),
        (carried_state_left_out, ("term dropped",)),
        (sign_of_the_update_gate, ("sign",)),
        (candidate_derivative_missing, ("derivative missing",)),
        (update_gate_derivative_missing, ("derivative missing",)),
        (reset_gate_from_the_candidate, ("another value",)),
    ),
    *cases(
        "lstm", lstm, lstm_forward, make_lstm,
        (cell_cotangent_left_out, ("term dropped",)),
        (hidden_state_is_no_path_to_the_cell, ("term dropped",)),
        (cell_derivative_missing, ("derivative missing",)),
        (gates_in_another_order, ("order of elements", "leaves swapped")),
    ),
    *cases(
        "moving average", moving_average, moving_forward, make_moving,
        (decay_left_out, ("constant left out",)),
        (gain_left_out, ("constant left out", "factor")),
        (averaged_forwards, ("order reversed",)),
        (memory_cut, ("term dropped",)),
    ),
)  # fmt: skip
RIGHT = (
    *cases("right gru", gru, gru_forward, make_gru, (right_gru, ())),
    *cases("right lstm", lstm, lstm_forward, make_lstm, (right_lstm, ())),
    *cases("right moving average", moving_average, moving_forward, make_moving, (right_moving_average, ())),
)
