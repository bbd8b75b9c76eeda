"""Functions that cannot be layers are refused by a sentence, and what the sentence says works."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.function import Function, factors
from fnn.readers import squared_norm
from tests.function.functions import X, draw
from tests.function.test_uses import close

W = draw(0, 5, 4)


def loss(w: Any, x: Any) -> Any:
    return jnp.tanh(x @ w).sum(1)


def printing(w: Any, x: Any) -> Any:
    jax.debug.print("{}", x[0, 0])
    return loss(w, x)


def looped(w: Any, x: Any) -> Any:
    return jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x @ w, x).sum(1)


def looped_behind(w: Any, x: Any) -> Any:
    y = jax.jit(lambda x: jnp.sin(x @ w))(x)
    return jax.lax.scan(
        lambda c, _: (jax.lax.while_loop(lambda y: y.sum() < 0, jnp.cos, c), None), y, None, 2
    )[0].sum(1)


def looped_within(w: Any, x: Any) -> Any:
    """A fixed point by a loop that has no derivative, and one step that has."""
    y = jax.lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, jnp.tanh(c[1] @ w + x)), (0, x))[1]
    return jnp.tanh(jax.lax.stop_gradient(y) @ w + x).sum(1)


def looped_on_data(w: Any, x: Any) -> Any:
    return loss(w, jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x + 1, x))


def fixed(w: Any, x: Any) -> Any:
    return loss(w, x) * jnp.arange(6.0)


REFUSED = {
    "side effects": (printing, W, (X,), "without side effects"),
    "integer params": (loss, jnp.ones((5, 4), int), (X,), "floating-point params, got params: int64"),
    "losses of another shape": (lambda w, x: x @ w, W, (X,), r"losses of shape \(6,\)"),
    "a mean": (lambda w, x: loss(w, x).mean(), W, (X,), r"losses of shape \(6,\), .* got \(\)"),
    "no examples": (loss, W, (1.0,), "as many examples on axis 0"),
    "different numbers of examples": (lambda w, x, y: loss(w, x), W, (X, X[:2]), "as many examples"),
    "one number of examples": (fixed, W, (X,), "any number of examples"),
    "a loop of no known end": (looped, draw(1, 5, 5), (X,), "loops whose number of steps is known"),
    "a loop of no known end behind a use": (
        looped_behind,
        W,
        (X,),
        "loops whose .*test_input.py.*looped_behind",
    ),
    "params of the batch's shape": (
        lambda w, x: (x + w).sum(1),
        draw(1, 6, 5),
        (X,),
        "any number of examples",
    ),
    "outputs that are no arrays": (lambda w, x: "loss", W, (X,), "outputs that are arrays"),
    "params alone": (lambda w, x: w, draw(1, 6), (X,), "outputs that depend on the examples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_told(name):
    f, params, args, text = REFUSED[name]
    with pytest.raises(fnn.InputError, match=text):
        factors(f)(params, *args)


@pytest.mark.parametrize("f", [looped_within, looped_on_data])
def test_a_loop_that_no_derivative_goes_through_is_as_good_as_any(f):
    w = draw(1, 5, 5)
    _, norms = factors(f)(w, X, read=squared_norm)
    close(norms, jnp.square(jax.jacrev(lambda w: f(w, X))(w)).sum((1, 2)))


def test_a_layer_whose_input_goes_through_a_loop_says_what_to_stop():
    with pytest.raises(fnn.InputError, match=r"a while_loop in .*looped_on_data.*stop_gradient"):
        fnn.forward(Function(looped_on_data), W, X)
    y, residuals = fnn.forward(Function(lambda w, x: looped_on_data(w, jax.lax.stop_gradient(x))), W, X)
    assert y.shape == (6,)


def test_what_the_errors_suggest_works():
    params = {"w": W, "steps": jnp.ones((), int)}

    def f(p: Any, x: Any) -> Any:
        return loss(p["w"], x) * p["steps"]

    with jax.numpy_dtype_promotion("standard"):
        wrt = lambda path, leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.floating)  # noqa: E731
        _, norms = factors(f, wrt=wrt)(params, X, read=squared_norm)
    assert norms["steps"].shape == (6,) and norms["w"].all()
    constant = partial(lambda w, x, c: loss(w, x) * c[0], c=jnp.ones(3))
    assert factors(constant)(W, X, read=squared_norm)[1].shape == (6,)
    summed = factors(lambda w, x: (x @ w).sum(range(1, 2)))(W, X, read=squared_norm)
    assert summed[1].shape == (6,)


def test_a_layer_says_what_it_lacks():
    x = jax.ShapeDtypeStruct((2, 5), jnp.float64)
    with pytest.raises(fnn.InputError, match=r"Function\(loss\): expected an init"):
        fnn.init(Function(loss), jax.random.key(0), x)
    with pytest.raises(fnn.InputError, match="a function f"):
        Function(3)
    with pytest.raises(fnn.InputError, match="examples on axis 0 of x"):
        fnn.forward(Function(loss), W, jnp.ones(()))
    assert fnn.init(Function(lambda p, x: jnp.cos(x)), jax.random.key(0), x) == ()
