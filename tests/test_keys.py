"""Random keys: what is one, what is not, and training that forgets it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

NET, X = fnn.mlp([4, 3, 2], dropout=0.5), jnp.ones((5, 4))
LABEL, LOSS = jnp.zeros(5, jnp.int32), fnn.softmax_cross_entropy()
PARAMS = fnn.init(NET, jax.random.key(0), X)
DOORS = {
    "init": lambda key: fnn.init(NET, key, X),
    "forward": lambda key: fnn.forward(NET, PARAMS, X, key),
    "apply": lambda key: fnn.apply(NET, PARAMS, X, key),
    "value_and_grad": lambda key: fnn.value_and_grad(NET, LOSS)(PARAMS, X, LABEL, key),
    "norms": lambda key: fnn.readers.losses_and_readings(NET, LOSS, fnn.readers.squared_norm)(
        PARAMS, X, LABEL, key
    ),
    "clipped": lambda key: fnn.privacy.clipped_gradient(NET, LOSS, 1.0, microbatch=1)(PARAMS, X, LABEL, key),
    "kronecker": lambda key: fnn.curvature.kronecker_factors(NET, LOSS)(PARAMS, X, LABEL, key),
    "ggn": lambda key: fnn.curvature.ggn_diagonal(NET, LOSS)(PARAMS, X, LABEL, key),
    "fisher": lambda key: fnn.curvature.fisher_product(NET, LOSS)(PARAMS, X, LABEL, PARAMS, key),
    "dropout": lambda key: fnn.forward(fnn.Dropout(0.5), (), X, key),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "key", [0, jax.random.split(jax.random.key(0), 3), np.zeros(4, np.uint32), np.zeros(2, np.int32)], ids=str
)
def test_what_is_no_key_gets_a_sentence(door, key):
    with pytest.raises(fnn.InputError, match=r"expected one random key, got .*: try `.*jax.random.key\(0\)"):
        jax.eval_shape(lambda: DOORS[door](key))


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_raw_key_of_the_configured_kind_is_one(kind):
    with jax.default_prng_impl(kind):
        raw, typed = jax.random.PRNGKey(0), jax.random.key(0)
        x = jnp.ones((100,))
        ours, theirs = (fnn.forward(fnn.Dropout(0.5), (), x, key)[0] for key in (raw, typed))
        np.testing.assert_array_equal(ours, theirs)
        fnn.init(fnn.Dense(3), raw, X)


def test_training_without_the_key_warns_and_evaluation_does_not():
    step = fnn.value_and_grad(NET, LOSS)
    update = fnn.train.update_in_backward(NET, LOSS, optax.sgd(0.1))
    state = jax.eval_shape(lambda: update.init(PARAMS, X))
    for run in (
        lambda: step(PARAMS, X, LABEL),
        lambda: update.step(PARAMS, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), state), X, LABEL),
    ):
        with pytest.warns(
            UserWarning, match=r"draws noise.*pass `key`, or make the function by `fnn\..*noise=False"
        ):
            jax.eval_shape(run)
    key = jax.random.key(0)
    for quiet in (
        lambda: step(PARAMS, X, LABEL, key),
        lambda: fnn.value_and_grad(NET, LOSS, noise=False)(PARAMS, X, LABEL),
        lambda: fnn.value_and_grad(fnn.mlp([4, 3, 2]), LOSS)(PARAMS, X, LABEL),
        lambda: fnn.value_and_grad(fnn.Dropout(0.0), LOSS)((), X, LABEL),
        lambda: fnn.apply(NET, PARAMS, X),
        lambda: fnn.readers.losses_and_readings(NET, LOSS, fnn.readers.squared_norm)(PARAMS, X, LABEL),
        lambda: fnn.attribution.influence(NET, LOSS, lambda v: v)(PARAMS, X, LABEL, X, LABEL),
    ):
        jax.eval_shape(quiet)
