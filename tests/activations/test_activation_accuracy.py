"""Every finite float16 and bfloat16 number, and float32 up to its ends, against float64; jax.nn beside us."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.activations.activation_truth import (
    JAX,
    TRUTH,
    dense,
    derivative,
    every,
    ulps,
)

FLOAT32 = 5.5, 6.5  # value, derivative; tanh, sigmoid and softplus are XLA's own: 4.4, 2.5 and 2.8
# Computed in float32 and rounded once: half an ulp, and what is left of float32's error 13 bits lower.
HALF = 0.5 + 6.5 * 2**-13
# A derivative that is read from the rounded output has its relative error beside: at most another ulp.
FROM_OUTPUT = HALF + 1

# Without LLVM's passes a value that is read twice is computed twice, and may be rounded in two ways.
FULL_EFFORT = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}

SPECIAL = [1e4, 1e30, 1e-30, 1e-40, 1e-45, 1.1754944e-38, 3.4028235e38, 88.5, 104.0, 0.0]
HALVES = [np.float16, jnp.bfloat16]
INPUTS = {np.dtype(d).name: every(d) for d in HALVES}
INPUTS["float32"] = np.concatenate([dense(), SPECIAL, np.negative(SPECIAL)]).astype(np.float32)


def both(layer):
    return lambda x: (layer(x), derivative(layer, x))


@cache
def truth(name: str, dtype: str) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        return [np.asarray(f(INPUTS[dtype].astype(np.float64)), np.float64) for f in TRUTH[name]]


@cache
def worst(name: str, dtype: str) -> list[float]:
    """The largest errors of value and derivative under jit."""
    got = jax.jit(both(getattr(fnn.activations, name)), compiler_options=FULL_EFFORT)(INPUTS[dtype])
    assert got[0].dtype == got[1].dtype == INPUTS[dtype].dtype
    return [float(np.max(ulps(g, t))) for g, t in zip(got, truth(name, dtype), strict=True)]


def bounds(name: str, dtype: str) -> tuple[float, float]:
    if dtype == "float32":
        return FLOAT32
    return HALF, FROM_OUTPUT if "output" in getattr(fnn.activations, name).needs else HALF


@pytest.mark.parametrize("dtype", INPUTS)
@pytest.mark.parametrize("name", TRUTH)
def test_values_and_derivatives_are_right_to_a_few_ulp(name, dtype):
    value, slope = worst(name, dtype)
    assert value <= bounds(name, dtype)[0] and slope <= bounds(name, dtype)[1]


@pytest.mark.parametrize("dtype", INPUTS)
@pytest.mark.parametrize("name", TRUTH)
def test_never_worse_than_jax_nn(name, dtype):
    def yardstick(x):
        y, pull = jax.vjp(JAX[name], x)
        return y, pull(jnp.ones_like(x))[0]

    theirs = jax.jit(yardstick)(INPUTS[dtype])
    for ours, got, right in zip(worst(name, dtype), theirs, truth(name, dtype), strict=True):
        assert ours <= max(np.max(ulps(got, right)), HALF)


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("name", TRUTH)
def test_eager_is_as_accurate_with_x64_or_without(name, x64):
    for dtype in ("float16", "bfloat16"):
        with jax.enable_x64(x64):
            got = both(getattr(fnn.activations, name))(jnp.asarray(INPUTS[dtype]))
        for g, right, bound in zip(got, truth(name, dtype), bounds(name, dtype), strict=True):
            assert g.dtype == dtype and np.max(ulps(g, right)) <= bound


@pytest.mark.parametrize("name", TRUTH)
def test_jit_is_as_accurate_without_x64(name):
    with jax.enable_x64(False):
        got = jax.jit(both(getattr(fnn.activations, name)))(INPUTS["bfloat16"])
    for g, right, bound in zip(got, truth(name, "bfloat16"), bounds(name, "bfloat16"), strict=True):
        assert np.max(ulps(g, right)) <= bound


# Where jax.nn 0.10 is far off: (name, dtype, x) of a derivative, by jax issue 39798 and its kin.
JAX_IS_OFF = [
    ("silu", "float32", -89.0),  # underflow: 0
    ("silu", "float16", -11.5),  # and rounding of intermediate results to half precision
    ("mish", "float32", -89.0),
    ("mish", "bfloat16", -1.2),  # a root of the derivative
    ("gelu", "float16", -0.752),
    ("gelu_tanh", "bfloat16", 2e19),  # overflow: NaN
    ("gelu_tanh", "float32", -7.8),  # 1 + tanh cancels: 0
    ("elu", "float16", -8.32),
    ("sigmoid", "float16", 7.62),  # y (1 - y) of a y that is nearly 1
    ("tanh", "bfloat16", 7.62),
    ("softsign", "bfloat16", 1e19),  # overflow of (1 + |x|)²
]


@pytest.mark.parametrize(("name", "dtype", "at"), JAX_IS_OFF)
def test_where_jax_nn_is_off(name, dtype, at):
    x = np.asarray([at]).astype(INPUTS[dtype].dtype)
    right = TRUTH[name][1](x.astype(np.float64))
    ours = ulps(jax.jit(partial(derivative, getattr(fnn.activations, name)))(x), right)
    theirs = ulps(jax.jit(lambda x: jax.vjp(JAX[name], x)[1](jnp.ones_like(x))[0])(x), right)
    assert ours < 7
    if jax.__version_info__ < (0, 11):
        assert theirs > 40


@pytest.mark.parametrize("name", TRUTH)
def test_autodiff_of_value_and_derivative_is_finite_for_every_finite_number(name):
    """No infinity lurks in a branch not taken: forward and reverse mode, once and twice.

    Half precision is computed in float32, which speaks for it here.
    """
    layer = getattr(fnn.activations, name)
    x = np.concatenate([x.astype(np.float32) for x in INPUTS.values()])

    @jax.jit
    def derivatives(x):
        ones = jnp.ones_like(x)
        first = jax.vjp(layer, x)[1](ones)[0], jax.jvp(layer, (x,), (ones,))[1]
        slope = lambda x: derivative(layer, x)  # noqa: E731
        return *first, jax.vjp(slope, x)[1](ones)[0], jax.jvp(slope, (x,), (ones,))[1]

    for d in derivatives(x[abs(x) < 1e38]):
        assert np.all(np.isfinite(np.asarray(d)))


@pytest.mark.parametrize("name", ["identity", "relu", "leaky_relu", "relu6", "hard_tanh", "elu", "celu"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_selections_pass_subnormals_through(name, dtype):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    x = jnp.asarray(np.asarray([tiny, 3 * tiny]).astype(dtype))
    for run in (both(getattr(fnn.activations, name)), jax.jit(both(getattr(fnn.activations, name)))):
        y, slope = run(x)
        assert np.array_equal(np.asarray(y), np.asarray(x))
        assert np.array_equal(np.asarray(slope, np.float64), [1, 1])
