"""Mistakes as textbooks warn of them: smoothing, dropout, solves, gates, adjoints."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import NARROW, ROWS, WIDE, Case, cases, normal

SMOOTHING, KEEP = 0.1, 0.75


def _zero(x):
    return np.zeros(x.shape, jax.dtypes.float0)


# --- label smoothing


def smoothed(z, label):
    n = z.shape[-1]
    target = jax.nn.one_hot(label, n) * (1 - SMOOTHING) + SMOOTHING / n
    return -(target * jax.nn.log_softmax(z)).sum(-1).mean()


def _smoothed(saved, dy, smoothing=SMOOTHING):
    z, label = saved
    n = z.shape[-1]
    target = jax.nn.one_hot(label, n) * (1 - smoothing) + smoothing / n
    return dy * (jax.nn.softmax(z) - target) / len(z), _zero(label)


def smoothing_left_out(saved, dy):
    return _smoothed(saved, dy, 0.0)


def _labels(key, size):
    (z,) = normal(key, (ROWS[size], WIDE[size]))
    return z, jax.random.randint(key, (ROWS[size],), 0, WIDE[size])


# --- dropout


def dropped(x, w, key):
    mask = jax.random.bernoulli(key, KEEP, (x.shape[0], w.shape[1]))
    return jnp.where(mask, jnp.tanh(x @ w) / KEEP, 0)


def _dropped(saved, dy, draw=lambda key: key):
    x, w, key = saved
    mask = jax.random.bernoulli(draw(key), KEEP, dy.shape)
    dz = jnp.where(mask, dy / KEEP, 0) * (1 - jnp.tanh(x @ w) ** 2)
    return dz @ w.T, x.T @ dz, _zero(key)


def mask_drawn_from_a_split_key(saved, dy):
    return _dropped(saved, dy, lambda key: jax.random.split(key)[1])


def mask_drawn_from_the_next_key(saved, dy):
    return _dropped(saved, dy, lambda key: jax.random.fold_in(key, 1))


def _with_key(key, size):
    return *normal(key, (ROWS[size], WIDE[size]), (WIDE[size], NARROW[size])), jax.random.key(7)


# --- solves


def posed(w, x, b):
    return jnp.linalg.solve(jnp.tanh(w) + x @ x.T / len(x) + 2 * jnp.eye(len(w)), b)


def _posed(saved, dy, back=lambda a: a.T, turned=False):
    w, x, a, y = saved
    db = jnp.linalg.solve(back(a), dy)
    da = -(y @ db.T if turned else db @ y.T)
    return da * (1 - jnp.tanh(w) ** 2), (da + da.T) @ x / len(x), db


def system_not_transposed(saved, dy):
    return _posed(saved, dy, lambda a: a)


def solution_and_cotangent_exchanged(saved, dy):
    return _posed(saved, dy, turned=True)


def _posed_forward(w, x, b):
    a = jnp.tanh(w) + x @ x.T / len(x) + 2 * jnp.eye(len(w))
    y = jnp.linalg.solve(a, b)
    return y, (w, x, a, y)


def _system(key, size):
    n = (4, 9, 24)[size]
    return normal(key, (n, n), (n, n), (n, n))


def volume(w, v):
    return jnp.linalg.slogdet(jnp.tanh(w) @ v + 3 * jnp.eye(len(w)))[1]


def _volume(saved, dy, turn=jnp.transpose):
    w, v = saved
    t = jnp.tanh(w)
    da = dy * turn(jnp.linalg.inv(t @ v + 3 * jnp.eye(len(w))))
    return (da @ v.T) * (1 - t**2), t.T @ da


def inverse_not_transposed(saved, dy):
    return _volume(saved, dy, lambda a: a)


def _two(key, size):
    n = (4, 9, 24)[size]
    return normal(key, (n, n), (n, n))


# --- gates and adjoints


def _gates(z, c):
    i, f, g, o = jnp.split(z, 4, -1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    return i, f, g, o, f * c + i * g


def lstm(x, h, c, w, u):
    *_, o, after = _gates(x @ w + h @ u, c)
    return o * jnp.tanh(after), after


def _lstm(saved, dys, order=(0, 1, 2, 3)):
    x, h, c, w, u = saved
    (dh, dc), (i, f, g, o, after) = dys, _gates(x @ w + h @ u, c)
    t = jnp.tanh(after)
    dc = dc + dh * o * (1 - t**2)
    parts = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * t * o * (1 - o)
    dz = jnp.concatenate([parts[n] for n in order], -1)
    return dz @ w.T, dz @ u.T, dc * f, x.T @ dz, h.T @ dz


def input_and_forget_gates_exchanged(saved, dys):
    return _lstm(saved, dys, (1, 0, 2, 3))


def candidate_and_output_gates_exchanged(saved, dys):
    return _lstm(saved, dys, (0, 1, 3, 2))


def _cell(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    x, h, c, w, u = normal(key, (n, k), (n, j), (n, j), (k, 4 * j), (j, 4 * j))
    return x, h, c, w / 2, u / 2


def gru(x, h, w, u):
    r, z = jnp.split(jax.nn.sigmoid(x @ w[:, : 2 * h.shape[1]] + h @ u[:, : 2 * h.shape[1]]), 2, -1)
    n = jnp.tanh(x @ w[:, 2 * h.shape[1] :] + r * (h @ u[:, 2 * h.shape[1] :]))
    return (1 - z) * n + z * h


def _gru(saved, dy, swapped=False):
    x, h, w, u = saved
    j = h.shape[1]
    r, z = jnp.split(jax.nn.sigmoid(x @ w[:, : 2 * j] + h @ u[:, : 2 * j]), 2, -1)
    s = h @ u[:, 2 * j :]
    n = jnp.tanh(x @ w[:, 2 * j :] + r * s)
    dn = dy * (1 - z) * (1 - n**2)
    dr, dz, ds = dn * s * r * (1 - r), dy * (h - n) * z * (1 - z), dn * r
    both = jnp.concatenate([dz, dr] if swapped else [dr, dz], -1)
    dx = both @ w[:, : 2 * j].T + dn @ w[:, 2 * j :].T
    dh = dy * z + both @ u[:, : 2 * j].T + ds @ u[:, 2 * j :].T
    return dx, dh, jnp.concatenate([x.T @ both, x.T @ dn], -1), jnp.concatenate([h.T @ both, h.T @ ds], -1)


def reset_and_update_gates_exchanged(saved, dy):
    return _gru(saved, dy, True)


def _gru_cell(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    x, h, w, u = normal(key, (n, k), (n, j), (k, 3 * j), (j, 3 * j))
    return x, h, w / 2, u / 2


def recurrent(x, w, u):
    def step(h, x):
        h = jnp.tanh(x @ w + h @ u)
        return h, h

    return lax.scan(step, jnp.zeros((x.shape[1], u.shape[0])), x)[1]


def _recurrent(saved, dhs, backwards=True):
    x, w, u, hs = saved

    def step(dh, at):
        d, h = at
        dz = (dh + d) * (1 - h**2)
        return dz @ u.T, dz

    _, dz = lax.scan(step, jnp.zeros_like(hs[0]), (dhs, hs), reverse=backwards)
    before = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    return dz @ w.T, jnp.einsum("tnk,tnj->kj", x, dz), jnp.einsum("tni,tnj->ij", before, dz)


def adjoint_runs_forwards(saved, dhs):
    return _recurrent(saved, dhs, False)


def _recurrent_forward(x, w, u):
    hs = recurrent(x, w, u)
    return hs, (x, w, u, hs)


def _sequence(key, size):
    k, j = WIDE[size], NARROW[size]
    x, w, u = normal(key, (5, ROWS[size], k), (k, j), (j, j))
    return x, w / 2, u / 2


def _volume_forward(w, v):
    return volume(w, v), (w, v)


def _kept(f):
    return lambda *args: (f(*args), args)


def right_smoothing(saved, dy):
    return _smoothed(saved, dy)


def right_dropout(saved, dy):
    return _dropped(saved, dy)


def right_solve(saved, dy):
    return _posed(saved, dy)


def right_volume(saved, dy):
    return _volume(saved, dy)


def right_lstm(saved, dys):
    return _lstm(saved, dys)


def right_gru(saved, dy):
    return _gru(saved, dy)


def right_adjoint(saved, dhs):
    return _recurrent(saved, dhs)


TRANSPOSE, GATES = ("transpose missing",), ("parts exchanged",)
REDRAWN, SMOOTH = ("mask drawn again",), ("label smoothing left out",)
ALL: tuple[Case, ...] = (
    *cases("smoothing", smoothed, _kept(smoothed), _labels, (smoothing_left_out, SMOOTH), (right_smoothing, ())),
    *cases(
        "dropout by key", dropped, _kept(dropped), _with_key,
        (mask_drawn_from_a_split_key, REDRAWN), (mask_drawn_from_the_next_key, REDRAWN), (right_dropout, ()),
    ),
    *cases(
        "solve", posed, _posed_forward, _system,
        (system_not_transposed, TRANSPOSE), (solution_and_cotangent_exchanged, TRANSPOSE), (right_solve, ()),
    ),
    *cases("volume", volume, _volume_forward, _two, (inverse_not_transposed, TRANSPOSE), (right_volume, ())),
    *cases(
        "memory cell", lstm, _kept(lstm), _cell,
        (input_and_forget_gates_exchanged, GATES), (candidate_and_output_gates_exchanged, GATES), (right_lstm, ()),
    ),
    *cases("gated unit", gru, _kept(gru), _gru_cell, (reset_and_update_gates_exchanged, GATES), (right_gru, ())),
    *cases("scan", recurrent, _recurrent_forward, _sequence, (adjoint_runs_forwards, ("order reversed",)), (right_adjoint, ())),
)  # fmt: skip
CASES = tuple(c for c in ALL if c.names)
RIGHT = tuple(c for c in ALL if not c.names)
