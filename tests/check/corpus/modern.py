"""Planted mistakes in what newer networks are made of: grouped norms, rotations, experts, adapters, caps."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import NARROW, ROWS, WIDE, cases, normal

GROUPS, CAP = 2, 4.5


def groupnorm(x, scale, shift):
    g = x.reshape(len(x), GROUPS, -1)
    h = (g - g.mean(-1, keepdims=True)) / jnp.sqrt(g.var(-1, keepdims=True) + 1e-5)
    return h.reshape(x.shape) * scale + shift


def groupnorm_forward(x, scale, shift):
    return groupnorm(x, scale, shift), (x, scale)


def make_groups(key, size):
    k = GROUPS * NARROW[size]
    return normal(key, (ROWS[size], k), (k,), (k,))


def _groupnorm(saved, dy, mean=1.0, variance=1.0):
    x, scale = saved
    g = x.reshape(len(x), GROUPS, -1)
    rstd = 1 / jnp.sqrt(g.var(-1, keepdims=True) + 1e-5)
    h, dh = (g - g.mean(-1, keepdims=True)) * rstd, (dy * scale).reshape(g.shape)
    terms = mean * dh.mean(-1, keepdims=True) + variance * h * (h * dh).mean(-1, keepdims=True)
    return (rstd * (dh - terms)).reshape(x.shape), (dy * h.reshape(x.shape)).sum(0), dy.sum(0)


def right_groupnorm(saved, dy):
    return _groupnorm(saved, dy)


def group_mean_left_out(saved, dy):
    return _groupnorm(saved, dy, mean=0.0)


def group_variance_left_out(saved, dy):
    return _groupnorm(saved, dy, variance=0.0)


def group_variance_halved(saved, dy):
    return _groupnorm(saved, dy, variance=0.5)


def rotated(q, sign=1.0):
    t, k = q.shape[-2], q.shape[-1] // 2
    angle = jnp.arange(t)[:, None] * 0.3 ** jnp.arange(k)[None]
    a, b, cos, sin = q[..., :k], q[..., k:], jnp.cos(angle), sign * jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def rotate(q):
    return rotated(q)


def rotate_forward(q):
    return rotated(q), None


def make_tokens(key, size):
    return normal(key, (3, ROWS[size], 2 * NARROW[size]))


def right_rotation(_, dy):
    return (rotated(dy, -1.0),)


def rotation_not_inverted(_, dy):
    return (rotated(dy),)


def sines_left_out(_, dy):
    return (rotated(dy, 0.0),)


def experts(x, router, first, second):
    gate = jax.nn.softmax(x @ router)
    return gate[:, :1] * (x @ first) + gate[:, 1:] * (x @ second)


def experts_forward(x, router, first, second):
    return experts(x, router, first, second), (x, router, first, second)


def make_experts(key, size):
    k, j = WIDE[size], NARROW[size]
    return normal(key, (ROWS[size], k), (k, 2), (k, j), (k, j))


def _experts(saved, dy, through=1.0, correction=1.0, gates=(0, 1)):
    x, router, first, second = saved
    gate = jax.nn.softmax(x @ router)
    dgate = jnp.stack([(dy * (x @ first)).sum(-1), (dy * (x @ second)).sum(-1)], -1)
    dlogit = gate * (dgate - correction * (gate * dgate).sum(-1, keepdims=True))
    dx = gate[:, :1] * dy @ first.T + gate[:, 1:] * dy @ second.T + through * dlogit @ router.T
    return dx, x.T @ dlogit, *(x.T @ (gate[:, n, None] * dy) for n in gates)


def right_experts(saved, dy):
    return _experts(saved, dy)


def path_through_the_router_left_out(saved, dy):
    return _experts(saved, dy, through=0.0)


def correction_of_the_router_left_out(saved, dy):
    return _experts(saved, dy, correction=0.0)


def gates_exchanged(saved, dy):
    return _experts(saved, dy, gates=(1, 0))


def softcap(x):
    return CAP * jnp.tanh(x / CAP)


def softcap_forward(x):
    y = softcap(x)
    return y, y


def make_large(key, size):
    return (3 * normal(key, (ROWS[size], WIDE[size]))[0],)


def right_softcap(y, dy):
    return (dy * (1 - (y / CAP) ** 2),)


def cap_not_divided_out(y, dy):
    return (dy * (1 - y**2),)


def cap_derivative_missing(y, dy):
    return (dy,)


def largest(x):
    return lax.top_k(x, 2)[0]


def largest_forward(x):
    y, place = lax.top_k(x, 2)
    return y, (x, place)


def make_rows(key, size):
    return normal(key, (ROWS[size], WIDE[size]))


def right_largest(saved, dy):
    x, place = saved
    return (jnp.zeros_like(x).at[jnp.arange(len(x))[:, None], place].add(dy),)


def largest_to_the_first_places(saved, dy):
    return (jnp.zeros_like(saved[0]).at[:, : dy.shape[-1]].add(dy),)


def largest_to_all(saved, dy):
    return (jnp.broadcast_to(dy.sum(-1, keepdims=True), saved[0].shape),)


def solve(a, b):
    return jnp.linalg.solve(a, b)


def solve_forward(a, b):
    y = solve(a, b)
    return y, (a, y)


def make_system(key, size):
    k = NARROW[size]
    a, b = normal(key, (k, k), (k, 2))
    return a + 2 * k**0.5 * jnp.eye(k), b


def right_solve(saved, dy):
    a, y = saved
    db = jnp.linalg.solve(a.T, dy)
    return -db @ y.T, db


def solve_sign(saved, dy):
    da, db = right_solve(saved, dy)
    return -da, db


CASES = (
    *cases(
        "groupnorm", groupnorm, groupnorm_forward, make_groups,
        (group_mean_left_out, ("term dropped",)),
        (group_variance_left_out, ("term dropped",)),
        (group_variance_halved, ("factor",)),
    ),
    *cases(
        "rotation", rotate, rotate_forward, make_tokens,
        (rotation_not_inverted, ("sign", "transpose missing")),
        (sines_left_out, ("term dropped",)),
    ),
    *cases(
        "experts", experts, experts_forward, make_experts,
        (path_through_the_router_left_out, ("term dropped",)),
        (correction_of_the_router_left_out, ("term dropped",)),
        (gates_exchanged, ("another value", "leaves swapped")),
    ),
    *cases(
        "softcap", softcap, softcap_forward, make_large,
        (cap_not_divided_out, ("constant left out", "another formula")),
        (cap_derivative_missing, ("derivative missing",)),
    ),
    *cases(
        "largest", largest, largest_forward, make_rows,
        (largest_to_the_first_places, ("order of elements",)),
        (largest_to_all, ("mask ignored",)),
    ),
    *cases("solve", solve, solve_forward, make_system, (solve_sign, ("sign",))),
)  # fmt: skip
RIGHT = (
    *cases("right groupnorm", groupnorm, groupnorm_forward, make_groups, (right_groupnorm, ())),
    *cases("right rotation", rotate, rotate_forward, make_tokens, (right_rotation, ())),
    *cases("right experts", experts, experts_forward, make_experts, (right_experts, ())),
    *cases("right softcap", softcap, softcap_forward, make_large, (right_softcap, ())),
    *cases("right largest", largest, largest_forward, make_rows, (right_largest, ())),
    *cases("right solve", solve, solve_forward, make_system, (right_solve, ())),
)
