"""Planted mistakes in convolutions and pooling: flips, padding, channels, windows."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import cases, normal

CHANNELS = (3, 4, 8)
SIDE = (6, 9, 16)


def make(key, size):
    c, s = CHANNELS[size], SIDE[size]
    x, w, b = normal(key, (2 + size, s, s + 1, c), (3, 3, c, c), (c,))
    return x, 0.3 * w, b


def _conv(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolution(x, w, b):
    return _conv(x, w) + b


def convolution_forward(x, w, b):
    return _conv(x, w) + b, (x, w)


def _input(w, dy):
    return _conv(dy, jnp.flip(w, (0, 1)).swapaxes(2, 3))


def _kernel(x, dy):
    return jax.vjp(lambda w: _conv(x, w), jnp.zeros((3, 3, x.shape[-1], dy.shape[-1])))[1](dy)[0]


def kernel_not_flipped(saved, dy):
    x, w = saved
    return _conv(dy, w.swapaxes(2, 3)), _kernel(x, dy), dy.sum((0, 1, 2))


def channels_not_transposed(saved, dy):
    x, w = saved
    return _conv(dy, jnp.flip(w, (0, 1))), _kernel(x, dy), dy.sum((0, 1, 2))


def kernel_gradient_flipped(saved, dy):
    x, w = saved
    return _input(w, dy), jnp.flip(_kernel(x, dy), (0, 1)), dy.sum((0, 1, 2))


def kernel_gradient_averaged(saved, dy):
    x, w = saved
    return _input(w, dy), _kernel(x, dy) / len(x), dy.sum((0, 1, 2))


def bias_averaged_over_pixels(saved, dy):
    x, w = saved
    return _input(w, dy), _kernel(x, dy), dy.mean((1, 2)).sum(0)


def border_row_left_out(saved, dy):
    x, w = saved
    return _input(w, dy).at[:, -1].set(0), _kernel(x, dy), dy.sum((0, 1, 2))


def padding_off_by_one(saved, dy):
    x, w = saved
    return jnp.roll(_input(w, dy), 1, axis=1), _kernel(x, dy), dy.sum((0, 1, 2))


def first_image_only(saved, dy):
    x, w = saved
    return _input(w, dy), _kernel(x[:1], dy[:1]), dy.sum((0, 1, 2))


def average_pool(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def pool_forward(x):
    return average_pool(x), x


def make_pool(key, size):
    return normal(key, (2, 4 + 2 * size, 6, CHANNELS[size]))


def _spread(dy):
    return jnp.repeat(jnp.repeat(dy, 2, 1), 2, 2)


def window_not_averaged(x, dy):
    return (_spread(dy),)


def window_averaged_twice(x, dy):
    return (_spread(dy) / 16,)


def tiled_instead_of_repeated(x, dy):
    return (jnp.tile(dy, (1, 2, 2, 1)) / 4,)


def max_pool(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def max_forward(x):
    y = max_pool(x)
    return y, (x, y)


def max_pool_spread_evenly(saved, dy):
    x, y = saved
    return (_spread(dy) / 4,)


def max_pool_everywhere(saved, dy):
    x, y = saved
    return (_spread(dy),)


def max_pool_at_the_positive(saved, dy):
    x, y = saved
    return (_spread(dy) * (x > 0),)


CASES = (
    *cases(
        "convolution", convolution, convolution_forward, make,
        (kernel_not_flipped, ("order reversed", "kernel not flipped")),
        (channels_not_transposed, ("transpose missing",)),
        (kernel_gradient_flipped, ("order reversed", "kernel not flipped")),
        (kernel_gradient_averaged, ("mean for sum",)),
        (bias_averaged_over_pixels, ("mean for sum", "factor")),
        (border_row_left_out, ("rows dropped",)),
        (padding_off_by_one, ("rows shifted",)),
        (first_image_only, ("rows dropped",)),
    ),
    *cases(
        "average pool", average_pool, pool_forward, make_pool,
        (window_not_averaged, ("factor", "sum for mean", "constant left out")),
        (window_averaged_twice, ("factor", "mean for sum", "constant applied twice")),
        (tiled_instead_of_repeated, ("order of elements", "transpose missing")),
    ),
    *cases(
        "max pool", max_pool, max_forward, make_pool,
        (max_pool_spread_evenly, ("mask ignored",)),
        (max_pool_everywhere, ("mask ignored",)),
        (max_pool_at_the_positive, ("another formula", "mask ignored")),
    ),
)  # fmt: skip
