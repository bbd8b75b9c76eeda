"""Planted mistakes in gated layers and in dropout."""

import jax
import jax.numpy as jnp
import numpy as np

from .case import NARROW, ROWS, WIDE, cases, normal


def glu(x, wa, wb):
    return (x @ wa) * jax.nn.sigmoid(x @ wb)


def glu_forward(x, wa, wb):
    a, g = x @ wa, jax.nn.sigmoid(x @ wb)
    return a * g, (x, wa, wb, a, g)


def make_glu(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    return normal(key, (n, k), (k, j), (k, j))


def gate_derivative_missing(saved, dy):
    x, wa, wb, a, g = saved
    da, dg = dy * g, dy * a
    return da @ wa.T + dg @ wb.T, x.T @ da, x.T @ dg


def gate_and_value_swapped(saved, dy):
    x, wa, wb, a, g = saved
    da, dg = dy * g, dy * a * g * (1 - g)
    return da @ wa.T + dg @ wb.T, x.T @ dg, x.T @ da


def path_through_the_gate_left_out(saved, dy):
    x, wa, wb, a, g = saved
    da, dg = dy * g, dy * a * g * (1 - g)
    return da @ wa.T, x.T @ da, x.T @ dg


def value_multiplied_by_itself(saved, dy):
    x, wa, wb, a, g = saved
    da, dg = dy * a, dy * a * g * (1 - g)
    return da @ wa.T + dg @ wb.T, x.T @ da, x.T @ dg


def gate_left_out_of_the_value(saved, dy):
    x, wa, wb, a, g = saved
    da, dg = dy, dy * a * g * (1 - g)
    return da @ wa.T + dg @ wb.T, x.T @ da, x.T @ dg


def split_glu(z):
    a, b = jnp.split(z, 2, axis=-1)
    return a * jax.nn.silu(b)


def split_forward(z):
    return split_glu(z), z


def make_split(key, size):
    return normal(key, (ROWS[size], 2 * WIDE[size]))


def halves_swapped(z, dy):
    a, b = jnp.split(z, 2, axis=-1)
    da, db = jax.vjp(lambda a, b: a * jax.nn.silu(b), a, b)[1](dy)
    return (jnp.concatenate([db, da], -1),)


def second_half_zero(z, dy):
    a, b = jnp.split(z, 2, axis=-1)
    return (jnp.concatenate([dy * jax.nn.silu(b), jnp.zeros_like(b)], -1),)


def dropout(x, keep):
    return jnp.where(keep, x / 0.8, 0)


def dropout_forward(x, keep):
    return dropout(x, keep), keep


def make_dropout(key, size):
    x, u = normal(key, *[(ROWS[size], WIDE[size])] * 2)
    return x, u < 0.84


def rescaling_left_out(keep, dy):
    return jnp.where(keep, dy, 0), np.zeros(keep.shape, jax.dtypes.float0)


def dropout_mask_left_out(keep, dy):
    return dy / 0.8, np.zeros(keep.shape, jax.dtypes.float0)


def dropout_mask_inverted(keep, dy):
    return jnp.where(keep, 0, dy / 0.8), np.zeros(keep.shape, jax.dtypes.float0)


def dropout_mask_redrawn(keep, dy):
    again = jax.random.bernoulli(jax.random.key(7), 0.8, keep.shape)
    return jnp.where(again, dy / 0.8, 0), np.zeros(keep.shape, jax.dtypes.float0)


CASES = (
    *cases(
        "gated", glu, glu_forward, make_glu,
        (gate_derivative_missing, ("derivative missing",)),
        (gate_and_value_swapped, ("leaves swapped",)),
        (path_through_the_gate_left_out, ("term dropped",)),
        (value_multiplied_by_itself, ("another value",)),
        (gate_left_out_of_the_value, ("derivative missing",)),
    ),
    *cases(
        "split gate", split_glu, split_forward, make_split,
        (halves_swapped, ("rows shifted", "order of elements")),
        (second_half_zero, ("term dropped", "rows dropped")),
    ),
    *cases(
        "dropout", dropout, dropout_forward, make_dropout,
        (rescaling_left_out, ("constant left out", "derivative missing")),
        (dropout_mask_left_out, ("mask ignored",)),
        (dropout_mask_inverted, ("mask inverted",)),
        (dropout_mask_redrawn, ("mask redrawn",)),
    ),
)  # fmt: skip
