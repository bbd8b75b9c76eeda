"""float16: a loss's gradient is scaled while it is wide: by the value's multiple, weights or `scale`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

N = 16384
Y = jnp.zeros((N, 2), jnp.float16).at[:, 0].set(9)
LABEL = jnp.zeros(N, jnp.int32)
SCALE = 2.0**15
WANTED = float(SCALE / N / (1 + np.exp(9.0)))  # of the second output
ROUNDED = 2.0**-11  # relative, of a float16


def near(got, wanted=WANTED):
    np.testing.assert_allclose(np.float64(got), np.array([-wanted, wanted]), rtol=ROUNDED)


LOSS = fnn.softmax_cross_entropy()
WAYS = {
    "multiple": lambda y: jax.grad(lambda y: SCALE * LOSS(y, LABEL))(y),
    "seed": lambda y: jax.vjp(lambda y: LOSS(y, LABEL), y)[1](jnp.asarray(SCALE, jnp.float32))[0],
    "scale": lambda y: LOSS.value_and_grad(y, LABEL, scale=SCALE)[1],
    "weights": lambda y: jax.grad(
        lambda y: fnn.softmax_cross_entropy(reduction="sum")(y, LABEL, jnp.full(N, SCALE / N, jnp.float32))
    )(y),
    "seeds": lambda y: jax.vjp(lambda y: fnn.softmax_cross_entropy(reduction="none")(y, LABEL), y)[1](
        jnp.full(N, SCALE / N, jnp.float32)
    )[0],
    "sum of losses": lambda y: jax.grad(lambda y: SCALE * (0.5 * LOSS + 0.5 * LOSS)(y, LABEL))(y),
    "rule": lambda y: fnn.Loss(
        lambda y, t: optax.losses.softmax_cross_entropy_with_integer_labels(y, t)
    ).value_and_grad(y, LABEL, scale=SCALE)[1],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_is_rounded_once_it_is_scaled(way):
    near(jax.jit(WAYS[way])(Y)[0])


HEAD = fnn.LinearCrossEntropy(2, bias=False, chunk=4096)
KERNEL = {"kernel": jnp.array([[9.0, 0.0], [0.0, 9.0]], jnp.float32)}
ROWS = jnp.zeros((N, 2), jnp.float16).at[:, 0].set(1)


@pytest.mark.parametrize("way", ["multiple", "scale"])
def test_a_head_of_float16_rows_too(way):
    def of(x):
        if way == "scale":
            return HEAD.value_and_grad(KERNEL, x, LABEL, scale=SCALE)[1]
        return jax.grad(lambda params, x: SCALE * HEAD(params, x, LABEL), (0, 1))(KERNEL, x)

    grads, dx = jax.jit(of)(ROWS)
    np.testing.assert_allclose(np.float64(dx[0]), 9 * np.array([-WANTED, WANTED]), rtol=4 * ROUNDED)
    np.testing.assert_allclose(grads["kernel"][0], N * np.array([-WANTED, WANTED]), rtol=4 * ROUNDED)


NET = fnn.Dense(2, dtype=jnp.float16)
PARAMS = {"kernel": KERNEL["kernel"], "bias": jnp.zeros(2, jnp.float32)}


def test_training_functions_take_a_scale():
    value, grads = fnn.value_and_grad(NET, LOSS)(PARAMS, ROWS, LABEL, scale=SCALE)
    near(grads["bias"] / N)
    np.testing.assert_allclose(value, np.log1p(np.exp(-9.0)), rtol=1e-5)
    _, grads = fnn.value_and_grad(NET, 2 * LOSS)(PARAMS, ROWS, LABEL, scale=jnp.asarray(SCALE / 2))
    near(grads["bias"] / N)
    read = fnn.readers.losses_and_readings(NET, LOSS, fnn.readers.example_gradient)
    losses, each = read(PARAMS, ROWS[:2], LABEL[:2], scale=2.0)
    near(each["bias"][0], 2 / (1 + np.exp(9.0)))
    np.testing.assert_allclose(losses, np.log1p(np.exp(-9.0)), rtol=1e-5)


@pytest.mark.parametrize("clip", [None, 1e-5])
def test_an_update_undoes_the_scale(clip):
    init, step = fnn.train.update_in_backward(NET, LOSS, optax.sgd(1.0), clip=clip)
    new, _, _ = jax.jit(step)(PARAMS, init(PARAMS, ROWS), ROWS, LABEL, scale=SCALE)
    by = 1 if clip is None else 1e-5 / (2 * WANTED * N / SCALE)  # the norm of bias and kernel
    near(-np.asarray(new["bias"]), by * WANTED * N / SCALE)
