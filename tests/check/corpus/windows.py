"""Windows off by one, strides ignored, overlaps overwritten, spectra not conjugated."""

import jax.numpy as jnp
from jax import lax

from .case import ROWS, Case, cases, normal


def convolved(x, w):
    return lax.conv_general_dilated(x, w, (1,), "SAME")


def strided(x, w):
    return lax.conv_general_dilated(x, w, (2,), "SAME")


def _convolved(saved, dy, stride=1, low=0, spread="zeros"):
    x, w = saved
    n, k, m = x.shape[-1], w.shape[-1], dy.shape[-1]
    total = max((m - 1) * stride + k - n, 0)
    begin = total // 2 + low
    full = jnp.zeros((*dy.shape[:-1], (m - 1) * stride + 1))
    if spread == "zeros":
        full = full.at[..., ::stride].set(dy)
    else:
        full = full.at[..., :m].set(dy)
    padded = jnp.pad(x, ((0, 0), (0, 0), (begin, k + full.shape[-1])))
    dx, dw = jnp.zeros(padded.shape), []
    for i in range(k):
        dx = dx.at[..., i : i + full.shape[-1]].add(jnp.einsum("oc,bot->bct", w[:, :, i], full))
        dw.append(jnp.einsum("bot,bct->oc", full, padded[..., i : i + full.shape[-1]]))
    return dx[..., begin : begin + n], jnp.stack(dw, -1)


def window_off_by_one(saved, dy):
    return _convolved(saved, dy, low=1)


def window_off_by_one_the_other_way(saved, dy):
    return _convolved(saved, dy, low=-1)


def stride_ignored(saved, dy):
    return _convolved(saved, dy, 2, spread="beside")


def _images(key, size):
    return normal(key, (2, 3, (7, 13, 40)[size]), (4, 3, 3))


def pooled(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 3), (1, 2), "VALID") / 3


def _pooled(saved, dy, by=0, way="add", stride=2):
    (x,) = saved
    dx = jnp.zeros_like(x)
    for i in range(dy.shape[1]):
        at = (slice(None), slice(i * stride + by, i * stride + by + 3))
        dx = getattr(dx.at[at], way)(jnp.broadcast_to(dy[:, i, None] / 3, dx[at].shape))
    return (dx,)


def pool_off_by_one(saved, dy):
    return _pooled(saved, dy, by=1)


def pool_stride_ignored(saved, dy):
    return _pooled(saved, dy, stride=1)


def pool_set_for_add(saved, dy):
    return _pooled(saved, dy, way="set")


def framed(x, window):
    at = jnp.arange(x.shape[1] - 3)[::2, None] + jnp.arange(4)
    return x[:, at] * window


def _framed(saved, dy, way="add"):
    x, window = saved
    at = jnp.arange(x.shape[1] - 3)[::2, None] + jnp.arange(4)
    return getattr(jnp.zeros_like(x).at[:, at], way)(dy * window), (dy * x[:, at]).sum((0, 1))


def frames_set_for_added(saved, dy):
    return _framed(saved, dy, "set")


def sliced(x):
    return jnp.stack([x[:, i : i + 4] for i in range(0, x.shape[1] - 3, 2)], 1)


def _sliced(saved, dy, way="add"):
    (x,) = saved
    dx = jnp.zeros_like(x)
    for n, i in enumerate(range(0, x.shape[1] - 3, 2)):
        dx = getattr(dx.at[:, i : i + 4], way)(dy[:, n])
    return (dx,)


def slices_set_for_added(saved, dy):
    return _sliced(saved, dy, "set")


def _signal(key, size):
    return normal(key, (ROWS[size] // 2, (9, 17, 33)[size]))


def filtered(x, kernel):
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(kernel), x.shape[-1])


def _filtered(saved, dy, of_x=jnp.conj, of_kernel=jnp.conj):
    x, kernel = saved
    d, n = jnp.fft.rfft(dy), x.shape[-1]
    dk = jnp.fft.irfft(d * of_kernel(jnp.fft.rfft(x)), n)
    return jnp.fft.irfft(d * of_x(jnp.fft.rfft(kernel)), n), dk.sum(0)


def kernel_not_conjugated(saved, dy):
    return _filtered(saved, dy, of_x=lambda s: s)


def nothing_conjugated(saved, dy):
    return _filtered(saved, dy, lambda s: s, lambda s: s)


def power(x):
    s = jnp.fft.rfft(x)
    return s.real**2 + s.imag**2


def _power(saved, dy, inner=1.0):
    (x,) = saved
    n, m = x.shape[-1], dy.shape[-1]
    weight = jnp.where((jnp.arange(m) > 0) & (2 * jnp.arange(m) < n), inner / 2, 1.0)
    return (2 * n * jnp.fft.irfft(jnp.fft.rfft(x) * dy * weight, n),)


def half_the_spectrum_twice(saved, dy):
    return _power(saved, dy, 2.0)


def _pair(key, size):
    n = (9, 17, 33)[size]
    return normal(key, (ROWS[size] // 2, n), (n,))


def _frames(key, size):
    return normal(key, (ROWS[size] // 2, (9, 17, 33)[size]), (4,))


def _kept(f):
    return lambda *args: (f(*args), args)


SHIFTED, STRIDES = ("windows shifted", "rows shifted"), ("strides ignored",)
SET, CONJUGATE = ("scatter overwrites",), ("spectrum not conjugated",)


def right_windows(saved, dy):
    return _convolved(saved, dy)


def right_strides(saved, dy):
    return _convolved(saved, dy, 2)


def right_pool(saved, dy):
    return _pooled(saved, dy)


def right_frames(saved, dy):
    return _framed(saved, dy)


def right_slices(saved, dy):
    return _sliced(saved, dy)


def right_filter(saved, dy):
    return _filtered(saved, dy)


def right_power(saved, dy):
    return _power(saved, dy)


ALL: tuple[Case, ...] = (
    *cases(
        "window", convolved, _kept(convolved), _images,
        (window_off_by_one, SHIFTED), (window_off_by_one_the_other_way, SHIFTED), (right_windows, ()),
    ),
    *cases("strided window", strided, _kept(strided), _images, (stride_ignored, STRIDES), (right_strides, ())),
    *cases(
        "sum pool", pooled, _kept(pooled), _signal,
        (pool_off_by_one, SHIFTED), (pool_stride_ignored, STRIDES), (pool_set_for_add, SET), (right_pool, ()),
    ),
    *cases("frames", framed, _kept(framed), _frames, (frames_set_for_added, SET), (right_frames, ())),
    *cases("slices", sliced, _kept(sliced), _signal, (slices_set_for_added, SET), (right_slices, ())),
    *cases(
        "filter", filtered, _kept(filtered), _pair,
        (kernel_not_conjugated, CONJUGATE), (nothing_conjugated, CONJUGATE), (right_filter, ()),
    ),
    *cases("power spectrum", power, _kept(power), _signal, (half_the_spectrum_twice, ("half of the spectrum",)), (right_power, ())),
)  # fmt: skip
CASES = tuple(c for c in ALL if c.names)
RIGHT = tuple(c for c in ALL if not c.names)
