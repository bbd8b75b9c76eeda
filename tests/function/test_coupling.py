"""Which functions couple examples: choices and indices that are each example's own do not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from fnn.function import Function, describe, factors
from fnn.readers import squared_norm
from tests.function.functions import X, draw
from tests.function.test_uses import close

W = draw(0, 5, 4)
SUMS = lambda y: y.sum(1), lambda y: y.max(1)


def rows(x: Any) -> Any:
    return jnp.arange(x.shape[0])


def label(x: Any) -> Any:
    return jnp.argmax(x, 1) % 4


def chosen(w: Any, x: Any) -> Any:
    """The most common way to write the cross-entropy of labels."""
    return -jax.nn.log_softmax(x @ w)[rows(x), label(x)]


def capacity(w: Any, x: Any, axis: int) -> Any:
    """Experts that take the first two along an axis, chosen by params: (n, tokens, k) -> (n,)."""
    y = x @ w
    chosen = jax.nn.one_hot(jnp.argmax(y, 2), 4)
    return (jnp.where(jnp.cumsum(chosen, axis) <= 2, chosen, 0.0) * y).sum((1, 2))


def tokens(x: Any) -> Any:
    return x[:, None] * jnp.array([1.0, -1.0, 0.5])[None, :, None]


APART = {
    "a label's entry": chosen,
    "an entry by NumPy's rows": lambda w, x: (x @ w)[np.arange(x.shape[0]), label(x)],
    "a compiled entry": lambda w, x: jax.jit(lambda y, row: y[row, label(x)])(x @ w, rows(x)),
    "an entry in a checkpoint": lambda w, x: jax.checkpoint(lambda y: y[rows(y), 0])(jnp.tanh(x @ w)),
    "an entry of tokens": lambda w, x: jnp.square(tokens(x) @ w)[rows(x)[:, None], jnp.arange(3), 1].sum(1),
    "the largest entry": lambda w, x: (lambda y: y[rows(y), jnp.argmax(y, 1)])(x @ w),
    "the last token": lambda w, x: jnp.square(tokens(x) @ w)[rows(x), label(x) % 3].sum(1),
    "added to an entry": lambda w, x: jnp.square((x @ w).at[rows(x), label(x)].add(1.0)).sum(1),
    "set in an entry": lambda w, x: jnp.square(x.at[rows(x), label(x)].set((x @ w)[:, 0])).sum(1),
    "set in a column": lambda w, x: jnp.square(x.at[:, 2].set((x @ w)[:, 0])).sum(1),
    "a class drawn": lambda w, x: (lambda y: y[rows(y), jax.random.categorical(jax.random.key(0), y)])(x @ w),
    "entries in order": lambda w, x: (
        (lambda y: jnp.take_along_axis(y, jnp.argsort(y), 1))(x @ w) @ jnp.arange(4.0)
    ),
    "a capacity of one example": lambda w, x: capacity(w, tokens(x), 1),
    "a choice by the params": lambda w, x: lax.cond(
        w.sum() > 0, lambda y: y.sum(1), lambda y: y.max(1), x @ w
    ),
    "a loop of each example's own": lambda w, x: (
        jax.vmap(lambda y: lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, y))(
            lax.stop_gradient(x @ w)
        ).sum(1)
        * (x @ w).sum(1)
    ),
    "conjugate gradients": lambda w, x: jax.vmap(
        lambda b: jax.scipy.sparse.linalg.cg(lambda v: 2 * v + w @ (w.T @ v), b, tol=1e-13)[0]
    )(x).sum(1),
    "a barrier": lambda w, x: (lambda y, c: y.sum(1))(*lax.optimization_barrier((x @ w, w.sum()))),
}
COUPLED = {
    "turned around": lambda w, x: (x @ w)[rows(x)[::-1], label(x)],
    "in another order": lambda w, x: (x @ w)[jax.random.permutation(jax.random.key(0), rows(x)), 0],
    "the one before": lambda w, x: (x @ w)[jnp.maximum(rows(x) - 1, 0), label(x)],
    "the first of all": lambda w, x: (x @ w)[jnp.zeros_like(rows(x)), label(x)],
    "chosen by the data": lambda w, x: (x @ w)[label(x), 0],
    "set in another": lambda w, x: jnp.square(x.at[rows(x)[::-1], 0].set((x @ w)[:, 0])).sum(1),
    "a capacity of the batch": lambda w, x: capacity(w, tokens(x), 0),
    "a choice by all": lambda w, x: lax.cond(
        (x @ w).sum() > 0, lambda y: y.sum(1), lambda y: y.max(1), x @ w
    ),
    "nothing where one is no number": lambda w, x: (lambda y: jnp.where(jnp.isnan(y).any(), 0, y).sum(1))(
        x @ w
    ),
    "a loop that carries on": lambda w, x: lax.scan(lambda c, y: (c + y.sum(), c), 0.0, x @ w)[1],
    "two of them in a step": lambda w, x: lax.map(lambda y: jnp.sort(y).sum(), x @ w, batch_size=2),
}
BY_VALUES = {
    "a mean of the data": lambda w, x: (x - x.mean(0, keepdims=True)) @ w,
    "a mean that has no derivative": lambda w, x: (lambda y: y - lax.stop_gradient(y.mean(0)[None]))(x @ w),
    "their order": lambda w, x: jnp.argsort(x[:, :1], 0).astype(x.dtype) * (x @ w),
    "a sum carried on": lambda w, x: (
        x @ w + jnp.expand_dims(lax.scan(lambda c, x: (c + x.sum(), c), 0.0, x)[1], 1)
    ),
}


@pytest.mark.parametrize("name", APART)
def test_what_is_each_examples_own_keeps_examples_apart(name):
    f = APART[name]
    assert describe(f, W, X).coupled is None
    assert Function(lambda w, x: f(w, x)[:, None]).coupled_at(W, X) is None
    _, norms = jax.jit(lambda w: factors(f)(w, X, read=squared_norm))(W)
    close(norms, jnp.square(jax.jit(jax.jacrev(lambda w: f(w, X)))(W)).sum((1, 2)))


@pytest.mark.parametrize("name", COUPLED)
def test_what_another_example_chooses_couples_them(name):
    f = COUPLED[name]
    assert "test_coupling.py" in str(describe(f, W, X).coupled)
    with pytest.raises(fnn.InputError, match="couples them: .*test_coupling.py"):
        factors(f)(W, X, read=squared_norm)


@pytest.mark.parametrize("name", BY_VALUES)
def test_a_layer_whose_values_depend_on_other_examples_is_no_private_one(name):
    """Without one example the others' gradients are others: no bound of one norm bounds what it changes."""
    f = BY_VALUES[name]
    assert describe(f, W, X).coupled is None  # the gradients of the examples are what they are
    private = fnn.privacy.clipped_gradient(Function(f), fnn.half_squared_error(), 1.0)
    with pytest.raises(fnn.InputError, match="keep examples apart.*test_coupling.py"):
        private(W, X, jnp.ones((6, 4)))
    alone = f(W, X[1:])
    assert jnp.abs(alone - f(W, X)[1:]).max() > 0.01


def test_a_loop_over_several_examples_in_a_step_says_which_loop_is_read():
    def f(w: Any, x: Any, size: Any) -> Any:
        return lax.map(lambda x: jnp.sort(x @ w).sum(), x, batch_size=size)

    with pytest.raises(
        fnn.InputError, match=r"got 3 steps for 6 examples in .*test_coupling.py.*map\(f, x\)"
    ):
        factors(lambda w, x: f(w, x, 2))(W, X, read=squared_norm)
    _, norms = factors(lambda w, x: f(w, x, None))(W, X, read=squared_norm)
    assert norms.shape == (6,)
