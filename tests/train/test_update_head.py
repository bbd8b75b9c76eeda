"""Updating in the backward pass of a network with a head: params after some steps are the ordinary step's."""

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn
from tests.losses.networks import SETTINGS, V, setting
from tests.proof import assert_equal

ADAM = optax.adam(0.1, eps=1e-3)
DEEP = fnn.Serial(fnn.Embedding(V, 4), fnn.Repeat(fnn.Serial(fnn.Dense(4), fnn.gelu), 3))


@pytest.mark.thorough
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", ["rows", "tied", "tied-one-token", "in a scan"])
def test_params_after_steps_are_those_of_the_ordinary_step(name, clip):
    if name == "in a scan":
        _, head, x, target = SETTINGS["tied"]
        net, body = DEEP, fnn.init(DEEP, jax.random.key(0), x)
        params = body, head.init(jax.random.key(1), jax.ShapeDtypeStruct((*x.shape, 4), jnp.float64))
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    else:
        net, head, params, x, target, _ = setting(name)
    gradient = fnn.value_and_grad(net, head)
    usual = ADAM if clip is None else optax.chain(optax.clip_by_global_norm(clip), ADAM)

    def ordinary(params, state, x, target):
        value, grads = gradient(params, x, target)
        with jax.numpy_dtype_promotion("standard"):  # optax asks for promotions
            updates, state = usual.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

    def three(step, params, state):
        step = jax.jit(step, donate_argnums=(0, 1))
        params, value = jax.tree.map(jnp.copy, params), None
        for _ in range(3):
            params, state, value = step(params, state, x, target)
        return params, value

    init, step = fnn.train.update_in_backward(net, head, ADAM, clip=clip)
    assert_equal(three(step, params, init(params, x)), three(ordinary, params, usual.init(params)))


def test_params_of_the_network_alone_are_turned_away():
    net, head, params, x, *_ = setting("rows")
    with pytest.raises(fnn.InputError, match="params of the network and of the head, a pair"):
        fnn.train.update_in_backward(net, head, ADAM).init(params[0], x)


def test_one_copy_of_the_params_and_no_logits():
    net = fnn.Serial(fnn.Embedding(4096, 32), fnn.Dense(32))
    head = fnn.LinearCrossEntropy(4096, tied=(0, "embedding"))
    x, y = jax.ShapeDtypeStruct((512,), jnp.int32), jax.ShapeDtypeStruct((512, 32), jnp.float32)
    keys = jax.random.split(jax.random.key(0))
    params = jax.eval_shape(lambda: (fnn.init(net, keys[0], x), head.init(keys[1], y)))
    init, step = fnn.train.update_in_backward(net, head, optax.sgd(0.1, momentum=0.9))
    state = jax.eval_shape(init, params, x)
    count = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, x, x).compile().memory_analysis()
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((params, state)))
    assert count is not None
    assert count.alias_size_in_bytes == held
    assert count.temp_size_in_bytes < 512 * 4096 * 4
