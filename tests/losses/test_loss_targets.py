"""Losses at targets that are no distribution: what is spread over a row keeps the row's sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.proof import assert_equal

RNG = np.random.default_rng(0)
Y = jnp.asarray(RNG.standard_normal((7, 5)))
TARGET = jnp.asarray(RNG.uniform(0.1, 2, (7, 5)))


def test_smoothing_keeps_the_sum_of_an_unnormalised_target():
    loss = fnn.softmax_cross_entropy(0.1, "sum")

    def formula(y):
        smooth = 0.9 * TARGET + 0.1 * TARGET.mean(-1, keepdims=True)
        return -(smooth * jax.nn.log_softmax(y)).sum()

    value, dy = loss.value_and_grad(Y, TARGET)
    assert_equal(value, formula(Y))
    assert_equal(dy, jax.grad(formula)(Y))


def test_a_divergence_from_an_unnormalised_target():
    def formula(y):
        return (TARGET * (jnp.log(TARGET) - jax.nn.log_softmax(y))).sum()

    value, dy = fnn.losses.kl_divergence("sum").value_and_grad(Y, TARGET)
    assert_equal(value, formula(Y))
    assert_equal(dy, jax.grad(formula)(Y))


@pytest.mark.parametrize("logit", [0.5, -jnp.inf])
def test_a_target_of_zero_adds_nothing_to_a_divergence(logit):
    y, target = Y.at[:, 2].set(logit), TARGET.at[:, 2].set(0)
    others = jnp.array([0, 1, 3, 4])
    value, dy = fnn.losses.kl_divergence("sum").value_and_grad(y, target)
    log_p, t = jax.nn.log_softmax(y)[:, others], target[:, others]
    assert_equal(value, (t * (jnp.log(t) - log_p)).sum())
    assert_equal(dy, jax.nn.softmax(y) * target.sum(-1, keepdims=True) - target)


def test_a_weight_of_zero_counts_a_row_out_whose_value_alone_overflows():
    y, weights = Y.at[2].set(1e200), jnp.ones(7).at[2].set(0)
    value, dy = fnn.squared_error("sum").value_and_grad(y, TARGET, weights)
    rows = np.delete(np.arange(7), 2)
    assert_equal(value, fnn.squared_error("sum")(Y[rows], TARGET[rows]))
    np.testing.assert_array_equal(dy[2], 0)
