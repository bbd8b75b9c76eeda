"""KFAC under optax: its first step by hand, its averages, and that it gets somewhere."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.proof import assert_equal

LOSS = fnn.softmax_cross_entropy()


def setting(bias="joint", net=None):
    net = net or fnn.Serial(fnn.Dense(6), fnn.tanh, fnn.Dense(3))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((32, 5)))
    label = jnp.asarray(np.random.default_rng(1).integers(0, 3, 32))
    params = fnn.init(net, jax.random.key(0), x)
    return net, params, x, label, fnn.curvature.kronecker_factors(net, LOSS, bias=bias)


@pytest.mark.thorough
@pytest.mark.parametrize("bias", ["separate", "joint"])
def test_the_first_step_is_the_damped_inverse_of_the_blocks(bias):
    net, params, x, label, curved = setting(bias)
    _, gradient, factors = curved(params, x, label)
    optimizer = fnn.curvature.kfac(net, x, 0.5, damping=0.1, norm_constraint=None, bias=bias)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params, factors=factors)
    wanted = fnn.curvature.kronecker_solve(fnn.curvature.eigen(factors), gradient, 0.1)
    assert_equal(updates, jax.tree.map(lambda step: -0.5 * step, wanted), 1e-9)
    w, block = np.asarray(gradient[0]["kernel"]), factors[0]["kernel"]
    if bias == "joint":
        w = np.concatenate([w, np.asarray(gradient[0]["bias"])[None]])
    dense = np.kron(block.inputs, block.outputs) + 0.1 * np.eye(w.size)
    step = np.linalg.solve(dense, w.ravel()).reshape(w.shape)
    assert_equal(jax.tree.leaves(updates)[1], -0.5 * step[:5], 1e-8)


def test_factors_are_averaged_and_the_basis_is_refreshed_when_it_is_due():
    net, params, x, label, curved = setting()
    optimizer = fnn.curvature.scale_by_kfac(net, x, decay=0.5, every=5)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    seen, mass = 0.0, 0.0
    blocks: Any = None
    for step in range(7):
        batch = slice(4 * step, 4 * step + 4)
        _, gradient, factors = curved(params, x[batch], label[batch])
        _, state = update(gradient, state, params, factors=factors)
        seen = 0.5 * seen + 0.5 * np.asarray(factors[0]["kernel"].outputs)
        mass = 0.5 * mass + 0.5
        if step in (0, 1, 2, 5):
            blocks = fnn.curvature.eigen(jax.tree.map(lambda leaf: leaf / mass, state.factors))  # noqa: B023
        np.testing.assert_allclose(state.factors[0]["kernel"].outputs, seen, rtol=1e-6)
        np.testing.assert_allclose(
            state.blocks[0]["kernel"].values, blocks[0]["kernel"].values, rtol=1e-5, atol=1e-12
        )


def test_the_norm_constraint_bounds_the_predicted_change():
    net, params, x, label, curved = setting()
    _, gradient, factors = curved(params, x, label)
    optimizer = fnn.curvature.scale_by_kfac(net, x, damping=1e-4, norm_constraint=1e-3, learning_rate=0.5)
    step, _ = optimizer.update(gradient, optimizer.init(params), params, factors=factors)
    size = sum(float(jnp.vdot(a, b)) for a, b in zip(*map(jax.tree.leaves, (step, gradient)), strict=True))
    free = fnn.curvature.kronecker_solve(fnn.curvature.eigen(factors), gradient, 1e-4)
    whole = sum(float(jnp.vdot(a, b)) for a, b in zip(*map(jax.tree.leaves, (free, gradient)), strict=True))
    scale = size / whole
    assert scale < 1 and abs(0.25 * scale**2 * whole - 1e-3) < 1e-8


@pytest.mark.parametrize(
    "net",
    [
        fnn.mlp([5, 8, 8, 8, 8, 8, 3], fnn.tanh, scan=True),
        fnn.Serial(fnn.Dense(8), fnn.LayerNorm(), fnn.gelu, fnn.Skip(fnn.gated(8)), fnn.Dense(3)),
    ],
    ids=["scanned", "norm-gated-skip"],
)
def test_it_descends(net):
    """Under jit and a schedule, with stacked params: 30 held-back steps bring the loss well down."""
    net, params, x, label, curved = setting(net=net)
    target = jnp.sin(3 * x[:, 0]) > 0
    label = target.astype(jnp.int32) + (x[:, 1] > 0).astype(jnp.int32)
    optimizer = fnn.curvature.kfac(
        net,
        x,
        lambda count: 0.3 / (1 + 0.02 * count.astype(float)),
        damping=1e-2,
        every=3,
        momentum=0.0,
        norm_constraint=1e-2,
    )

    @jax.jit
    def step(carry, key):
        params, state = carry
        value, gradient, factors = fnn.curvature.kronecker_factors(net, LOSS, "exact", bias="joint")(
            params, x, label, key
        )
        updates, state = optimizer.update(gradient, state, params, factors=factors)
        return (optax.apply_updates(params, updates), state), value

    start = (params, optimizer.init(params))
    _, values = jax.lax.scan(step, start, jax.random.split(jax.random.key(0), 30))
    assert float(values[-1]) < 0.8 * float(values[0])


def test_bad_input_is_named():
    net, params, x, label, curved = setting("separate")
    _, gradient, factors = curved(params, x, label)
    with pytest.raises(fnn.InputError, match="damping > 0"):
        fnn.curvature.kfac(net, x, 0.1, damping=0.0)
    optimizer = fnn.curvature.kfac(net, x, 0.1)
    with pytest.raises(fnn.InputError, match="factors like those of the net"):
        optimizer.update(gradient, optimizer.init(params), params, factors=factors)
    with pytest.raises(fnn.InputError, match="factors like those of the net"):
        optimizer.update(gradient, optimizer.init(params), params)
