"""Programs as JAX's own examples are, written anew: whole losses under `factors`, against their Jacobian."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fnn
from fnn.factors import is_factor
from fnn.function import factors
from fnn.readers import gram, squared_norm, sum_over_params
from tests.function.functions import draw
from tests.function.test_uses import close, each_of


def layers(number: int, *sizes: int) -> list[tuple[Any, Any]]:
    pairs = enumerate(zip(sizes, sizes[1:], strict=False))
    return [
        (0.5 * draw(10 * number + k, *pair), 0.1 * draw(10 * number + k + 5, pair[1])) for k, pair in pairs
    ]


def dense(params: Any, x: Any, activation: Any = jnp.tanh) -> Any:
    for w, b in params[:-1]:
        x = activation(x @ w + b[None])
    w, b = params[-1]
    return x @ w + b[None]


def classifier(params: Any, x: Any, label: Any) -> Any:
    """A classifier from scratch: the log-probability of the label."""
    logits = dense(params, x)
    logits = logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True)
    return -jnp.sum(logits * jax.nn.one_hot(label, 3, dtype=logits.dtype), axis=1)


def autoencoder(params: Any, x: Any, *, key: Any) -> Any:
    """A variational autoencoder: minus the evidence lower bound, by one sample."""
    h = jnp.tanh(dense(params["encoder"], x))
    mean, deviation = dense(params["mean"], h), jax.nn.softplus(dense(params["deviation"], h))
    z = mean + deviation * jax.random.normal(key, mean.shape)
    logits = dense(params["decoder"], z)
    likelihood = -jnp.logaddexp(0.0, jnp.where(x > 0, -1.0, 1.0) * logits).sum(1)
    divergence = -0.5 * jnp.sum(1 + 2 * jnp.log(deviation) - mean**2 - deviation**2, axis=1)
    return divergence - likelihood


def images(params: Any, x: Any, label: Any) -> Any:
    """The network of a private classifier: convolutions of several windows, maxima, dense layers."""
    for w, stride, padding in zip(params["kernels"], (2, 1), ("SAME", "VALID"), strict=True):
        x = jax.nn.relu(
            lax.conv_general_dilated(x, w, (stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
    logits = dense(params["dense"], x.reshape(x.shape[0], -1), jax.nn.relu)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], axis=1)[:, 0]


def adapted(params: Any, x: Any, y: Any, x_test: Any, y_test: Any) -> Any:
    """Each example is a task: a step of gradient descent on it, and the loss behind that."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        return jnp.square(dense(params, x)[:, 0] - y).mean()

    def task(x: Any, y: Any, x_test: Any, y_test: Any) -> Any:
        grads = jax.grad(loss)(params, x, y)
        return loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), x_test, y_test)

    return jax.vmap(task)(x, y, x_test, y_test)


def policy(params: Any, states: Any, actions: Any, rewards: Any) -> Any:
    """A policy gradient: episodes are examples, their returns are no function of the params."""
    to_go = jnp.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    log = jax.nn.log_softmax(dense(params, states.reshape(-1, states.shape[2])))
    chosen = jnp.take_along_axis(log.reshape(*states.shape[:2], 3), actions[..., None], axis=2)[..., 0]
    return -(chosen * to_go).sum(1)


LABELS = jnp.array([0, 2, 1, 1])
PROGRAMS = {
    "classifier": (classifier, layers(0, 5, 4, 3), (draw(1, 4, 5), LABELS), None),
    "autoencoder": (
        autoencoder,
        {
            "encoder": layers(0, 5, 4),
            "mean": layers(1, 4, 2),
            "deviation": layers(2, 4, 2),
            "decoder": layers(3, 2, 4, 5),
        },
        (draw(1, 4, 5),),
        jax.random.key(3),
    ),
    "images": (
        images,
        {"kernels": [0.3 * draw(0, 4, 4, 1, 4), 0.3 * draw(1, 3, 3, 4, 3)], "dense": layers(0, 3, 4, 3)},
        (draw(1, 4, 10, 10, 1), LABELS),
        None,
    ),
    "adapted": (
        adapted,
        layers(0, 1, 4, 1),
        (draw(1, 4, 3, 1), draw(2, 4, 3), draw(3, 4, 2, 1), draw(4, 4, 2)),
        None,
    ),
    "policy": (
        policy,
        layers(0, 5, 4, 3),
        (draw(1, 4, 3, 5), jnp.arange(12).reshape(4, 3) % 3, draw(2, 4, 3)),
        None,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_the_gradients_of_its_examples(name):
    f, params, args, key = PROGRAMS[name]
    named = {} if key is None else {"key": key}

    @jax.jit
    def ours(params: Any) -> Any:
        losses, found = factors(f)(params, *args, key=key)
        each = jax.tree.map(each_of, found, params, is_leaf=is_factor)
        readings = (
            jax.tree.map(r, found, params, is_leaf=is_factor) for r in (squared_norm, gram, fnn.gradient)
        )
        norms, pairs, gradient = readings
        return losses, each, sum_over_params(norms), sum_over_params(pairs, axes=2), gradient

    losses, each, norms, pairs, gradient = ours(params)
    close(losses, f(params, *args, **named))
    expected = jax.jit(jax.jacrev(lambda p: f(p, *args, **named)))(params)
    flat = jnp.concatenate([g.reshape(4, -1) for g in jax.tree.leaves(expected)], 1)
    close(each, expected)
    close((norms, pairs), (jnp.square(flat).sum(1), flat @ flat.T))
    close(gradient, jax.tree.map(lambda g: g.sum(0), expected))
