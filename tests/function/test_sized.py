"""Which functions depend on how many examples there are, beyond the shapes, as every function does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from fnn.function import Function, factors
from tests.function.functions import X, draw
from tests.function.test_uses import close

W = draw(0, 5, 4)


def rows(x: Any) -> Any:
    return jnp.arange(x.shape[0])


@jax.custom_vjp
def averaged(y):
    """A rule that divides by the number of examples, on the way back alone."""
    return y


averaged.defvjp(lambda y: (y, None), lambda _, dy: (dy / dy.shape[0],))

DEPENDS = {
    "a quotient": lambda w, x: x @ w / x.shape[0],
    "a quotient of the params": lambda w, x: x @ (w / x.shape[0]),
    "a root": lambda w, x: x @ w * jnp.sqrt(jnp.asarray(x.shape[0], x.dtype)),
    "a constant of NumPy": lambda w, x: x @ w * np.sqrt(np.float64(x.shape[0])),
    "a power": lambda w, x: (x @ w) ** x.shape[0],
    "a grid": lambda w, x: x @ w + jnp.linspace(0, 1, x.shape[0])[:, None],
    "places from behind": lambda w, x: x @ w * jnp.arange(float(len(x)))[::-1, None],
    "within a call": lambda w, x: jax.jit(lambda y: y / len(y))(x @ w),
    "within a scan": lambda w, x: lax.scan(lambda c, _: (c / len(c), None), x @ w, None, 2)[0],
    "carried into a scan": lambda w, x: lax.scan(
        lambda c, _: ((c[0] * c[1], c[1]), None), (x @ w, jnp.float64(x.shape[0])), None, 2
    )[0][0],
    "a column": lambda w, x: (x @ w)[:, x.shape[0] % 4][:, None],
    "a rule": lambda w, x: averaged(x @ w),
}
HARMLESS = {
    "a mean over features": lambda w, x: x @ w / x.shape[1],
    "zeros of the batch": lambda w, x: x @ w + jnp.zeros((x.shape[0], 4)),
    "places": lambda w, x: x @ w * jnp.arange(float(len(x)))[:, None],
    "an entry set": lambda w, x: (x @ w).at[rows(x), 1].set(2.0),
    "an entry from behind": lambda w, x: (x @ w)[rows(x), -1][:, None],
    "flat, and back": lambda w, x: (x.reshape(-1) * 2.0).reshape(x.shape[0], -1) @ w,
    "a state of zeros": lambda w, x: lax.scan(
        lambda c, v: (jnp.tanh(v @ w + c), None), jnp.zeros((x.shape[0], 4)), jnp.stack([x, -x])
    )[0],
    "noise of a fixed key": lambda w, x: x @ w + jax.random.normal(jax.random.key(0), (x.shape[0], 4)),
    "a mask": lambda w, x: jnp.where(jnp.tri(5, 4, dtype=bool)[None], x[:, :, None], 0.0).sum(1) * (x @ w),
    "an activation": lambda w, x: jax.nn.relu(jax.nn.softplus(x @ w)),
    "a loop over the examples": lambda w, x: lax.map(lambda x: jnp.tanh(x @ w), x),
}


@pytest.mark.parametrize("name", DEPENDS)
def test_a_layer_that_reads_how_many_examples_there_are_has_no_gradient_of_one(name):
    net, target = Function(DEPENDS[name]), jnp.ones_like(DEPENDS[name](W, X))
    private = fnn.privacy.clipped_gradient(net, fnn.half_squared_error(), 1.0)
    with pytest.raises(fnn.InputError, match="how many they are is read by .*test_sized.py"):
        private(W, X, target)
    loss = fnn.half_squared_error()
    _, grads = fnn.value_and_grad(net, loss)(W, X, target)
    close(grads, jax.grad(lambda w: loss(net.f(w, X), target))(W))


@pytest.mark.parametrize("name", HARMLESS)
def test_shapes_and_what_lies_along_the_examples_are_not_their_number(name):
    f = HARMLESS[name]
    assert Function(f).coupled_at(W, X) is None
    if not isinstance(f(W, X), tuple):
        close(f(W, X[:4]), f(W, X)[:4])


def test_losses_may_be_divided_by_the_number_of_examples():
    """They are the user's own, and their gradients what they are."""
    losses, found = factors(lambda w, x: jnp.square(x @ w).sum(1) / x.shape[0])(W, X)
    close(fnn.gradient(found, W), jax.grad(lambda w: jnp.square(X @ w).sum(1).mean())(W))
    assert losses.shape == (6,)
