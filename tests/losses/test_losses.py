"""Losses: values against plain formulas, gradients against autodiff and differences, and the extremes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.losses.objective import Reduction
from tests.proof import assert_equal

N, K = 7, 5
RNG = np.random.default_rng(0)
Y = jnp.asarray(RNG.standard_normal((N, K)))
REAL = jnp.asarray(RNG.standard_normal((N, K)))
LABELS = jnp.asarray(RNG.integers(0, K, N))
SOFT = jax.nn.softmax(jnp.asarray(RNG.standard_normal((N, K))))
BITS = jnp.asarray(RNG.integers(0, 2, (N, K)).astype(bool))
SIGNS = 2.0 * BITS.astype(jnp.float64) - 1
COUNTS = jnp.asarray(RNG.poisson(2.0, (N, K)))
WEIGHTS = jnp.asarray(RNG.uniform(0.1, 2, N))


def row_norm(v):
    return jnp.sqrt(jnp.square(v).sum(-1))


def huber(reduction: Reduction = "mean"):
    return fnn.huber(0.7, reduction)


def softmax(reduction: Reduction = "mean"):
    return fnn.softmax_cross_entropy(reduction=reduction)


# loss, target, the plain formula of a row's value
TABLE = {
    "squared_error": (fnn.squared_error, REAL, lambda y, t: jnp.square(y - t).sum(-1)),
    "half_squared_error": (fnn.half_squared_error, REAL, lambda y, t: jnp.square(y - t).sum(-1) / 2),
    "absolute_error": (fnn.losses.absolute_error, REAL, lambda y, t: jnp.abs(y - t).sum(-1)),
    "huber": (huber, REAL, lambda y, t: optax.huber_loss(y, t, delta=0.7).sum(-1)),
    "binary": (
        fnn.binary_cross_entropy,
        BITS,
        lambda y, t: optax.sigmoid_binary_cross_entropy(y, t.astype(y.dtype)).sum(-1),
    ),
    "binary-soft": (
        fnn.binary_cross_entropy,
        SOFT,
        lambda y, t: optax.sigmoid_binary_cross_entropy(y, t).sum(-1),
    ),
    "softmax": (softmax, LABELS, optax.softmax_cross_entropy_with_integer_labels),
    "softmax-soft": (softmax, SOFT, optax.softmax_cross_entropy),
    "softmax-smooth": (
        partial(fnn.softmax_cross_entropy, 0.1),
        LABELS,
        lambda y, t: optax.softmax_cross_entropy(y, 0.9 * jax.nn.one_hot(t, K) + 0.1 / K),
    ),
    "softmax-unnormalised": (softmax, 3 * SOFT, optax.softmax_cross_entropy),
    "kl": (
        fnn.losses.kl_divergence,
        SOFT,
        lambda y, t: optax.kl_divergence(jax.nn.log_softmax(y), t),
    ),
    "hinge": (fnn.losses.hinge, SIGNS, lambda y, t: optax.hinge_loss(y, t).sum(-1)),
    "cosine": (fnn.losses.cosine, REAL, lambda y, t: 1 - (y * t).sum(-1) / row_norm(y) / row_norm(t)),
    "poisson": (fnn.losses.poisson, COUNTS, lambda y, t: (jnp.exp(y) - t.astype(y.dtype) * y).sum(-1)),
}  # fmt: skip
every_loss = pytest.mark.parametrize("name", TABLE)


def reduced(values, reduction, weights):
    w = jnp.ones(N) if weights is None else weights
    total = (w * values).sum()
    return {"mean": total / w.sum(), "sum": total, "none": w * values}[reduction]


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_value_and_gradient(name, reduction, weights):
    make, target, plain = TABLE[name]
    loss = make(reduction)

    def formula(y):
        return reduced(plain(y, target), reduction, weights)

    value, dy = jax.jit(loss.value_and_grad)(Y, target, weights)
    assert_equal(value, formula(Y))
    assert_equal(dy, jax.grad(lambda y: formula(y).sum())(Y), 1e-11)
    cotangent = jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
    through = jax.grad(lambda y: jnp.vdot(cotangent, loss(y, target, weights)))(Y)
    assert_equal(through, jax.grad(lambda y: jnp.vdot(cotangent, formula(y)))(Y), 1e-11)
    h, v = 2.0**-16, jnp.asarray(np.random.default_rng(1).standard_normal(Y.shape))
    slope = (loss(Y + h * v, target, weights).sum() - loss(Y - h * v, target, weights).sum()) / (2 * h)
    assert abs(slope - jnp.vdot(dy, v)) < 1e-7 * max(1, abs(float(slope)))


@every_loss
def test_forward_mode_through_the_rule_gives_the_hessian(name):
    make, target, plain = TABLE[name]
    v = jnp.asarray(np.random.default_rng(2).standard_normal(Y.shape))
    got = jax.jvp(lambda y: make().value_and_grad(y, target)[1], (Y,), (v,))[1]
    wanted = jax.jvp(jax.grad(lambda y: plain(y, target).mean()), (Y,), (v,))[1]
    assert_equal(got, wanted, 1e-10)


@every_loss
def test_tokens_dtypes_and_vmap(name):
    make, target, _ = TABLE[name]
    loss = make("none")
    wanted, dy = loss.value_and_grad(Y, target)
    tokens = jax.tree.map(lambda a: jnp.stack([a, a], 1), (Y, target))
    assert_equal(loss.value_and_grad(*tokens), (jnp.stack([wanted, wanted], 1), jnp.stack([dy, dy], 1)))
    assert_equal(jax.vmap(loss.value_and_grad)(Y[:, None], target[:, None]), (wanted[:, None], dy[:, None]))
    low, dlow = loss.value_and_grad(Y.astype(jnp.bfloat16), target)
    assert low.dtype == jnp.float32 and dlow.dtype == jnp.bfloat16
    through = jax.grad(lambda y: loss(y, target).sum())(Y.astype(jnp.bfloat16))
    np.testing.assert_array_equal(through, dlow)


def test_target_and_weights_are_differentiated_too():
    loss = fnn.half_squared_error()
    by_target = jax.grad(lambda t: loss(Y, t, WEIGHTS))(REAL)
    assert_equal(by_target, -loss.value_and_grad(Y, REAL, WEIGHTS)[1])
    by_weight = jax.grad(lambda w: fnn.half_squared_error("sum")(Y, REAL, w))(0 * WEIGHTS)
    assert_equal(by_weight, fnn.half_squared_error("none")(Y, REAL))


def test_a_weight_of_zero_counts_a_row_out_even_a_row_of_nan():
    y, weights = Y.at[2].set(jnp.nan), jnp.ones(N).at[2].set(0)
    rows = np.delete(np.arange(N), 2)
    value, dy = fnn.softmax_cross_entropy().value_and_grad(y, LABELS, weights)
    assert_equal(value, fnn.softmax_cross_entropy()(Y[rows], LABELS[rows]))
    np.testing.assert_array_equal(dy[2], 0)
    assert fnn.softmax_cross_entropy()(Y, LABELS, 0 * weights) == 0


def test_fused_forms_are_exact_where_the_naive_chain_gives_nan():
    y = jnp.array([[-1e4], [1e4], [-200.0], [200.0]], jnp.float32)
    t = jnp.array([[0.0], [1.0], [1.0], [0.0]], jnp.float32)
    naive = jax.grad(
        lambda y: -(t * jnp.log(jax.nn.sigmoid(y)) + (1 - t) * jnp.log(1 - jax.nn.sigmoid(y))).sum()
    )(y)
    assert np.isnan(naive).any()
    value, dy = fnn.binary_cross_entropy("none").value_and_grad(y, t)
    np.testing.assert_array_equal(value, [0, 0, 200, 200])
    np.testing.assert_array_equal(dy[:, 0], [0, 0, -1, 1])
    logits = jnp.array([[1e4, -1e4, 0.0]], jnp.float32)
    value, dy = fnn.softmax_cross_entropy(reduction="sum").value_and_grad(logits, jnp.array([1]))
    assert value == 2e4
    np.testing.assert_array_equal(dy, [[1, -1, 0]])
    masked = jnp.array([[0.0, -jnp.inf]], jnp.float32)
    value, dy = fnn.softmax_cross_entropy().value_and_grad(masked, jnp.array([0]))
    assert value == 0 and not np.isnan(dy).any()


def test_a_sure_row_keeps_its_digits():
    y = jnp.array([[20.0, 0.0]], jnp.float32)
    value, _ = fnn.softmax_cross_entropy(reduction="sum").value_and_grad(y, jnp.array([0]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-20.0)), rtol=1e-6)
    _, dy = fnn.binary_cross_entropy("sum").value_and_grad(y[:, :1], jnp.ones((1, 1), jnp.float32))
    np.testing.assert_allclose(dy, -1 / (1 + np.exp(20.0)), rtol=1e-6)


def test_cosine_of_zeros_is_zero():
    y = Y.at[0].set(0)
    value, dy = fnn.losses.cosine("none").value_and_grad(y, REAL)
    assert value[0] == 1
    np.testing.assert_array_equal(dy[0], 0)
    curvature = jax.vjp(lambda y: fnn.losses.cosine("none").value_and_grad(y, REAL)[1], y)[1](Y)[0]
    assert jnp.isfinite(curvature).all()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_cosine_is_the_same_at_every_scale(scale):
    y, t = jnp.array([[-3.0, -4.0], [1.0, 0.0]]), jnp.array([[1.0, -2.0], [1.0, 1.0]])
    wanted, dy = jax.value_and_grad(lambda y: (1 - (y * t).sum(-1) / row_norm(y) / row_norm(t)).sum())(y)
    value, got = fnn.losses.cosine("sum").value_and_grad(y * scale, t / scale)
    assert_equal((value, got * scale), (wanted, dy))
    uneven = jnp.array([[scale, 1 / scale]])
    assert_equal(fnn.losses.cosine("sum")(uneven, uneven), jnp.zeros(()))


def test_largest_logits_that_are_equal_count_each():
    y, labels = jnp.array([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]]), jnp.array([0, 2])
    value, dy = softmax("none").value_and_grad(y, labels)
    assert_equal(value, optax.softmax_cross_entropy_with_integer_labels(y, labels))
    assert_equal(dy, jax.nn.softmax(y) - jax.nn.one_hot(labels, 3))


def test_one_row_needs_no_batch_axis_and_weights_may_be_of_another_dtype():
    value, dy = fnn.huber().value_and_grad(Y[0], REAL[0])
    assert_equal((value, dy[None]), fnn.huber().value_and_grad(Y[:1], REAL[:1]))
    low = WEIGHTS.astype(jnp.float32)
    wanted = fnn.huber().value_and_grad(Y, REAL, low.astype(jnp.float64))
    assert_equal(fnn.huber().value_and_grad(Y, REAL, low), wanted)


def test_a_row_is_counted_out_by_its_weight_alone_and_if_only_its_gradient_is_infinite():
    loss = fnn.Loss(lambda y, t: (jnp.zeros(y.shape[:-1]), y / t), reduction="sum")
    y, weights = jnp.ones((2, 3, K)), jnp.ones((2, 3))
    t = y.at[1, 2, 0].set(0)
    _, dy = loss.value_and_grad(y, t, weights.at[1, 2].set(0))
    np.testing.assert_array_equal(dy, y.at[1, 2].set(0))
    _, dy = loss.value_and_grad(y, t, weights)
    np.testing.assert_array_equal(dy, y.at[1, 2, 0].set(jnp.inf))


def test_equal_losses_are_equal_and_a_rule_of_ones_own_works():
    assert fnn.huber(0.5) == fnn.huber(0.5) and hash(fnn.huber(0.5)) == hash(fnn.huber(0.5))
    assert fnn.huber(0.5) != fnn.huber(0.6)
    quartic = fnn.Loss(lambda y, t: (((y - t) ** 4).sum(-1), 4 * (y - t) ** 3))
    assert_equal(quartic.value_and_grad(Y, REAL)[1], jax.grad(lambda y: quartic(y, REAL))(Y))
    assert_equal(quartic(Y, REAL), ((Y - REAL) ** 4).sum(-1).mean())
