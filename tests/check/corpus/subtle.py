"""Mistakes that most comparisons pass: dtypes, trees, forward rules, rare inputs, rare sizes, state."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from .case import NARROW, ROWS, WIDE, Case, cases, normal
from .dense import dense, dense_forward, make


def weight_gradient_in_another_dtype(saved, dy):
    x, w = saved
    return dy @ w.T, (x.T @ dy).astype(jnp.bfloat16), dy.sum(0)


def two_gradients_for_three(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy


def a_list_for_an_array(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, [dy.sum(0)]


def noise_in_the_gradient(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy * (1 + 1e-3 * np.random.standard_normal()), dy.sum(0)


_CALLS = itertools.count(1)


def every_call_is_larger(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy * next(_CALLS), dy.sum(0)


def forward_slightly_off(x, w, b):
    return 1.01 * (x @ w) + b, (x, w)


def right_backward(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy, dy.sum(0)


def large_inputs_saturate(saved, dy):
    x, w = saved
    return dy @ w.T, jnp.clip(x, -50, 50).T @ dy, dy.sum(0)


def small_inputs_flushed(saved, dy):
    x, w = saved
    return dy @ w.T, jnp.where(jnp.abs(x) < 5e-3, 0, x).T @ dy, dy.sum(0)


def only_eight_rows(saved, dy):
    x, w = saved
    m = x.shape[0] // 2 * 2
    return dy @ w.T, x[:m].T @ dy[:m], dy.sum(0)


def length(x):
    return jnp.sqrt((x**2).sum(-1) + 1e-30)


def length_forward(x):
    return length(x), x


def make_rows(key, size):
    return normal(key, (ROWS[size], WIDE[size]))


def nan_at_zero(x, dy):
    return (dy[:, None] * x / jnp.sqrt((x**2).sum(-1, keepdims=True)),)


def square(x):
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def square_forward(x):
    return square(x), x


def nan_behind_a_where(x, dy):
    return (dy * jnp.where(x > 0, 1, 0) * 0.5 / jnp.sqrt(x),)


def softplus(x):
    return jnp.logaddexp(x, 0.0)


def softplus_forward(x):
    return softplus(x), x


def overflow_of_exp(x, dy):
    return (dy * jnp.exp(x) / (1 + jnp.exp(x)),)


def softplus_is_relu_above_four(x, dy):
    return (dy * jnp.where(x > 4, 1, jax.nn.sigmoid(x)),)


def scaled(x, s):
    return {"y": x * s["scale"], "z": x + s["shift"]}


def scaled_forward(x, s):
    return scaled(x, s), (x, s["scale"])


def make_tree(key, size):
    x, a, b = normal(key, (ROWS[size], WIDE[size]), (WIDE[size],), (WIDE[size],))
    return x, {"scale": a, "shift": b}


def second_output_forgotten(saved, dy):
    x, scale = saved
    return dy["y"] * scale, {"scale": (dy["y"] * x).sum(0), "shift": jnp.zeros_like(scale)}


def outputs_swapped(saved, dy):
    x, scale = saved
    return dy["z"] * scale + dy["y"], {"scale": (dy["z"] * x).sum(0), "shift": dy["y"].sum(0)}


def keys_exchanged(saved, dy):
    x, scale = saved
    return dy["y"] * scale + dy["z"], {"shift": (dy["y"] * x).sum(0), "scale": dy["z"].sum(0)}


def key_left_out(saved, dy):
    x, scale = saved
    return dy["y"] * scale + dy["z"], {"scale": (dy["y"] * x).sum(0)}


def outer(x, y):
    return jnp.einsum("ni,nj->nij", x, y)


def outer_forward(x, y):
    return outer(x, y), (x, y)


def make_outer(key, size):
    n, j = ROWS[size], NARROW[size]
    return normal(key, (n, j), (n, j))


def outer_not_transposed(saved, d):
    x, y = saved
    return jnp.einsum("nij,nj->ni", d, y), jnp.einsum("nji,ni->nj", d, x)


def outer_pairs_with_the_wrong_one(saved, d):
    x, y = saved
    return jnp.einsum("nij,nj->ni", d, x), jnp.einsum("nij,ni->nj", d, x)


CASES = (
    *cases(
        "dense subtle", dense, dense_forward, make,
        (weight_gradient_in_another_dtype, ("wrong dtype",)),
        (two_gradients_for_three, ("wrong tree",)),
        (a_list_for_an_array, ("wrong tree",)),
        (noise_in_the_gradient, ("not repeatable",)),
        (every_call_is_larger, ("not repeatable",)),
        (large_inputs_saturate, ("wrong at large inputs",)),
        (small_inputs_flushed, ("wrong at small inputs",)),
        (only_eight_rows, ("rows dropped",)),
    ),
    Case("dense subtle: forward slightly off", "dense subtle", dense, forward_slightly_off, right_backward, make,
         ("forward differs",)),
    *cases("length", length, length_forward, make_rows, (nan_at_zero, ("not finite",))),
    *cases("square root", square, square_forward, make_rows, (nan_behind_a_where, ("not finite",))),
    *cases(
        "softplus", softplus, softplus_forward, make_rows,
        (overflow_of_exp, ("not finite",)),
        (softplus_is_relu_above_four, ("another formula", "wrong at large inputs")),
    ),
    *cases(
        "tree", scaled, scaled_forward, make_tree,
        (second_output_forgotten, ("term dropped", "zero gradient")),
        (outputs_swapped, ("cotangents swapped", "another value")),
        (keys_exchanged, ("leaves swapped",)),
        (key_left_out, ("wrong tree",)),
    ),
    *cases(
        "outer", outer, outer_forward, make_outer,
        (outer_not_transposed, ("transpose missing",)),
        (outer_pairs_with_the_wrong_one, ("another value",)),
    ),
)  # fmt: skip
