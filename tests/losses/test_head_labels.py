"""Labels that a head does not count, and labels that are out of range."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.losses.heads import HEADS, LABEL, PARAMS, WEIGHTS, N, V, X, run
from tests.proof import assert_equal


def test_rows_that_do_not_count_may_hold_anything():
    x = X.at[2].set(jnp.nan).at[4].set(jnp.inf)
    head, rows = HEADS["all"], np.delete(np.arange(N), [2, 4, 7])
    (value, (grads, dx)), fewer, alone, none = run(
        lambda: (
            head.value_and_grad(PARAMS, x, LABEL, WEIGHTS),
            head.value_and_grad(PARAMS, X[rows], LABEL[rows], WEIGHTS[rows]),
            head(PARAMS, x, LABEL, WEIGHTS),
            head(PARAMS, x, jnp.full_like(LABEL, -100)),
        )
    )
    assert_equal((value, grads), (fewer[0], fewer[1][0]))
    np.testing.assert_array_equal(dx[jnp.array([2, 4, 7])], 0)
    assert none == 0
    assert_equal(alone, value)


def test_a_label_out_of_range_raises_or_is_nan():
    head = fnn.LinearCrossEntropy(V, chunk=4)
    with pytest.raises(fnn.InputError, match="labels in 0 .. 12, got -100"):
        head(PARAMS, X, LABEL)
    bad = jnp.where(LABEL == -100, 0, LABEL).at[3].set(V)
    with pytest.raises(fnn.InputError, match=r"fnn.LinearCrossEntropy\(14\)"):
        head.value_and_grad(PARAMS, X, bad)
    none = dataclasses.replace(head, reduction="none")
    one_out = jnp.ones(N).at[3].set(0)
    (value, (grads, dx)), rows, some = run(
        lambda: (head.value_and_grad(PARAMS, X, bad), none(PARAMS, X, bad), head(PARAMS, X, bad, one_out))
    )
    assert np.isnan(value) and np.isnan(grads["kernel"]).all() and np.isnan(dx[3]).all()
    assert not np.isnan(np.delete(dx, 3, 0)).any()
    assert np.isnan(rows[3]) and not np.isnan(np.delete(rows, 3)).any()
    assert_equal(some, jnp.delete(run(lambda: none(PARAMS, X, jnp.where(bad == V, 0, bad))), 3).mean())


def test_a_negative_label_is_out_of_range_too_and_weights_may_be_of_another_dtype():
    negative, low = jnp.where(LABEL == -100, -5, LABEL), WEIGHTS.astype(jnp.float32)
    head = fnn.LinearCrossEntropy(V, chunk=4)
    (value, (grads, dx)), got, wanted = run(
        lambda: (
            head.value_and_grad(PARAMS, X, negative),
            HEADS["plain"].value_and_grad(PARAMS, X, LABEL, low),
            HEADS["plain"].value_and_grad(PARAMS, X, LABEL, low.astype(jnp.float64)),
        )
    )
    assert np.isnan(value) and np.isnan(grads["kernel"]).all() and np.isnan(dx[2]).all()
    assert_equal(got, wanted)
