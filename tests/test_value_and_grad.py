"""`value_and_grad`, and what `read` is called with: the four functions as their callers use them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from tests.cases import Case, example
from tests.proof import assert_equal

NET = fnn.mlp([5, 6, 6, 6, 6, 6, 3], fnn.gelu, dropout=0.2, scan=True)
LOSS = fnn.softmax_cross_entropy()
STEP = fnn.value_and_grad(NET, LOSS, noise=False)
DRAWN = example(Case("net", NET, (8, 5)))
LABELS = jnp.arange(8) % 3
WEIGHTS = jnp.linspace(0.0, 2.0, 8)


def plain(params, x, labels, key=None, weights=None):
    return jax.value_and_grad(lambda p: LOSS(fnn.forward(NET, p, x, key)[0], labels, weights))(params)


def test_it_is_jax_value_and_grad_of_the_loss():
    for rest in ((), (DRAWN.key,), (None, WEIGHTS), (DRAWN.key, WEIGHTS)):
        args = (DRAWN.params, DRAWN.x, LABELS, *rest)
        assert_equal(jax.jit(STEP)(*args), jax.jit(plain)(*args))
    assert_equal(STEP(DRAWN.params, DRAWN.x, LABELS), jax.jit(plain)(DRAWN.params, DRAWN.x, LABELS))


def test_vmap_and_scan():
    x, labels = DRAWN.x.reshape(4, 2, 5), LABELS.reshape(4, 2)
    looped = [jax.jit(STEP)(DRAWN.params, *batch) for batch in zip(x, labels, strict=True)]
    wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped)
    assert_equal(jax.jit(jax.vmap(STEP, (None, 0, 0)))(DRAWN.params, x, labels), wanted)

    def body(carry, batch):
        return carry, STEP(DRAWN.params, *batch)

    assert_equal(jax.lax.scan(body, 0, (x, labels))[1], wanted)


def test_a_training_loop_in_a_scan_goes_down():
    optimizer = optax.adam(1e-2)

    def step(carry, _):
        params, state = carry
        value, grads = STEP(params, DRAWN.x, LABELS)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), value

    start = (DRAWN.params, optimizer.init(DRAWN.params))
    with jax.numpy_dtype_promotion("standard"):  # optax asks for promotions
        _, values = jax.jit(lambda: jax.lax.scan(step, start, length=200))()
    assert values[-1] < 0.1 * values[0]


def test_read_sees_the_param_and_the_leaves_of_further_trees_inside_the_scan_too():
    """Updates while the backward goes: each leaf as soon as its factor is there."""
    momenta = jax.tree.map(lambda p: (jnp.ones_like(p), 2 * jnp.ones_like(p)), DRAWN.params)

    def update(factor, param, moments, rate):
        grad = fnn.readers.gradient(factor, param)
        assert moments[0].shape == param.shape  # a tree that begins like the params: its leaves may be trees
        return param - rate * (grad + moments[0] * moments[1]), grad

    rates = jax.tree.map(lambda p: jnp.full(p.shape[:1], 0.1), DRAWN.params)

    @jax.jit
    def run():
        y, residuals = fnn.forward(NET, DRAWN.params, DRAWN.x)
        _, dy = LOSS.value_and_grad(y, LABELS)
        read = {"read": lambda f, p, m, r: update(f, p, m, jnp.max(r))}
        return fnn.backward(NET, DRAWN.params, residuals, dy, momenta, rates, **read)[0]

    both = run()
    grads = jax.jit(STEP)(DRAWN.params, DRAWN.x, LABELS)[1]
    leaf = {"is_leaf": lambda v: isinstance(v, tuple) and len(v) == 2 and hasattr(v[0], "shape")}
    assert_equal(jax.tree.map(lambda pair: pair[1], both, **leaf), grads)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * (g + 2), DRAWN.params, grads)
    assert_equal(jax.tree.map(lambda pair: pair[0], both, **leaf), wanted)


def test_feedback_alignment_is_backward_with_other_params():
    net = fnn.mlp([5, 4, 3], fnn.identity)
    drawn, other = example(Case("a", net, (7, 5))), example(Case("b", net, (7, 5)), seed=1)
    _, residuals = fnn.forward(net, drawn.params, drawn.x)
    grads, dx = fnn.backward(net, other.params, residuals, drawn.dy)
    dz = np.asarray(drawn.dy) @ np.asarray(other.params["output"]["kernel"]).T
    np.testing.assert_allclose(grads["first"]["kernel"], np.asarray(drawn.x).T @ dz, rtol=1e-12)
    np.testing.assert_allclose(dx, dz @ np.asarray(other.params["first"]["kernel"]).T, rtol=1e-12)


def test_vmap_over_dy_propagates_many_cotangents_at_once():
    _, residuals = fnn.forward(NET, DRAWN.params, DRAWN.x)
    y, _ = fnn.forward(NET, DRAWN.params, DRAWN.x)
    dys = jnp.stack([y, 2 * y, -y])
    many = jax.vmap(lambda dy: fnn.backward(NET, DRAWN.params, residuals, dy)[0])(dys)
    for i, dy in enumerate(dys):
        one = fnn.backward(NET, DRAWN.params, residuals, dy)[0]
        assert_equal(jax.tree.map(lambda leaf: leaf[i], many), one)  # noqa: B023


def test_shared_params_get_one_factor_so_that_norms_have_their_cross_terms():
    net = fnn.Repeat(fnn.Serial(fnn.Dense(5), fnn.tanh), 3, shared=True)
    drawn = example(Case("shared", net, (7, 5)))
    _, residuals = fnn.forward(net, drawn.params, drawn.x)
    factors, _ = fnn.backward(net, drawn.params, residuals, drawn.dy, read=fnn.readers.as_factors)
    x, dz = factors[0]["kernel"].x, factors[0]["kernel"].dz
    assert x.shape == (7, 3, 5)
    norms = jnp.einsum("nuk,nuj->nkj", x, dz)

    def one(x, dy):
        return fnn.backward(net, drawn.params, fnn.forward(net, drawn.params, x)[1], dy)[0]

    assert_equal(norms, jax.vmap(one)(drawn.x, drawn.dy)[0]["kernel"])
