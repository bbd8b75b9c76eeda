"""What an activation is: a value that compares, calls, differentiates and complains as it should."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.activations import piecewise
from fnn.activations.table import Softmax, celu_with, elu_with, leaky_relu_with
from tests.activations.activation_truth import TRUTH, derivative

ROWS = {name: getattr(fnn.activations, name) for name in TRUTH}
LAYERS = [*ROWS.values(), fnn.softmax, leaky_relu_with(0.2), elu_with(0.5), celu_with(0.5), Softmax(0)]
LAYERS += [fnn.activation(jnp.sin, jnp.cos), fnn.activation(jnp.sin)]
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def test_each_row_reads_one_side_at_most():
    assert {name for name, layer in ROWS.items() if "output" in layer.needs} == {
        "relu", "leaky_relu", "relu6", "hard_tanh", "softplus", "log_sigmoid",
    }  # fmt: skip
    assert fnn.identity.needs == frozenset() and fnn.softmax.needs == {"output"}
    assert all(len(layer.needs) <= 1 and layer.cheap for layer in LAYERS)


@pytest.mark.parametrize(("platform", "form"), [("cpu", "select"), ("cuda", "clamp"), ("tpu", "clamp")])
def test_relu_takes_the_form_that_its_platform_fuses(platform, form):
    lowered = jax.jit(lambda x: fnn.relu(x)).trace(jnp.ones(3)).lower(lowering_platforms=(platform,))
    assert {"select", "clamp"} & set(re.findall("select|clamp", lowered.as_text())) == {form}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [bool, "int32", "int8", "uint8"])
def test_a_derivative_of_booleans_or_integers_scales_dy_and_does_not_round_it(given, dtype):
    """`jnp.where(x > 0, 1, 0)` is an array of integers: dy was made integers, too, and 0.25 became 0."""
    layer = fnn.activation(jax.nn.relu, lambda x: (x > 0).astype(given))
    x, dy = jnp.array([-1, 2, 3], dtype), jnp.array([0.25, 0.5, -1.75], dtype)
    for net in (layer, fnn.Serial(layer), fnn.Remat(layer)):
        _, pull = jax.vjp(lambda x, net=net: fnn.apply(net, fnn.init(net, jax.random.key(0), x), x), x)
        np.testing.assert_array_equal(np.float64(pull(dy)[0]), [0, 0.5, -1.75])
    gate = fnn.Gate(layer)
    dg = jax.grad(lambda x: fnn.apply(gate, (), x).astype("float32").sum())(jnp.array([2, 0.25], dtype))
    np.testing.assert_array_equal(np.float64(dg), [0.25, 2])
    slope = layer.slope(x, None)
    assert jnp.issubdtype(slope.dtype, jnp.floating) and slope.tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "flat"), [("relu", [-2, 0]), ("relu6", [-2, 0, 6, 8]), ("hard_tanh", [-2, -1, 1, 2])]
)
def test_an_infinite_dy_gives_zero_where_the_slope_is_zero(name, flat, dtype):
    """The backward is a selection, as jax.grad's of relu is: inf * 0 would be NaN."""
    layer, x = getattr(fnn.activations, name), jnp.array([*flat, 0.5], dtype)
    for dy in (jnp.inf, -jnp.inf, jnp.nan):
        _, pull = jax.vjp(lambda x: fnn.apply(layer, (), x), x)
        np.testing.assert_array_equal(np.float64(pull(jnp.full_like(x, dy))[0]), [0] * len(flat) + [dy])


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_forms_of_relu_agree(dtype):
    x = jnp.array([-np.inf, -2, -0.0, 0, 1e-3, 2, np.inf, np.nan], dtype)
    for form in (piecewise.clamped, piecewise.selected):
        np.testing.assert_array_equal(np.float64(form(x)), np.float64(jnp.array([0, 0, 0, *x[3:]], dtype)))
        np.testing.assert_array_equal(jax.vmap(jax.grad(form))(x[:6]), [0, 0, 0, 0, 1, 1])


