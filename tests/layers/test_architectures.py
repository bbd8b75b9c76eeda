"""Networks, losses and heads as values: built twice they are equal, and so are copies and what is
unpickled.
"""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import initializers
from tests import cases

LOSSES = [
    fnn.softmax_cross_entropy(0.1),
    fnn.huber(2.0, reduction="sum"),
    fnn.LinearCrossEntropy(5, tied=(0, "embedding"), kernel_init=initializers.normal(0.02)),
]
NETS = [case.net for case in cases.CASES if "<lambda>" not in repr(case.net)]
OTHERS = [
    fnn.Dense(3, kernel_init=initializers.orthogonal(2.0), bias_init=initializers.constant(0.5)),
    fnn.Embedding(3, 2, table_init=jax.nn.initializers.ones),
    fnn.mlp([4, 3, 2], fnn.activation(jnp.sin), kernel_init=initializers.xavier_uniform()),
    fnn.mlp([4, 3, 2], fnn.activations.leaky_relu_with(0.2)),
    fnn.memory.stored(fnn.mlp([4, 3, 2]), fnn.memory.Bits(4)),
]


@pytest.mark.parametrize("value", [*NETS, *OTHERS, *LOSSES], ids=lambda value: repr(value)[:60])
def test_a_copy_and_what_is_unpickled_equal_the_original(value):
    for made in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
        assert made == value and hash(made) == hash(value) and repr(made) == repr(value)


def test_what_is_unpickled_computes_the_same():
    net = fnn.mlp([4, 3, 2], fnn.gelu, dropout=0.5)
    x = jnp.ones((2, 4))
    again = pickle.loads(pickle.dumps(net))
    assert again.kept == net.kept and again.needs == net.needs
    ours, theirs = (fnn.init(one, jax.random.key(0), x) for one in (net, again))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


DRAWN = {
    "he_normal": (), "he_uniform": (), "lecun_normal": (), "lecun_uniform": (), "glorot_normal": (),
    "glorot_uniform": (), "normal": (0.3,), "truncated_normal": (0.3,), "uniform": (0.3,), "constant": (2.0,),
    "orthogonal": (0.5,),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_an_initializer_draws_what_jax_does_and_is_a_value(name):
    ours, key = getattr(initializers, name)(*DRAWN[name]), jax.random.key(0)
    jaxs = getattr(jax.nn.initializers, name)(*DRAWN[name])
    np.testing.assert_array_equal(ours(key, (4, 3), jnp.float32), jaxs(key, (4, 3), jnp.float32))
    assert ours == getattr(initializers, name)(*DRAWN[name]) and name in repr(ours)


def test_zeros_and_ones():
    np.testing.assert_array_equal(initializers.zeros()(jax.random.key(0), (2, 3)), jnp.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.ones()(jax.random.key(0), (2, 3)), jnp.ones((2, 3)))


def test_a_static_net_with_an_initializer_is_compiled_once():
    traces = []

    def f(net, x):
        traces.append(net)
        return fnn.apply(net, fnn.init(net, jax.random.key(0), x), x)

    for _ in range(2):
        net = fnn.Serial(fnn.Dense(3, kernel_init=initializers.normal(0.1)), fnn.activation(jnp.sin))
        jax.jit(f, static_argnums=0)(net, jnp.ones((2, 4)))
    assert len(traces) == 1
