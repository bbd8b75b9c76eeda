"""Batches whose program is another one, as JAX writes less where two sizes agree: one example above all."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fnn
from fnn.factors import is_factor
from fnn.function import Function, describe, factors
from fnn.function.forms import total_of
from fnn.readers import gram, losses_and_readings, squared_norm, sum_over_params
from tests.function.functions import draw
from tests.function.test_uses import close, each_of, one_by_one

P = {"c": draw(0, 1, 1, 5), "w": draw(1, 5, 4), "v": draw(2, 5, 4)}
T = draw(3, 7, 3, 5)


def with_token(p: Any, x: Any) -> Any:
    return jnp.concatenate([jnp.broadcast_to(p["c"], (x.shape[0], 1, x.shape[2])), x], 1)


def class_token(p: Any, x: Any) -> Any:
    x = with_token(p, x)
    return (jnp.tanh(x @ jax.nn.softplus(p["w"])) + x @ p["v"]).sum((1, 2))


def tiled(p: Any, x: Any) -> Any:
    x = jnp.concatenate([jnp.tile(p["c"], (x.shape[0], 1, 1)), x], 1)
    return (jnp.tanh(x @ p["w"]) * (x @ p["v"])).sum((1, 2))


def reshaped(p: Any, x: Any) -> Any:
    """For three examples of three tokens the last reshape is none."""
    y = jnp.tanh(x.reshape(-1, 5) @ p["w"] * p["c"].sum()).reshape(3, -1, 4).reshape(x.shape[0], 3, 4)
    return (y + x @ p["v"]).sum((1, 2))


def broadcast(p: Any, x: Any) -> Any:
    h = jnp.broadcast_to(p["w"], (x.shape[0], 5, 4)) * jnp.broadcast_to(
        p["c"].reshape(1, 5, 1), (x.shape[0], 5, 1)
    )
    return jnp.tanh(jnp.einsum("ntk,nkj->ntj", x, h)).sum((1, 2)) + (x @ p["v"]).sum((1, 2))


def mapped(p: Any, x: Any) -> Any:
    own = lax.map(lambda x: jnp.tanh(jax.nn.softplus(p["w"]).T @ x[0]).sum() + (x @ p["v"]).sum(), x)
    return own + class_token(p, x)


def noisy(p: Any, x: Any, key: Any = None) -> Any:
    """The noise of an example is the same in a larger batch."""
    seen = jax.random.bernoulli(key, 0.5, (x.shape[0], 4, 5))
    return jnp.tanh(jnp.where(seen, with_token(p, x), 0.0) @ p["w"]).sum((1, 2)) * p["v"].sum()


APART = {"class token": class_token, "tiled": tiled, "broadcast": broadcast, "mapped": mapped}


def check(f: Any, x: Any, key: Any = None) -> None:
    """Hold every way of reading against the gradients of the examples."""
    named = {} if key is None else {"key": key}
    n, weights = len(x), draw(9, len(x))

    @jax.jit
    def read(p: Any) -> Any:
        losses, found = factors(f)(p, x, key=key)
        rules = each_of, fnn.gradient, squared_norm, gram, lambda f, p: total_of(f, p.shape, weights)
        return losses, *(jax.tree.map(rule, found, p, is_leaf=is_factor) for rule in rules)

    losses, each, total, squares, pairs, weighted = read(P)
    expected = jax.jit(jax.jacrev(lambda p: f(p, x, **named)))(P)
    flat = jax.tree.map(lambda g: g.reshape(n, -1), expected)
    close(losses, f(P, x, **named))
    close(each, expected)
    close(total, jax.tree.map(lambda g: g.sum(0), expected))
    close(weighted, jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), expected))
    close(squares, jax.tree.map(lambda g: jnp.square(g).sum(1), flat))
    close(pairs, jax.tree.map(lambda g: g @ g.T, flat))


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("name", APART)
def test_one_example_is_as_good_as_two(name, n):
    check(APART[name], T[:n])


def test_as_many_examples_as_something_else_has():
    def f(p: Any, x: Any) -> Any:
        both = x.reshape(x.shape[0], -1).reshape(-1, 15)[:, :5]
        return jnp.tanh(both.reshape(x.shape[0], 5) @ p["w"]).sum(1) + class_token(p, x)

    def square(p: Any, x: Any) -> Any:
        y = jnp.broadcast_to(x[:, :, :1], (x.shape[0], 3, 3)).transpose(1, 2, 0)  # for three, a cube
        y = y.reshape(3, 3, -1).reshape(9, x.shape[0]).T.reshape(-1, 9)
        return f(p, x) + y.sum(1) * p["c"].sum()

    for n in (3, 4, 5):
        check(f, T[:n])
        check(square, T[:n])


def test_the_noise_of_a_single_example_is_its_own():
    check(noisy, T[:1], jax.random.key(3))
    check(noisy, T[:2], jax.random.key(3))


def test_value_and_gradients_of_a_layer():
    layer = Function(lambda p, x: class_token(p, x)[:, None])
    for n in (1, 3):
        y, residuals = fnn.forward(layer, P, T[:n])
        found = fnn.backward(layer, P, residuals, jnp.cos(y))
        expected, pull = jax.vjp(layer.f, P, T[:n])
        close((y, found), (expected, pull(jnp.cos(y))))
    assert describe(class_token, P, T[:1]).coupled is None


def attention(p: Any, x: Any) -> Any:
    q, k, v = (x @ p[name] for name in "qkv")
    scores = jax.nn.softmax(jnp.einsum("ntk,nsk->nts", q, k) / q.shape[-1] ** 0.5)
    return x + jnp.einsum("nts,nsk->ntk", scores, v)


def transformer(p: Any, x: Any) -> Any:
    """Patches, a class token, positions, attention, two dense layers: (n, 4, 4, 1) -> (n, 3)."""
    patches = x.reshape(x.shape[0], 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(x.shape[0], 4, 4) @ p["in"]
    token = jnp.broadcast_to(p["class"], (x.shape[0], 1, patches.shape[-1]))
    x = attention(p, jnp.concatenate([token, patches], 1) + p["positions"])
    x = x + jax.nn.gelu(jax.nn.standardize(x, epsilon=1e-6) @ p["up"]) @ p["down"]
    return x[:, 0] @ p["head"]


SHAPES = {"q": (6, 6), "k": (6, 6), "v": (6, 6), "in": (4, 6), "class": (1, 1, 6), "positions": (1, 5, 6)}
SHAPES |= {"up": (6, 8), "down": (8, 6), "head": (6, 3)}
VIT = {name: 0.3 * draw(k, *shape) for k, (name, shape) in enumerate(SHAPES.items())}
IMAGES, LABELS = draw(20, 4, 4, 4, 1), jnp.array([0, 2, 1, 0])
NET, LOSS = Function(transformer), fnn.softmax_cross_entropy()


def test_a_vision_transformer_on_one_image():
    for n in (1, 4):
        _, squares = losses_and_readings(NET, LOSS, squared_norm)(VIT, IMAGES[:n], LABELS[:n])
        one = one_by_one(lambda p, x, t: LOSS(transformer(p, x), t)[None], VIT, (IMAGES[:n], LABELS[:n]))
        close(
            sum_over_params(squares), sum(jnp.square(g).reshape(n, -1).sum(1) for g in jax.tree.leaves(one))
        )


def test_influence_on_one_test_example():
    influence = fnn.attribution.influence(NET, LOSS, lambda v: v)
    found = influence(VIT, IMAGES, LABELS, IMAGES[:1], LABELS[:1])
    both = influence(VIT, IMAGES, LABELS, jnp.repeat(IMAGES[:1], 2, 0), jnp.repeat(LABELS[:1], 2))
    close(found, both)


REFUSED = {
    "a mean over the batch": lambda p, x: class_token(p, x - x.mean(0, keepdims=True)),
    "a mean of what the params make": lambda p, x: (lambda y: y - y.mean())(class_token(p, x)),
    "examples turned around": lambda p, x: class_token(p, x[::-1]),
    "their number": lambda p, x: class_token(p, x) / x.shape[0],
    "a power of their number": lambda p, x: class_token(p, x) ** (x.shape[0] + 1),
    "their places from behind": lambda p, x: class_token(p, x) * jnp.arange(float(x.shape[0]))[::-1],
    "a cumulative sum": lambda p, x: jnp.cumsum(class_token(p, x)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_more_examples_would_change_it_one_is_refused(name):
    f = REFUSED[name]
    with pytest.raises(
        fnn.InputError, match="another program for 1 than for 2, and couples them: .*test_padded"
    ):
        factors(f)(P, T[:1], read=fnn.gradient)
    assert factors(f)(P, T[:3], read=fnn.gradient)[0].shape == (3,)


def test_a_function_that_computes_something_else_for_one_example_is_refused():
    def f(p: Any, x: Any, factor: Any) -> Any:
        return class_token(p, x) * (1.0 if x.shape[0] == 1 else factor)

    def g(p: Any, x: Any) -> Any:
        return class_token(p, x) if x.shape[0] == 1 else jnp.cos(class_token(p, x))

    for other in (lambda p, x: f(p, x, 2.0), g):
        with pytest.raises(fnn.InputError, match="another program for 1 than for 2"):
            factors(other)(P, T[:1], read=squared_norm)
    check(lambda p, x: f(p, x, 1.0), T[:1])


def test_an_entry_of_each_example():
    labels = jnp.array([1, 0, 2])

    def f(p: Any, x: Any) -> Any:
        log_p = jax.nn.log_softmax((with_token(p, x) @ p["w"]).sum(1))
        return log_p[jnp.arange(x.shape[0]), labels[:1]] * p["v"].sum()

    check(f, T[:1])


def test_noise_that_is_other_noise_in_a_larger_batch_is_refused():
    def f(p: Any, x: Any, key: Any) -> Any:
        return class_token(p, x) * jax.random.normal(key, (3, x.shape[0]))[2]

    with pytest.raises(fnn.InputError, match="how many they are is read by"):
        factors(f)(P, T[:1], key=jax.random.key(0), read=squared_norm)