def test_equal_by_value_hashable_and_named():
    assert (
        leaky_relu_with(0.01) == fnn.activations.leaky_relu
        and elu_with() == fnn.activations.elu
        and celu_with() == fnn.activations.celu
    )
    assert leaky_relu_with(0.2) == leaky_relu_with(0.2) != fnn.activations.leaky_relu
    assert fnn.activation(jnp.sin, jnp.cos) == fnn.activation(jnp.sin, jnp.cos) != fnn.activation(jnp.sin)
    assert Softmax() == fnn.softmax != Softmax(0)
    assert len({*LAYERS, *LAYERS}) == len(LAYERS)
    assert repr(fnn.gelu_tanh) == "gelu_tanh" and repr(leaky_relu_with(0.2)) == "leaky_relu(slope=0.2)"
    assert repr(fnn.softmax) == "softmax" and repr(Softmax(0)) == "softmax(axis=0)"


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_shapes_and_dtypes_are_kept(layer):
    shapes = [(0, 3), (2, 1, 3), (3,), (3,) if isinstance(layer, Softmax) else ()]
    for dtype, shape in zip(DTYPES, shapes, strict=True):
        x = jax.ShapeDtypeStruct(shape, dtype)
        assert layer.init(None, x) == ()
        for f in (layer, partial(derivative, layer)):
            y = jax.eval_shape(f, x)
            assert y.shape == shape and y.dtype == dtype and not y.weak_type


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_backward_is_autodiff_of_the_value_and_forward_mode_goes_through_it(layer):
    x, dy, dx = np.random.default_rng(0).normal(size=(3, 5, 7)) * np.asarray([4, 1, 1])[:, None, None]

    def backward(x):
        y, extras = layer.forward((), x, None)
        sides = (x if "input" in layer.needs else None, y if "output" in layer.needs else None)
        grads, out = layer.backward((), *sides, extras, dy)
        assert grads == ()
        return out

    autodiff = lambda x: jax.vjp(layer, x)[1](dy)[0]  # noqa: E731
    ours, theirs = jax.jit(lambda x, dx: [jax.jvp(f, (x,), (dx,)) for f in (backward, autodiff)])(x, dx)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


# The derivative at its kinks: a kink belongs to the outer piece, to the left where both are outer.
KINKS = [
    (fnn.relu, 0, 0), (fnn.relu, -0.0, 0), (fnn.activations.leaky_relu, 0, 0.01), (leaky_relu_with(0), 0, 0),
    (fnn.activations.relu6, 0, 0), (fnn.activations.relu6, 6, 0), (fnn.activations.hard_tanh, -1, 0), (fnn.activations.hard_tanh, 1, 0),
    (fnn.activations.hard_sigmoid, -3, 0), (fnn.activations.hard_sigmoid, 3, 0), (fnn.activations.hard_silu, -3, 0), (fnn.activations.hard_silu, 3, 1),
    (fnn.activations.elu, 0, 1), (elu_with(0.5), 0, 0.5), (fnn.activations.selu, 0, 1.7580993408473768), (fnn.activations.celu, 0, 1),
    (fnn.activations.relu_squared, 0, 0), (fnn.activations.softsign, 0, 1), (fnn.activations.softplus, 0, 0.5), (fnn.silu, 0, 0.5),
    (fnn.gelu, 0, 0.5), (fnn.gelu_tanh, 0, 0.5), (fnn.activations.mish, 0, 0.6), (fnn.tanh, 0, 1), (fnn.sigmoid, 0, 0.25),
]  # fmt: skip


SMOOTH = ["gelu", "gelu_tanh", "silu", "mish"]  # in two branches that meet at zero


@pytest.mark.parametrize("name", SMOOTH)
def test_the_second_derivative_goes_on_at_zero(name):
    second = jax.vmap(jax.jacfwd(partial(derivative, getattr(fnn.activations, name))))
    at_zero, at_minus_zero, beside = second(jnp.asarray([0.0, -0.0, 1e-9]))
    np.testing.assert_allclose([at_zero, at_minus_zero], [beside] * 2, rtol=1e-8)


