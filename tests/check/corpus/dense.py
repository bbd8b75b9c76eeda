"""Planted mistakes in dense layers, alone: `y = x W + b`."""

import jax.numpy as jnp

from .case import NARROW, ROWS, WIDE, cases, normal


def make(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    return normal(key, (n, k), (k, j), (j,))


def make_square(key, size):
    n, k = ROWS[size], WIDE[size]
    return normal(key, (n, k), (k, k), (k,))


def dense(x, w, b):
    return x @ w + b


def dense_forward(x, w, b):
    return x @ w + b, (x, w)


def sign_of_everything(saved, dy):
    x, w = saved
    return -dy @ w.T, -x.T @ dy, -dy.sum(0)


def sign_of_the_bias(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, -dy.sum(0)


def weight_doubled(saved, dy):
    x, w = saved
    return dy @ w.T, 2 * x.T @ dy, dy.sum(0)


def weight_averaged_over_rows(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy / x.shape[0], dy.sum(0)


def bias_averaged_over_rows(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, dy.mean(0)


def bias_takes_the_first_row(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, dy[0]


def bias_takes_the_last_row(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, dy[-1]


def bias_not_summed(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, dy


def ones_for_the_cotangent(saved, dy):
    x, w = saved
    dy = jnp.ones_like(dy)
    return dy @ w.T, x.T @ dy, dy.sum(0)


def first_element_of_the_cotangent(saved, dy):
    x, w = saved
    dy = jnp.full_like(dy, dy[0, 0])
    return dy @ w.T, x.T @ dy, dy.sum(0)


def clipped_cotangent(saved, dy):
    x, w = saved
    dy = jnp.clip(dy, -1, 1)
    return dy @ w.T, x.T @ dy, dy.sum(0)


def cotangent_clipped_by_norm(saved, dy):
    x, w = saved
    dy = dy / jnp.maximum(1, jnp.linalg.norm(dy))
    return dy @ w.T, x.T @ dy, dy.sum(0)


def squared_cotangent(saved, dy):
    x, w = saved
    return dy**2 @ w.T, x.T @ dy**2, (dy**2).sum(0)


def sign_of_the_cotangent_alone(saved, dy):
    x, w = saved
    return jnp.sign(dy) @ w.T, x.T @ jnp.sign(dy), jnp.sign(dy).sum(0)


def weight_decay_added(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy + 0.01 * w, dy.sum(0)


def weights_updated_before_dx(saved, dy):
    x, w = saved
    dw = x.T @ dy
    return dy @ (w - 0.1 * dw).T, dw, dy.sum(0)


def weight_gradient_in_bfloat16(saved, dy):
    x, w = saved
    dw = (x.astype(jnp.bfloat16).T @ dy.astype(jnp.bfloat16)).astype(x.dtype)
    return dy @ w.T, dw, dy.sum(0)


def bias_summed_in_float16(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, dy.astype(jnp.float16).sum(0).astype(dy.dtype)


def no_gradient_for_x(saved, dy):
    x, w = saved
    return jnp.zeros_like(x), x.T @ dy, dy.sum(0)


def none_for_the_bias(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, None


def last_row_left_out(saved, dy):
    x, w = saved
    return dy @ w.T, x[:-1].T @ dy[:-1], dy.sum(0)


def rows_of_dx_shifted(saved, dy):
    x, w = saved
    return jnp.roll(dy @ w.T, 1, axis=0), x.T @ dy, dy.sum(0)


def constant_added(saved, dy):
    x, w = saved
    return dy @ w.T + 1e-2, x.T @ dy, dy.sum(0)


def square_weight_not_transposed(saved, dy):
    x, w = saved
    return dy @ w, x.T @ dy, dy.sum(0)


def square_weight_gradient_transposed(saved, dy):
    x, w = saved
    return dy @ w.T, dy.T @ x, dy.sum(0)


CASES = (
    *cases(
        "dense", dense, dense_forward, make,
        (sign_of_everything, ("sign",)),
        (sign_of_the_bias, ("sign",)),
        (weight_doubled, ("factor",)),
        (weight_averaged_over_rows, ("mean for sum",)),
        (bias_averaged_over_rows, ("mean for sum",)),
        (bias_takes_the_first_row, ("broadcast not summed",)),
        (bias_takes_the_last_row, ("broadcast not summed",)),
        (bias_not_summed, ("broadcast not summed",)),
        (ones_for_the_cotangent, ("cotangent ignored",)),
        (first_element_of_the_cotangent, ("first element of the cotangent",)),
        (clipped_cotangent, ("cotangent clipped",)),
        (cotangent_clipped_by_norm, ("cotangent clipped",)),
        (squared_cotangent, ("cotangent not linear",)),
        (sign_of_the_cotangent_alone, ("cotangent not linear",)),
        (weight_decay_added, ("regulariser added",)),
        (weights_updated_before_dx, ("weights updated early",)),
        (weight_gradient_in_bfloat16, ("low precision",)),
        (bias_summed_in_float16, ("low precision",)),
        (no_gradient_for_x, ("zero gradient",)),
        (none_for_the_bias, ("missing gradient",)),
        (last_row_left_out, ("rows dropped",)),
        (rows_of_dx_shifted, ("rows shifted",)),
        (constant_added, ("constant added",)),
    ),
    *cases(
        "dense square", dense, dense_forward, make_square,
        (square_weight_not_transposed, ("transpose missing",)),
        (square_weight_gradient_transposed, ("transpose missing",)),
    ),
)  # fmt: skip
