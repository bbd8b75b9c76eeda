"""Forward values against formulas written out in NumPy, and what `init` draws."""

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn import (
    Dense,
    Dropout,
    Embedding,
    Gate,
    LayerNorm,
    Parallel,
    Repeat,
    RMSNorm,
    Serial,
    Skip,
)
from tests.cases import Case, example


def assert_close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def run(net, shape=(4, 6), key=None):
    drawn = example(Case("values", net, shape))
    y = fnn.forward(net, drawn.params, drawn.x, key)[0]
    return np.asarray(y), jax.tree.map(np.asarray, drawn.params), np.asarray(drawn.x)


def test_dense():
    y, p, x = run(Dense(3))
    assert_close(y, x @ p["kernel"] + p["bias"])
    y, p, x = run(Dense(3, bias=False), (2, 4, 6))
    assert_close(y, np.einsum("ntk,kj->ntj", x, p["kernel"]))


def test_norms():
    y, p, x = run(LayerNorm(eps=0.1))
    h = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1)
    assert_close(y, h * p["scale"] + p["bias"])
    y, p, x = run(RMSNorm(eps=0.1))
    assert_close(y, x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.1) * p["scale"])


def test_gates():
    y, _, x = run(Gate(fnn.sigmoid))
    assert_close(y, x[:, 3:] / (1 + np.exp(-x[:, :3])))
    y, p, x = run(fnn.gated(2, fnn.tanh))
    z = x @ p[0]["kernel"]
    assert_close(y, np.tanh(z[:, :2]) * z[:, 2:])


def test_compositions():
    y, p, x = run(Skip(Dense(6)))
    assert_close(y, x + x @ p["kernel"] + p["bias"])
    y, p, x = run(Parallel(Dense(2), fnn.Scale(), join="concatenate"))
    np.testing.assert_allclose(
        y, np.concatenate([x @ p[0]["kernel"] + p[0]["bias"], x * p[1]["scale"]], -1), rtol=1e-14
    )
    for shared in (False, True):
        y, p, x = run(Repeat(Serial(Dense(6), fnn.tanh), 3, shared=shared))
        for i in range(3):
            w, b = (p[0]["kernel"], p[0]["bias"]) if shared else (p[0]["kernel"][i], p[0]["bias"][i])
            x = np.tanh(x @ w + b)
        assert_close(y, x)


def test_embedding():
    index = jnp.array([[1, 0], [1, 3]])
    params = fnn.init(Embedding(4, 3), jax.random.key(0), index)
    y, _ = fnn.forward(Embedding(4, 3), params, index)
    np.testing.assert_array_equal(y, np.asarray(params["embedding"])[np.asarray(index)])


def test_dropout_keeps_the_mean_and_the_key_makes_the_mask():
    x = jnp.ones((1000, 100))
    y, residuals = fnn.forward(Dropout(0.3), (), x, jax.random.key(0))
    values, counts = np.unique(y, return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 0.7])
    # 100,000 draws: the share of zeros is within 5 standard deviations but for 6 runs in 10 million
    assert abs(counts[0] / x.size - 0.3) < 5 * np.sqrt(0.21 / x.size)
    assert len(jax.tree.leaves(residuals)) == 1
    _, dx = fnn.backward(Dropout(0.3), (), residuals, x)
    np.testing.assert_array_equal(dx, y)
    assert not np.array_equal(y, fnn.forward(Dropout(0.3), (), x, jax.random.key(1))[0])


def test_each_use_of_a_repeated_dropout_has_its_own_mask():
    y, _ = fnn.forward(Repeat(Dropout(0.5), 2), (), jnp.ones(10_000), jax.random.key(0))
    assert abs(float((y > 0).mean()) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 10_000)


def test_init_draws_what_it_says():
    params = fnn.init(Dense(400), jax.random.key(0), jnp.ones((1, 300), jnp.float32))
    assert params["kernel"].dtype == jnp.float32 and params["kernel"].shape == (300, 400)
    # 120,000 draws of variance 1/300
    assert abs(float(params["kernel"].std()) * np.sqrt(300) - 1) < 0.02
    np.testing.assert_array_equal(params["bias"], 0)
    deep = fnn.init(Repeat(Dense(8), 3), jax.random.key(0), jnp.ones((1, 8), jnp.bfloat16))
    assert deep["kernel"].dtype == jnp.float32
    assert not np.array_equal(deep["kernel"][0], deep["kernel"][1])
    ones = fnn.init(LayerNorm(), jax.random.key(0), jnp.ones((1, 8)))
    np.testing.assert_array_equal(ones["scale"], 1)
    np.testing.assert_array_equal(ones["bias"], 0)


def test_layers_are_values():
    assert Dense(3) == Dense(3) and hash(Dense(3)) == hash(Dense(3)) and Dense(3) != Dense(4)
    nets = [fnn.mlp([5, 4, 3], fnn.gelu) for _ in range(2)]
    traces = []

    def f(net, x):
        traces.append(net)
        return fnn.apply(net, fnn.init(net, jax.random.key(0), x), x)

    for net in nets:
        jax.jit(f, static_argnums=0)(net, jnp.ones((2, 5)))
    assert len(traces) == 1