@pytest.mark.parametrize(("layer", "x", "slope"), KINKS, ids=repr)
def test_derivatives_at_kinks_and_at_zero_by_hand_and_by_autodiff(layer, x, slope):
    for at in (jnp.float64(x), -jnp.float64(0) if x == 0 else jnp.float64(x)):
        got = jax.jit(lambda x: (derivative(layer, x), jax.grad(layer)(x), jax.jacfwd(layer)(x)))(at)
        np.testing.assert_allclose(got, [slope] * 3, rtol=1e-15)


@pytest.mark.parametrize("name", ROWS)
def test_infinities_give_the_limits_and_nan_stays(name):
    limits = [np.asarray(f(np.asarray([-1e30, 1e30])), np.float64) for f in TRUTH[name]]
    limits = [np.where(abs(v) > 1e20, np.copysign(np.inf, v), np.where(abs(v) < 1e-20, 0, v)) for v in limits]
    for dtype in DTYPES:
        x = jnp.asarray([-np.inf, np.inf, np.nan, -np.nan]).astype(dtype)
        got = jax.jit(lambda x: (ROWS[name](x), derivative(ROWS[name], x)))(x)
        for g, limit in zip(got, limits, strict=True):
            np.testing.assert_allclose(np.asarray(g, np.float64)[:2], limit, rtol=4e-3)
        assert np.all(np.isnan(np.asarray(got[0], np.float64)[2:]))


def test_softmax_of_large_masked_and_half_precision_logits():
    x = jnp.asarray([[1e4, 1e4 - 1, -1e30], [-np.inf, 0, 0], [-1e38, 3e38, 1]])
    e = np.exp(-1.0)
    np.testing.assert_allclose(fnn.softmax(x), [[1 / (1 + e), e / (1 + e), 0], [0, 0.5, 0.5], [0, 1, 0]])
    half = jax.random.normal(jax.random.key(0), (64, 33), jnp.float16) * 5
    wide = np.asarray(half, np.float64)
    right = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    error = abs(np.asarray(fnn.softmax(half), np.float64) - right)
    assert np.max(error / np.maximum(np.spacing(right.astype(np.float16)), 2.0**-24)) < 0.51


def test_a_derivative_too_large_for_half_precision_still_gives_the_right_product():
    x = jnp.asarray([6e4], jnp.float16)  # 2x overflows, 2x / 4 does not
    _, dx = fnn.activations.relu_squared.backward((), x, None, (), jnp.asarray([0.25], jnp.float16))
    assert float(dx[0]) == 0.5 * float(x[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fnn.relu(jnp.arange(3)), r"relu: expected floating-point x, got int64\[3\]: .*astype"),
        (lambda: jax.eval_shape(fnn.gelu, jnp.ones(3, bool)), r"gelu: expected floating-point x, got bool"),
        (lambda: fnn.softmax(jnp.arange(3)), r"softmax: expected floating-point x"),
        (lambda: fnn.tanh.init(None, jax.ShapeDtypeStruct((3,), "int32")), "tanh: expected floating"),
        (lambda: Softmax(2)(jnp.ones(3)), r"softmax\(axis=2\): expected x with an axis 2, got float64\[3\]"),
        (lambda: fnn.softmax(jnp.ones(())), r"softmax: expected x with an axis -1, got float64\[\]"),
        (lambda: fnn.activation(jnp.sum)(jnp.ones(3)), r"sum: expected an elementwise f, .*got float64\[\]"),
        (lambda: fnn.activation(jnp.sin, of="output"), r"expected df, a function of y"),
        (lambda: fnn.activation(jnp.sin, jnp.cos, "in"), r'of "input" or "output", got \'in\''),  # pyright: ignore
        (lambda: leaky_relu_with(-0.1), r"leaky_relu: expected a finite slope >= 0, got -0.1"),
        (lambda: celu_with(0.0), r"celu: expected a finite alpha > 0, got 0.0"),
        (
            lambda: fnn.relu.backward((), None, jnp.ones(3), (), jnp.ones(2)),
            r"relu: expected dy like y, float64\[3\], got float64\[2\]",
        ),
    ],
)
def test_bad_input_is_told_what_would_be_right(call, message):
    with pytest.raises(fnn.InputError, match=message):
        call()
