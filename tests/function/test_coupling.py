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
T = jnp.stack([X, -X, X[:, ::-1]], 1)  # three tokens of each example


@jax.custom_vjp
def limited(y):
    """A gradient no longer than one: that of all examples together."""
    return y


limited.defvjp(lambda y: (y, None), lambda _, dy: (dy / jnp.maximum(1.0, jnp.linalg.norm(dy)),))


@jax.custom_vjp
def limited_each(y):
    """A gradient no longer than one for each example."""
    return y


limited_each.defvjp(
    lambda y: (y, None),
    lambda _, dy: (dy / jnp.maximum(1.0, jnp.linalg.norm(dy, axis=-1, keepdims=True)),),
)


@jax.custom_jvp
def centred(y):
    """A derivative without its mean over the batch."""
    return y


centred.defjvp(lambda at, along: (at[0], along[0] - along[0].mean(0, keepdims=True)))

IN_OTHER_PLACES = {  # each has the right shape, made of other examples
    "tokens turned and reshaped": lambda w, x: x.transpose(1, 0, 2).reshape(x.shape) @ w,
    "turned behind the product": lambda w, x: (x @ w).swapaxes(0, 1).reshape(len(x), 3, 4),
    "rows taken as columns": lambda w, x: (x[:, 0].reshape(5, -1).T @ w)[:, None],
    "transposed and reshaped": lambda w, x: (x[:, 0].T.reshape(-1, 5) @ w)[:, None],
    "in Fortran's order": lambda w, x: (x[:, 0].ravel(order="F").reshape(-1, 5) @ w)[:, None],
    "tokens before examples": lambda w, x: (x.reshape(-1, 5) @ w).reshape(3, -1, 4).sum(0)[:, None],
    "a scan over tokens, not turned back": lambda w, x: lax.scan(
        lambda c, v: (c, v @ w), 0.0, x.swapaxes(0, 1)
    )[1].reshape(len(x), 3, 4),
    "tiled, and taken by pairs": lambda w, x: (
        (jnp.tile(x[:, 0], (2, 1)) @ w).reshape(-1, 2, 4).sum(1)[:, None]
    ),
    "repeated, and taken by halves": lambda w, x: (lambda h: h[: len(x)] + h[len(x) :])(
        jnp.repeat(x[:, 0], 2, 0) @ w
    )[:, None],
    "repeated, and the first rows of all": lambda w, x: jnp.repeat(x[:, 0] @ w, 2, 0)[rows(x)][:, None],
    "set in the first rows of all": lambda w, x: (
        jnp.zeros((2 * len(x), 4)).at[rows(x)].set(x[:, 0] @ w).reshape(len(x), 2, 4)
    ),
    "every second of two batches": lambda w, x: jnp.stack([x[:, 0] @ w, x[:, 1] @ w]).reshape(-1, 4)[::2][
        :, None
    ],
    "every second, from the third on": lambda w, x: (lambda y: jnp.concatenate([y[2::2], y[:2:2]]))(
        (x[:, :2] @ w).reshape(-1, 4)
    )[:, None],
    "segments of others": lambda w, x: jax.ops.segment_sum(
        (x @ w).reshape(-1, 4), jnp.arange(3 * len(x)) % len(x), len(x)
    )[:, None],
    "segments of tokens before examples": lambda w, x: jax.ops.segment_sum(
        (x @ w).swapaxes(0, 1).reshape(-1, 4), jnp.arange(3 * len(x)) // 3, len(x)
    )[:, None],
    "taken several times, one after another": lambda w, x: (
        ((x @ w)[jnp.arange(3 * len(x)) % len(x)]).reshape(len(x), 3, 3, 4).sum(1)
    ),
    "taken several times, and turned": lambda w, x: (
        ((x @ w)[jnp.arange(3 * len(x)) // 3]).reshape(3, len(x), 3, 4).sum(0)
    ),
    "a permutation": lambda w, x: (jnp.eye(len(x))[::-1] @ (x @ w)[:, 0])[:, None],
    "a limit of all gradients": lambda w, x: limited(x @ w),
    "a derivative without its mean": lambda w, x: centred(x @ w),
}
IN_THEIR_PLACES = {
    "flat, and back": lambda w, x: (x.reshape(-1, 5) @ w).reshape(len(x), 3, 4),
    "a scan over tokens, turned back": lambda w, x: lax.scan(lambda c, v: (c, v @ w), 0.0, x.swapaxes(0, 1))[
        1
    ].swapaxes(0, 1),
    "tiled, and taken by halves": lambda w, x: (lambda h: h[: len(x)] + h[len(x) :])(
        jnp.tile(x[:, 0], (2, 1)) @ w
    )[:, None],
    "repeated, and taken by pairs": lambda w, x: (
        (jnp.repeat(x[:, 0], 2, 0) @ w).reshape(-1, 2, 4).sum(1)[:, None]
    ),
    "every second of two": lambda w, x: jnp.stack([x[:, 0] @ w, x[:, 1] @ w], 1).reshape(-1, 4)[1::2][
        :, None
    ],
    "every second of four": lambda w, x: (
        (jnp.concatenate([x, x[:, :1]], 1) @ w).reshape(-1, 4)[::2].reshape(len(x), 2, 4)
    ),
    "segments": lambda w, x: jax.ops.segment_sum((x @ w).reshape(-1, 4), jnp.arange(3 * len(x)) // 3, len(x))[
        :, None
    ],
    "taken several times": lambda w, x: jnp.tanh(x[:, 0][jnp.arange(3 * len(x)) // 3] @ w).reshape(
        len(x), 3, 4
    ),
    "made, and taken several times": lambda w, x: (
        (jnp.tanh(x @ w)[jnp.arange(2 * len(x)) // 2]).reshape(len(x), 2, 3, 4).sum(1)
    ),
    "an identity": lambda w, x: (jnp.eye(len(x)) @ (x @ w)[:, 0])[:, None],
    "stacked": lambda w, x: jnp.stack([x @ w, 2 * (x @ w)], 1).sum(1),
    "unstacked": lambda w, x: jnp.stack(jnp.unstack(x @ w, axis=1)).sum(0)[:, None],
    "a limit of each gradient": lambda w, x: limited_each(x @ w),
    "rules of JAX": lambda w, x: jax.nn.relu(x @ w) + jax.nn.logsumexp(x @ w, -1, keepdims=True),
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


@pytest.mark.parametrize("name", IN_OTHER_PLACES)
def test_examples_in_the_places_of_others_couple_them(name):
    net = Function(IN_OTHER_PLACES[name])
    with pytest.raises(fnn.InputError, match="keep examples apart.*test_coupling.py"):
        fnn.privacy.clipped_gradient(net, fnn.half_squared_error(), 1.0)(W, T, net.f(W, T))


@pytest.mark.parametrize("name", IN_THEIR_PLACES)
def test_examples_that_come_back_to_their_places_are_apart(name):
    f = IN_THEIR_PLACES[name]
    read = fnn.readers.losses_and_readings(Function(f), fnn.half_squared_error(), squared_norm)
    _, norms = read(W, T, jnp.zeros_like(f(W, T)))
    one = jax.vmap(jax.grad(lambda w, x: jnp.square(f(w, x[None])).sum() / 2), (None, 0))(W, T)
    close(norms, jnp.square(one).sum((1, 2)))


@pytest.mark.parametrize("batched", (True, False))
def test_a_function_of_a_key_is_read_with_the_key(batched):
    def noisy(w: Any, x: Any, key: Any) -> Any:
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0.0) @ w

    key, net = jax.random.key(3), Function(noisy, batched=batched)
    read = fnn.readers.losses_and_readings(net, fnn.half_squared_error(), squared_norm)
    _, norms = read(W, X, jnp.zeros((len(X), 4)), key)
    seen = jax.random.bernoulli(key, 0.5, X.shape)
    if not batched:
        keys = jax.random.split(key, len(X))
        seen = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, X.shape[1:]))(keys)
    rows = jnp.where(seen, X, 0.0)
    close(norms, jnp.square(rows).sum(1) * jnp.square(rows @ W).sum(1))
    with pytest.raises(fnn.InputError, match="a random key, which f takes, got key=None"):
        fnn.forward(net, W, X)


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
