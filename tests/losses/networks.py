"""Networks with a head, tied and not, and the plain way to their value."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.losses.heads import LABEL, RNG, K, V, X, plain

NET = fnn.mlp([K, 6, 4], fnn.gelu)
TOKENS = fnn.Serial(fnn.Embedding(V, 4), fnn.LayerNorm(), fnn.Dense(4), fnn.tanh)
INDEX = jnp.asarray(RNG.integers(0, V, (5, 3)))
NEXT = jnp.asarray(RNG.integers(0, V, (5, 3))).at[1, 2].set(-1)
TIED = fnn.LinearCrossEntropy(V, tied=(0, "embedding"), ignore=-1, chunk=6)
ONE = dataclasses.replace(TIED, bias=False, chunk=2, label_smoothing=0.1)
SETTINGS = {
    "rows": (NET, fnn.LinearCrossEntropy(V, ignore=-100, chunk=4), X, LABEL),
    "tokens": (TOKENS, fnn.LinearCrossEntropy(V, ignore=-1, z_loss=0.1, chunk=6), INDEX, NEXT),
    "tied": (TOKENS, TIED, INDEX, NEXT),
    "tied-one-token": (TOKENS, ONE, INDEX[:, 0], NEXT[:, 2]),
}
every_setting = pytest.mark.parametrize(
    "name", [name if name == "tied" else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS]
)


def setting(name):
    """Give a setting with params, and its value as a user writes it: `plain_of(params, x, target)`."""
    net, head, x, target = SETTINGS[name]
    body = fnn.init(net, jax.random.key(0), x)
    own = head.init(jax.random.key(1), jax.eval_shape(lambda: fnn.apply(net, body, x)))
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), (body, own))

    def plain_of(params, x, target, head=head):
        own = params[1] | ({"embedding": params[0][0]["embedding"]} if head.tied else {})
        return plain(head, own, fnn.forward(net, params[0], x)[0], target)

    return net, head, params, x, target, plain_of
