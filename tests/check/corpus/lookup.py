"""Planted mistakes in embeddings, tied weights, segment sums and sorting: scatters and second uses."""

import jax
import jax.numpy as jnp
import numpy as np

from .case import NARROW, ROWS, WIDE, cases, normal


def make(key, size):
    v, k = NARROW[size] + 3, WIDE[size]
    return *normal(key, (v, k)), jax.random.randint(jax.random.fold_in(key, 1), (ROWS[size] + 2,), 0, v)


def embedding(table, index):
    return table[index]


def embedding_forward(table, index):
    return table[index], (table, index)


def _float0(index):
    return np.zeros(index.shape, jax.dtypes.float0)


def rows_set_instead_of_added(saved, dy):
    table, index = saved
    return jnp.zeros_like(table).at[index].set(dy), _float0(index)


def index_off_by_one(saved, dy):
    table, index = saved
    return jnp.zeros_like(table).at[index + 1].add(dy), _float0(index)


def counted_and_averaged(saved, dy):
    table, index = saved
    count = jnp.zeros(len(table)).at[index].add(1)
    return jnp.zeros_like(table).at[index].add(dy) / jnp.maximum(count, 1)[:, None], _float0(index)


def padding_row_left_out(saved, dy):
    table, index = saved
    return jnp.zeros_like(table).at[index].add(dy).at[0].set(0), _float0(index)


def embedding_divided_by_rows(saved, dy):
    table, index = saved
    return jnp.zeros_like(table).at[index].add(dy) / len(index), _float0(index)


def no_gradient_for_the_table(saved, dy):
    table, index = saved
    return jnp.zeros_like(table), _float0(index)


def tied(x, w, b):
    return jnp.tanh(x @ w + b) @ w.T


def tied_forward(x, w, b):
    h = jnp.tanh(x @ w + b)
    return h @ w.T, (x, w, h)


def make_tied(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    x, w, b = normal(key, (n, k), (k, j), (j,))
    return x, 0.5 * w, b


def decoder_use_left_out(saved, dy):
    x, w, h = saved
    dz = dy @ w * (1 - h**2)
    return dz @ w.T, x.T @ dz, dz.sum(0)


def encoder_use_left_out(saved, dy):
    x, w, h = saved
    dz = dy @ w * (1 - h**2)
    return dz @ w.T, dy.T @ h, dz.sum(0)


def uses_averaged(saved, dy):
    x, w, h = saved
    dz = dy @ w * (1 - h**2)
    return dz @ w.T, (x.T @ dz + dy.T @ h) / 2, dz.sum(0)


def uses_subtracted(saved, dy):
    x, w, h = saved
    dz = dy @ w * (1 - h**2)
    return dz @ w.T, x.T @ dz - dy.T @ h, dz.sum(0)


def make_segments(key, size):
    n = 2 * ROWS[size]
    return *normal(key, (n, WIDE[size])), jax.random.randint(jax.random.fold_in(key, 1), (n,), 0, 4)


def segments(x, index):
    return jnp.zeros((4, x.shape[1])).at[index].add(x)


def segments_forward(x, index):
    return segments(x, index), (index, x)


def segment_mean_for_sum(saved, dy):
    index, x = saved
    return (dy / jnp.maximum(jnp.bincount(index, length=4), 1)[:, None])[index], _float0(index)


def segment_shifted(saved, dy):
    index, x = saved
    return dy[(index + 1) % 4], _float0(index)


def segment_scaled_by_rows(saved, dy):
    index, x = saved
    return dy[index] / len(index), _float0(index)


def permuted(x, order):
    return x[order] * jnp.arange(1.0, len(x) + 1)[:, None]


def permuted_forward(x, order):
    return permuted(x, order), order


def make_permuted(key, size):
    n = ROWS[size]
    return *normal(key, (n, WIDE[size])), jax.random.permutation(jax.random.fold_in(key, 1), n)


def permutation_not_inverted(order, dy):
    return (dy * jnp.arange(1.0, len(dy) + 1)[:, None])[order], _float0(order)


def ramp_left_out(order, dy):
    return jnp.zeros_like(dy).at[order].set(dy), _float0(order)


def broadcasted(x, scale, shift):
    return x[:, None, :] * scale[:, None] + shift


def broadcasted_forward(x, scale, shift):
    return broadcasted(x, scale, shift), (x, scale)


def make_broadcasted(key, size):
    n, k, j = ROWS[size], WIDE[size], NARROW[size]
    return normal(key, (n, k), (j, k)[:1], (j, k))


def scale_summed_over_rows_only(saved, dy):
    x, scale = saved
    return (dy * scale[:, None]).sum(1), (dy * x[:, None]).sum(0)[:, 0], dy.sum(0)


def shift_averaged(saved, dy):
    x, scale = saved
    return (dy * scale[:, None]).sum(1), (dy * x[:, None]).sum((0, 2)), dy.mean(0)


def x_takes_the_first_scale(saved, dy):
    x, scale = saved
    return dy[:, 0] * scale[0], (dy * x[:, None]).sum((0, 2)), dy.sum(0)


CASES = (
    *cases(
        "embedding", embedding, embedding_forward, make,
        (rows_set_instead_of_added, ("scatter overwrites",)),
        (index_off_by_one, ("rows shifted",)),
        (counted_and_averaged, ("scatter averages",)),
        (padding_row_left_out, ("rows dropped",)),
        (embedding_divided_by_rows, ("mean for sum",)),
        (no_gradient_for_the_table, ("zero gradient",)),
    ),
    *cases(
        "tied", tied, tied_forward, make_tied,
        (decoder_use_left_out, ("term dropped",)),
        (encoder_use_left_out, ("term dropped",)),
        (uses_averaged, ("factor",)),
        (uses_subtracted, ("sign",)),
    ),
    *cases(
        "segment sum", segments, segments_forward, make_segments,
        (segment_mean_for_sum, ("scatter averages",)),
        (segment_shifted, ("rows shifted",)),
        (segment_scaled_by_rows, ("mean for sum",)),
    ),
    *cases(
        "permutation", permuted, permuted_forward, make_permuted,
        (permutation_not_inverted, ("order of elements", "transpose missing")),
        (ramp_left_out, ("derivative missing",)),
    ),
    *cases(
        "broadcast", broadcasted, broadcasted_forward, make_broadcasted,
        (scale_summed_over_rows_only, ("broadcast not summed",)),
        (shift_averaged, ("mean for sum",)),
        (x_takes_the_first_scale, ("broadcast not summed",)),
    ),
)  # fmt: skip
