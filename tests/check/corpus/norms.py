"""Planted mistakes in normalisations, whose statistics carry gradient too."""

import jax.numpy as jnp
from jax import lax

from .case import ROWS, WIDE, cases, normal

EPS = 1e-2


def make(key, size):
    n, k = ROWS[size], WIDE[size]
    x, scale, shift = normal(key, (n, k), (k,), (k,))
    return 0.3 * x + 0.5, scale, shift


def layernorm(x, scale, shift):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + EPS) * scale + shift


def layernorm_forward(x, scale, shift):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    r = lax.rsqrt(var + EPS)
    return (x - mean) * r * scale + shift, ((x - mean) * r, r, var, scale, x)


def _parameters(xhat, dy):
    return (dy * xhat).sum(0), dy.sum(0)


def mean_term_left_out(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    return r * (d - xhat * (d * xhat).mean(-1, keepdims=True)), *_parameters(xhat, dy)


def variance_term_left_out(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    return r * (d - d.mean(-1, keepdims=True)), *_parameters(xhat, dy)


def both_statistics_left_out(saved, dy):
    xhat, r, var, scale, x = saved
    return r * dy * scale, *_parameters(xhat, dy)


def sum_for_mean_in_the_variance_term(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    return r * (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).sum(-1, keepdims=True)), *_parameters(
        xhat, dy
    )


def epsilon_left_out(saved, dy):
    xhat, r, var, scale, x = saved
    r = lax.rsqrt(var)
    xhat = xhat * r / lax.rsqrt(var + EPS)
    d = dy * scale
    dx = r * (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True))
    return dx, *_parameters(xhat, dy)


def variance_for_its_root(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    dx = (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True)) * r * r
    return dx, *_parameters(xhat, dy)


def scale_left_out_of_dx(saved, dy):
    xhat, r, var, scale, x = saved
    dx = r * (dy - dy.mean(-1, keepdims=True) - xhat * (dy * xhat).mean(-1, keepdims=True))
    return dx, *_parameters(xhat, dy)


def scale_gradient_from_the_input(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    dx = r * (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True))
    return dx, (dy * x).sum(0), dy.sum(0)


def scale_and_shift_swapped(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    dx = r * (d - d.mean(-1, keepdims=True) - xhat * (d * xhat).mean(-1, keepdims=True))
    return dx, dy.sum(0), (dy * xhat).sum(0)


def sign_of_the_variance_term(saved, dy):
    xhat, r, var, scale, x = saved
    d = dy * scale
    dx = r * (d - d.mean(-1, keepdims=True) + xhat * (d * xhat).mean(-1, keepdims=True))
    return dx, *_parameters(xhat, dy)


def rmsnorm(x, scale):
    return x * lax.rsqrt((x**2).mean(-1, keepdims=True) + EPS) * scale


def rmsnorm_forward(x, scale):
    r = lax.rsqrt((x**2).mean(-1, keepdims=True) + EPS)
    return x * r * scale, (x, r, scale)


def make_rms(key, size):
    return make(key, size)[:2]


def rms_statistic_left_out(saved, dy):
    x, r, scale = saved
    return dy * scale * r, (dy * x * r).sum(0)


def rms_cube_missing(saved, dy):
    x, r, scale = saved
    d = dy * scale
    return r * d - x * r * (d * x).mean(-1, keepdims=True), (dy * x * r).sum(0)


def rms_factor_two(saved, dy):
    x, r, scale = saved
    d = dy * scale
    return r * d - 2 * x * r**3 * (d * x).mean(-1, keepdims=True), (dy * x * r).sum(0)


def rms_scale_without_the_norm(saved, dy):
    x, r, scale = saved
    d = dy * scale
    return r * d - x * r**3 * (d * x).mean(-1, keepdims=True), (dy * x).sum(0)


def batchnorm(x, scale, shift):
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    return (x - mean) / jnp.sqrt(var + EPS) * scale + shift


def batchnorm_forward(x, scale, shift):
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    s = jnp.sqrt(var + EPS)
    return (x - mean) / s * scale + shift, ((x - mean) / s, s, scale)


def batch_statistics_held_constant(saved, dy):
    xhat, s, scale = saved
    return dy * scale / s, *_parameters(xhat, dy)


def batch_mean_term_left_out(saved, dy):
    xhat, s, scale = saved
    return scale / s * (dy - xhat * (dy * xhat).mean(0)), *_parameters(xhat, dy)


def mean_over_features_for_rows(saved, dy):
    xhat, s, scale = saved
    n, k = xhat.shape
    dx = scale / s * (dy - dy.sum(0) / k - xhat * (dy * xhat).sum(0) / k)
    return dx, *_parameters(xhat, dy)


def batch_means_by_n_minus_one(saved, dy):
    xhat, s, scale = saved
    n = xhat.shape[0]
    dx = scale / s * (dy - dy.mean(0) - xhat * (dy * xhat).sum(0) / (n - 1))
    return dx, *_parameters(xhat, dy)


def shift_divided_by_the_deviation(saved, dy):
    xhat, s, scale = saved
    dx = scale / s * (dy - dy.mean(0) - xhat * (dy * xhat).mean(0))
    return dx, (dy * xhat).sum(0), (dy / s).sum(0)


def l2norm(x):
    return x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)


def l2norm_forward(x):
    length = jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)
    return x / length, (x / length, length)


def projection_left_out(saved, dy):
    y, length = saved
    return (dy / length,)


def projection_sign(saved, dy):
    y, length = saved
    return ((dy + y * (dy * y).sum(-1, keepdims=True)) / length,)


def length_left_out(saved, dy):
    y, length = saved
    return (dy - y * (dy * y).sum(-1, keepdims=True),)


CASES = (
    *cases(
        "layernorm", layernorm, layernorm_forward, make,
        (mean_term_left_out, ("term dropped",)),
        (variance_term_left_out, ("term dropped",)),
        (both_statistics_left_out, ("term dropped",)),
        (sum_for_mean_in_the_variance_term, ("sum for mean",)),
        (epsilon_left_out, ("constant left out",)),
        (variance_for_its_root, ("another value", "wrong operand")),
        (scale_left_out_of_dx, ("derivative missing",)),
        (scale_gradient_from_the_input, ("another value",)),
        (scale_and_shift_swapped, ("leaves swapped",)),
        (sign_of_the_variance_term, ("sign",)),
    ),
    *cases(
        "rmsnorm", rmsnorm, rmsnorm_forward, make_rms,
        (rms_statistic_left_out, ("term dropped",)),
        (rms_cube_missing, ("another formula", "derivative missing")),
        (rms_factor_two, ("factor",)),
        (rms_scale_without_the_norm, ("another value", "derivative missing")),
    ),
    *cases(
        "batchnorm", batchnorm, batchnorm_forward, make,
        (batch_statistics_held_constant, ("term dropped",)),
        (batch_mean_term_left_out, ("term dropped",)),
        (mean_over_features_for_rows, ("mean over the wrong axis",)),
        (batch_means_by_n_minus_one, ("factor", "mean over the wrong axis")),
        (shift_divided_by_the_deviation, ("another value", "derivative missing")),
    ),
    *cases(
        "unit length", l2norm, l2norm_forward, lambda key, size: make(key, size)[:1],
        (projection_left_out, ("term dropped",)),
        (projection_sign, ("sign",)),
        (length_left_out, ("derivative missing", "another value")),
    ),
)  # fmt: skip
