"""What the errors of layers suggest is run, and works."""

import jax
import jax.numpy as jnp
import pytest

import fnn

KEY, X = jax.random.key(0), jnp.ones((4, 6))
nan, inf = float("nan"), float("inf")
SOFTMAX = fnn.activations.Softmax(axis=2)


def dense_of_five():
    params = fnn.init(fnn.Dense(3), KEY, jnp.ones((4, 5)))
    fnn.forward(fnn.Dense(3), params, X)


# What is wrong, a piece of the suggestion, and the call that follows from it.
WRONG = {
    "features do not divide": (dense_of_five, "fnn.init(net, key, x)", lambda: fnn.init(fnn.Dense(3), KEY, X)),
    "features divide": (
        lambda: fnn.forward(fnn.Dense(3), fnn.init(fnn.Dense(3), KEY, jnp.ones((4, 3))), X),
        "x.reshape(-1, 3)",
        lambda: fnn.forward(fnn.Dense(3), fnn.init(fnn.Dense(3), KEY, jnp.ones((4, 3))), X.reshape(-1, 3)),
    ),
    "another size said": (
        lambda: fnn.init(fnn.Dense(3, inputs=7), KEY, X),
        "Dense(3)",
        lambda: fnn.init(fnn.Dense(3), KEY, X),
    ),
    "no axis": (lambda: fnn.init(fnn.Dense(3), KEY, X[0, 0]), "x.reshape(1)", lambda: fnn.init(fnn.Dense(3), KEY, X[0, 0].reshape(1))),
    "no features": (lambda: fnn.init(fnn.Dense(3), KEY, X[:, :0]), "jnp.zeros((n, 1))", lambda: fnn.init(fnn.Dense(3), KEY, jnp.zeros((2, 1)))),
    "no features to norm": (lambda: fnn.init(fnn.LayerNorm(), KEY, X[:, :0]), "jnp.zeros((n, 1))", lambda: fnn.init(fnn.LayerNorm(), KEY, jnp.zeros((2, 1)))),
    "a name of an activation": (
        lambda: fnn.mlp([4, 3, 2], "relu"),  # pyright: ignore[reportArgumentType]
        "fnn.mlp([4, 3, 2], fnn.relu)",
        lambda: fnn.mlp([4, 3, 2], fnn.relu),
    ),
    "elu nan": (lambda: fnn.activations.elu_with(nan), "fnn.activations.elu_with(alpha=1.0)", lambda: fnn.activations.elu_with(alpha=1.0)),
    "elu inf": (lambda: fnn.activations.elu_with(inf), "fnn.activations.elu_with(alpha=1.0)", lambda: None),
    "celu nan": (lambda: fnn.activations.celu_with(nan), "fnn.activations.celu_with(alpha=1.0)", lambda: fnn.activations.celu_with(alpha=1.0)),
    "leaky nan": (lambda: fnn.activations.leaky_relu_with(nan), "fnn.activations.leaky_relu_with(slope=0.01)", lambda: fnn.activations.leaky_relu_with(slope=0.01)),
    "rate": (lambda: fnn.Dropout(1.0), "fnn.Dropout(0.1)", lambda: fnn.Dropout(0.1)),
    "index": (
        lambda: fnn.forward(fnn.Embedding(3, 2), {"embedding": jnp.ones((3, 2))}, jnp.array([-1, 2])),
        "jnp.clip(x, 0, 2)",
        lambda: fnn.forward(fnn.Embedding(3, 2), {"embedding": jnp.ones((3, 2))}, jnp.clip(jnp.array([-1, 2]), 0, 2)),
    ),
    "softmax's axis": (lambda: SOFTMAX(X), "fnn.softmax", lambda: fnn.softmax(X)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_an_error_suggests_works(name):
    wrong, suggestion, right = WRONG[name]
    with pytest.raises(fnn.InputError) as raised:
        wrong()
    assert f"try `{suggestion}`" in str(raised.value).replace("params = ", ""), str(raised.value)
    right()
