"""Norms of rows far from zero, of the largest and of the smallest numbers: right in every dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import LayerNorm, RMSNorm

PLAIN = LayerNorm(scale=False, bias=False)
ROOT = RMSNorm(scale=False)


def layer_norm(x, dy, eps=1e-5):
    """Give y and dx by NumPy, in extended precision."""
    x, dy = (np.asarray(a, np.float64).astype(np.longdouble) for a in (x, dy))
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.longdouble(eps))
    h = centred * rstd
    return h, rstd * (dy - dy.mean(-1, keepdims=True) - h * (h * dy).mean(-1, keepdims=True))


def rms_norm(x, dy, eps=1e-6):
    """Give y and dx by NumPy, in extended precision."""
    x, dy = (np.asarray(a, np.float64).astype(np.longdouble) for a in (x, dy))
    rstd = 1 / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.longdouble(eps))
    h = x * rstd
    return h, rstd * (dy - h * (h * dy).mean(-1, keepdims=True))


@jax.jit(static_argnums=0)
def run(norm, x, dy):
    y, residuals = fnn.forward(norm, norm.init(None, x), x)
    return y, fnn.backward(norm, norm.init(None, x), residuals, dy)[1]


def check(norm, x, tolerance=4e-7):
    """Hold output and dx against extended precision: relative to the largest of a row, or of a norm, 1."""
    dy = jnp.asarray(np.random.default_rng(1).standard_normal(x.shape), x.dtype)
    wanted = (layer_norm if isinstance(norm, LayerNorm) else rms_norm)(x, dy, norm.eps)
    tiny = float(jnp.finfo(x.dtype).tiny)
    for got, want in zip(run(norm, x, dy), wanted, strict=True):
        size = np.abs(want).max(-1, keepdims=True)
        error = np.abs(np.asarray(got, np.float64).astype(np.longdouble) - want)
        assert (error <= tolerance * size + tiny).all(), float((error / (size + tiny)).max())


def test_a_constant_row_has_no_deviation():
    values = [3333.3333, 333333.0, 1e8, 1e16, 3e38, -7.7e37, 0.0, 1e-30]
    x = jnp.asarray(np.repeat(np.array(values)[:, None], 768, -1), jnp.float32)
    y, dx = run(PLAIN, x, jnp.ones_like(x))
    np.testing.assert_array_equal(y, 0)
    assert jnp.isfinite(dx).all()


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e5, 1e7])
def test_rows_far_from_zero(offset):
    """Within the roundings of the few operations behind a difference that is exact; torch's is off by
    6.5e-3.
    """
    rows = np.random.default_rng(0).standard_normal((4, 768)) + offset
    check(PLAIN, jnp.asarray(rows, jnp.float32), 8e-7)


def test_an_outlier_does_not_take_the_others_digits():
    for place in (0, 300, 767):
        x = np.random.default_rng(0).standard_normal((1, 768))
        x[0, place] = 1e6
        x = jnp.asarray(x, jnp.float32)
        wanted, _ = layer_norm(x, x)
        got = np.asarray(run(PLAIN, x, x)[0], np.float64)
        assert np.abs(got - wanted)[:, np.arange(768) != place].max() < 2**-24


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [1e30, 7.5e37, 1e19, 1.0, 1e-15, 1e-30])
def test_the_largest_and_the_smallest_numbers(size, dtype):
    x = jnp.asarray(np.array([[1, 2, 3, 4], [-4, 4, 1, -1], [4, 4, 4, -4]]) * size, dtype)
    tolerance = 4e-7 if dtype == jnp.float32 else 2**-8
    for norm in (PLAIN, ROOT):
        check(norm, x, tolerance)


def test_half_precision_and_double():
    x = np.array([[1, 2, 3, 4], [-4, 4, 1, -1]])
    for norm in (PLAIN, ROOT):
        check(norm, jnp.asarray(x * 16000, jnp.float16), 2**-10)
        check(norm, jnp.asarray(x * 1e-7, jnp.float16), 2**-10)
        for size in (1e307, 1e200, 1e-160, 1e-300):
            check(norm, jnp.asarray(x * size, jnp.float64), 1e-14)


@pytest.mark.parametrize("eps", [1e-38, 1e-30, 1e-12, 1.0])
def test_eps_keeps_its_meaning_where_it_is_small(eps):
    root = eps**0.5
    x = jnp.asarray(np.array([[1, 2, 3, 4], [-4, 4, 1, -1], [0, 0, 0, 0]]) * root, jnp.float32)
    check(LayerNorm(eps, scale=False, bias=False), x)
    check(RMSNorm(eps, scale=False), x)


def test_an_eps_below_the_smallest_number_makes_no_nan():
    x = jnp.zeros((2, 5), jnp.float32)
    for norm in (LayerNorm(1e-300), RMSNorm(1e-300)):
        assert all(jnp.isfinite(leaf).all() for leaf in run(norm, x, x))


def test_what_is_not_finite_stays_so():
    x = jnp.array([[1.0, jnp.nan, 2.0], [1.0, jnp.inf, 2.0], [1.0, 2.0, 3.0]], jnp.float32)
    for norm in (PLAIN, ROOT):
        y, _ = run(norm, x, jnp.ones_like(x))
        assert jnp.isnan(y[:2]).any(1).all() and jnp.isfinite(y[2]).all()


@pytest.mark.parametrize("norm", [LayerNorm(), RMSNorm()])
def test_no_temporary_is_as_large_as_the_input(norm):
    x = jax.ShapeDtypeStruct((512, 768), jnp.float32)
    params = jax.eval_shape(lambda: norm.init(None, x))
    compiled = jax.jit(lambda p, x: fnn.forward(norm, p, x)).lower(params, x).compile().memory_analysis()
    assert compiled is not None
    assert compiled.temp_size_in_bytes < 512 * 768 * 4 / 8
