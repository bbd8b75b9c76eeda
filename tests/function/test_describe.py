"""What is said of a function's uses, and of examples that meet."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.function import describe, factors
from fnn.readers import squared_norm
from tests.function.cases import CASES
from tests.function.functions import X, draw


def test_every_use_is_told_with_its_line_and_its_cost():
    case = CASES["made"]
    found = describe(case.f, case.params, *case.args)
    text = str(found)
    assert "params['w'] 5x4: Called" in text and "functions.py" in text and "(made)" in text
    assert "the examples' gradients" in text and "examples are kept apart" in text
    plain = describe(CASES["dense"].f, CASES["dense"].params, X)
    assert [own.form for own in plain.params] == ["Total", "Outer"]
    assert [own.each for own in plain.params] == [0, 0]
    weight = plain.params[1]
    assert weight.factor_bytes == 8 * 6 * (5 + 4) and weight.uses[0].operation == "dot_general"


def test_what_does_not_enter_is_said_and_read_as_zero():
    params = {"w": draw(0, 5, 4), "idle": draw(1, 3, 2), "whole": draw(2)}

    def f(p, x):
        return jnp.tanh(x @ p["w"]).sum(1)

    assert "params['idle'] 3x2: Viewed(Outer), 0 bytes\n    does not enter" in str(describe(f, params, X))
    with pytest.warns(UserWarning, match=r"no derivative goes to params\['idle'\], params\['whole'\].*`wrt="):
        _, norms = factors(f)(params, X, read=squared_norm)
    assert norms["idle"].shape == (6,) and not norms["idle"].any() and not norms["whole"].any()
    followed = factors(f, wrt=lambda path, leaf: path[0].key == "w")  # as the warning says: no warning
    _, grads = followed(params, X, read=fnn.gradient)
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)


COUPLED = {
    "statistics of the batch": lambda w, x: jnp.square(x @ w - (x @ w).mean(0, keepdims=True)).sum(1),
    "compiled statistics": lambda w, x: jax.jit(lambda y: jnp.square(y - jnp.mean(y)))(x @ w).sum(1),
    "pairs": lambda w, x: jax.nn.logsumexp((x @ w) @ (x @ w).T, axis=1),
    "order": lambda w, x: jnp.cumsum(x @ w, axis=0).sum(1),
    "neighbours": lambda w, x: (x @ w - jnp.roll(x @ w, 1, axis=0)).sum(1) ** 2,
    "sorted": lambda w, x: jnp.sort(x @ w, axis=0).sum(1),
    "chosen": lambda w, x: (x @ w)[jnp.arange(x.shape[0])[::-1]].sum(1) ** 2,
    "a loop": lambda w, x: jax.lax.scan(lambda c, x: (c + (x @ w).sum(), c), jnp.zeros(()), x)[1],
    "a capacity": lambda w, x: ((x @ w) * jax.nn.softmax(x @ w, axis=0)).sum(1),
    "mixed by a matrix": lambda w, x: (jnp.ones((x.shape[0], x.shape[0])) @ (x @ w)).sum(1),
}
APART = {
    "statistics of the features": lambda w, x: jax.nn.softmax(x @ w, axis=1)[:, 0],
    "statistics of the data": lambda w, x: ((x - x.mean(0, keepdims=True)) @ w).sum(1),
    "constant statistics": lambda w, x: (
        (x @ w - jax.lax.stop_gradient((x @ w).mean(0, keepdims=True))).sum(1) ** 2
    ),
    "a norm of the weights": lambda w, x: (x @ w).sum(1) / jnp.linalg.norm(w),
    "chosen features": lambda w, x: jnp.take_along_axis(x @ w, jnp.argmax(x, 1)[:, None] % 4, axis=1)[:, 0],
    "a loop": lambda w, x: jax.lax.map(lambda x: jnp.sort(x @ w).sum(), x),
    "two halves": lambda w, x: jnp.split(jnp.tanh(jnp.concatenate([x, 2 * x]) @ w), 2)[0].sum(1),
    "windows": lambda w, x: jax.lax.reduce_window(x @ w, 0.0, jax.lax.add, (1, 2), (1, 1), "VALID").sum(1),
}


@pytest.mark.parametrize("name", COUPLED)
def test_examples_that_meet_are_found_and_gradients_go_on(name):
    w = draw(0, 5, 4)
    assert "test_describe.py" in str(describe(COUPLED[name], w, X).coupled)
    with pytest.raises(fnn.InputError, match="couples them: .*test_describe.py"):
        factors(COUPLED[name])(w, X, read=squared_norm)
    _, grad = factors(COUPLED[name])(w, X, read=fnn.gradient)
    expected = jax.grad(lambda w: COUPLED[name](w, X).sum())(w)
    assert jnp.abs(grad - expected).max() <= 1e-10 * jnp.abs(expected).max()


@pytest.mark.parametrize("name", APART)
def test_examples_that_do_not_meet_are_not_refused(name):
    w = draw(0, 5, 4)
    assert describe(APART[name], w, X).coupled is None
    _, norms = factors(APART[name])(w, X, read=squared_norm)
    jacobian = jax.jacrev(lambda w: APART[name](w, X))(w)
    expected = jnp.square(jacobian).sum((1, 2))
    assert jnp.abs(norms - expected).max() <= 1e-10 * max(1.0, float(expected.max()))
