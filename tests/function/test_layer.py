"""A function as a layer: in a chain, under every reader, against the same network of fnn's layers."""

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.function import Function
from fnn.readers import losses_and_readings, squared_norm
from tests.function.functions import draw
from tests.function.test_uses import close

LOSS = fnn.softmax_cross_entropy()
X, LABELS = draw(0, 6, 5), jnp.array([0, 1, 2, 0, 1, 2])


def affine(p, x):
    return x @ p["kernel"] + p["bias"][None]


def turned(p, x):
    return jax.vmap(lambda x: p["kernel"].T @ x + p["bias"])(x)


def make(key, x):
    return {"kernel": jax.random.normal(key, (x.shape[-1], 4), x.dtype), "bias": jnp.zeros(4, x.dtype)}


OURS = fnn.Serial(fnn.Dense(4), fnn.tanh, fnn.Dense(3))
THEIRS = fnn.Serial(Function(affine, init=make), Function(lambda p, x: jnp.tanh(x)), fnn.Dense(3))


def theirs(params):
    return ({"kernel": params[0]["kernel"], "bias": params[0]["bias"]}, (), params[2])


@pytest.fixture(scope="module")
def params():
    return fnn.init(OURS, jax.random.key(0), X)


def test_init_makes_the_params_of_a_chain(params):
    own = fnn.init(THEIRS, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, theirs(params))


def test_value_gradient_and_input_gradient(params):
    def both(net, params):
        y, residuals = fnn.forward(net, params, X)
        return y, *fnn.backward(net, params, residuals, jnp.cos(y))

    ours, others = (
        jax.jit(both, static_argnums=0)(OURS, params),
        jax.jit(both, static_argnums=0)(THEIRS, theirs(params)),
    )
    close(ours, others)


READINGS = {
    "norms": lambda net, p: losses_and_readings(net, LOSS, squared_norm)(p, X, LABELS),
    "gram": lambda net, p: losses_and_readings(net, LOSS, fnn.readers.gram)(p, X, LABELS),
    "variance": lambda net, p: losses_and_readings(net, LOSS, fnn.readers.variance)(p, X, LABELS),
    "clipped": lambda net, p: fnn.privacy.clipped_gradient(net, LOSS, 0.5)(p, X, LABELS),
    "kernel": lambda net, p: fnn.readers.tangent_kernel(net)(p, X),
    "kronecker": lambda net, p: fnn.curvature.kronecker_factors(net, LOSS)(p, X, LABELS),
    "ggn": lambda net, p: fnn.curvature.ggn_diagonal(net, LOSS)(p, X, LABELS),
    "hessian": lambda net, p: fnn.curvature.hessian_product(net, LOSS)(
        p, X, LABELS, jax.tree.map(jnp.ones_like, p)
    ),
}


def read(name, net, params):
    return jax.jit(lambda params: READINGS[name](net, params))(params)


@pytest.mark.parametrize("name", READINGS)
def test_every_reader_reads_what_it_reads_of_our_layers(name, params):
    close(read(name, OURS, params), read(name, THEIRS, theirs(params)))


def test_a_transposed_weight(params):
    net = fnn.Serial(Function(turned, init=make), fnn.tanh, fnn.Dense(3))
    own = ({"kernel": params[0]["kernel"], "bias": params[0]["bias"]}, (), params[2])
    for name in ("norms", "clipped", "variance", "ggn"):
        close(read(name, OURS, params), read(name, net, own))


def test_repeated_and_shared():
    def step(p, x):
        return jnp.tanh(x @ p["kernel"] + p["bias"][None])

    layer = Function(step, init=lambda key, x: {"kernel": jnp.eye(5), "bias": jnp.zeros(5)})
    for shared in (False, True):
        ours = fnn.Serial(fnn.Repeat(fnn.Serial(fnn.Dense(5), fnn.tanh), 3, shared=shared), fnn.Dense(3))
        other = fnn.Serial(fnn.Repeat(layer, 3, shared=shared), fnn.Dense(3))
        p = fnn.init(ours, jax.random.key(1), X)
        q = (p[0][0], p[1])
        for name in ("norms", "clipped"):
            close(*(jax.tree.leaves(read(name, *own)) for own in ((ours, p), (other, q))))


def test_one_example_at_a_time_with_a_key():
    def noisy(p, x, key):
        return x * p + (0.0 if key is None else jax.random.normal(key, x.shape))

    layer = Function(noisy, batched=False)
    p = draw(1, 5)
    y = fnn.apply(layer, p, X, jax.random.key(3))
    assert y.shape == X.shape and not jnp.allclose(y - X * p[None], 0)
    assert len({float(v) for v in (y - X * p[None])[:, 0]}) == 6
    close(fnn.apply(layer, p, X), X * p[None])


def test_frozen_params_read_as_zero():
    layer = Function(affine, wrt=lambda path, leaf: path[0].key == "bias")
    p = {"kernel": draw(1, 5, 3), "bias": draw(2, 3)}
    _, norms = losses_and_readings(layer, LOSS, squared_norm)(p, X, LABELS)
    whole = losses_and_readings(Function(affine), LOSS, squared_norm)(p, X, LABELS)[1]
    close(norms, {"kernel": jnp.zeros(6), "bias": whole["bias"]})


def test_integer_inputs_and_trees():
    def both(p, x):
        return p["table"][x["ids"]] * x["scale"][:, None]

    x = {"ids": jnp.array([1, 0, 1]), "scale": jnp.array([1.0, 2.0, 3.0])}
    layer = Function(both)
    p = {"table": draw(1, 2, 3)}
    y, residuals = fnn.forward(layer, p, x)
    grads, dx = fnn.backward(layer, p, residuals, jnp.ones_like(y))
    expected = jax.grad(lambda p, s: both(p, x | {"scale": s}).sum(), (0, 1))(p, x["scale"])
    close((grads, dx["scale"]), expected)
    assert dx["ids"].dtype == jax.dtypes.float0


def test_coupled_examples_are_refused_by_the_line_and_gradients_go_on():
    def normed(p, x):
        x = x @ p["kernel"]
        return (x - x.mean(0, keepdims=True)) * p["bias"][None]

    p = {"kernel": draw(1, 5, 3), "bias": draw(2, 3)}
    layer = Function(normed)
    with pytest.raises(fnn.InputError, match=r"test_layer.py.* \(.*normed\)"):
        losses_and_readings(layer, LOSS, squared_norm)(p, X, LABELS)
    _, grads = fnn.value_and_grad(layer, LOSS)(p, X, LABELS)
    close(grads, jax.grad(lambda p: LOSS(normed(p, X), LABELS))(p))
