"""Optimizers by a tree: what `optax.multi_transform` and a tree of masks give, in the backward pass."""

from collections.abc import Hashable

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn
from fnn import Dense, Repeat, Serial
from tests.proof import assert_equal

NET, LOSS = Serial(Dense(4), Repeat(Serial(fnn.tanh, Dense(4)), 3), Dense(2)), fnn.softmax_cross_entropy()
OPTIMIZERS: dict[Hashable, optax.GradientTransformation] = {
    "decayed": optax.adamw(0.1, eps=1e-3, weight_decay=0.5),
    "plain": optax.sgd(0.1, momentum=0.9),
}


def setting():
    x = jax.random.normal(jax.random.key(1), (5, 3), jnp.float64)
    params = fnn.init(NET, jax.random.key(0), x)
    labels = jax.tree_util.tree_map_with_path(
        lambda path, _: "decayed" if "kernel" in str(path[-1]) else "plain", params
    )
    return params, labels, x, jnp.array([0, 1, 1, 0, 1])


def steps(step, params, state, *data):
    value = None
    for _ in range(2):
        params, state, value = jax.jit(step)(params, state, *data)
    return params, value


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_tree_of_optimizers_is_multi_transform(clip):
    params, labels, x, target = setting()
    whole = optax.multi_transform(OPTIMIZERS, labels)
    whole = whole if clip is None else optax.chain(optax.clip_by_global_norm(clip), whole)

    def ordinary(params, state, x, target):
        value, grads = fnn.value_and_grad(NET, LOSS)(params, x, target)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = whole.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

    own = jax.tree.map(lambda label: OPTIMIZERS[label], labels)
    init, step = fnn.train.update_in_backward(NET, LOSS, own, clip=clip)
    got = steps(step, params, init(params, x), x, target)
    assert_equal(got, steps(ordinary, params, whole.init(params), x, target))


def test_a_subtree_may_have_one():
    params, _, x, target = setting()
    still = optax.set_to_zero()
    init, step = fnn.train.update_in_backward(NET, LOSS, (still, OPTIMIZERS["plain"], still))
    new, _, _ = jax.jit(step)(params, init(params, x), x, target)
    assert_equal((new[0], new[2]), (params[0], params[2]))
    assert not jnp.array_equal(new[1][1]["kernel"], params[1][1]["kernel"])


def test_trees_in_optax_are_refused_by_what_stands_for_them():
    params, labels, x, _ = setting()
    mask = jax.tree.map(lambda label: label == "decayed", labels)
    for optimizer in (
        optax.multi_transform(OPTIMIZERS, labels),
        optax.masked(optax.adam(0.1), mask),
        optax.adamw(0.1, mask=mask),
    ):
        init, _ = fnn.train.update_in_backward(NET, LOSS, optimizer)
        with pytest.raises(
            fnn.InputError, match=r"try `fnn.train.update_in_backward\(net, loss, jax.tree.map"
        ):
            jax.eval_shape(lambda init=init: init(params, x))


def test_another_tree_is_refused():
    params, _, x, _ = setting()
    with pytest.raises(fnn.InputError, match="a tree of optimizers that begins like the params"):
        init, _ = fnn.train.update_in_backward(NET, LOSS, (optax.sgd(0.1), optax.sgd(0.1)))
        jax.eval_shape(lambda: init(params, x))
    for nothing in ((), {"kernel": 0.1}, 0.1, None):
        with pytest.raises(fnn.InputError, match="an optax optimizer"):
            fnn.train.update_in_backward(NET, LOSS, nothing)
