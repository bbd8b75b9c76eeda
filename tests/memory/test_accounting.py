"""The bytes of a training step: those of the real residuals, and the compiler's own."""

import importlib.util

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn
from tests.cases import example
from tests.every import every_case

NET = fnn.mlp([8, 16, 16, 4], fnn.gelu)
X = jax.ShapeDtypeStruct((32, 8), jnp.float32)


@every_case
def test_residuals_are_those_of_a_forward_by_shapes_alone(case):
    drawn = example(case, jnp.float32)
    for key in (None, drawn.key):
        found = fnn.memory.report(case.net, drawn.params, drawn.x, key=key)
        _, residuals = jax.eval_shape(lambda d, key=key: fnn.forward(d.net, d.params, d.x, key), drawn)
        assert found.residuals == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))
        forward = [moment.residuals for moment in found.timeline if moment.turn == "forward"]
        assert not forward or forward[-1] == found.residuals
        assert found.peak >= found.residuals * bool(forward)


def test_params_gradients_and_the_optimizers_state():
    found = fnn.memory.report(NET, None, X, optax.adam(1e-3))
    params = 4 * (8 * 16 + 16 + 16 * 16 + 16 + 16 * 4 + 4)
    assert (found.params, found.gradients, found.optimizer) == (params, params, 2 * params + 4)
    text = str(found)
    for name in ("params", "gradients", "optimizer", "residuals", "transients", "Dense(16, inputs=8)"):
        assert name in text


def test_the_timeline_rises_with_the_forward_and_falls_with_the_backward():
    found = fnn.memory.report(fnn.Repeat(fnn.Serial(fnn.Dense(8), fnn.gelu), 5), None, X)
    alive = [moment.residuals for moment in found.timeline]
    top = alive.index(max(alive))
    assert alive[: top + 1] == sorted(alive[: top + 1])
    assert alive[top:] == sorted(alive[top:], reverse=True)
    assert len(alive) == 2 * 2 * 5
    remade = fnn.memory.report(fnn.Repeat(fnn.Serial(fnn.Dense(8), fnn.gelu), 6, every=3), None, X)
    assert {moment.turn for moment in remade.timeline} == {"forward", "again", "backward"}


def test_the_compilers_own_count_here():
    with jax.numpy_dtype_promotion("standard"):  # optax asks for promotions
        found = fnn.memory.report(NET, None, X, optax.adam(1e-3), target="here").compiled
    assert found is not None
    state = 3 * 4 * (8 * 16 + 16 + 16 * 16 + 16 + 16 * 4 + 4) + 4
    assert found.outputs >= state and found.aliased == state  # one copy of params and state
    assert found.total == found.arguments + found.outputs - found.aliased + found.temporaries


def test_a_function_is_counted_by_the_params_that_it_has():
    def f(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    net, params = fnn.function.Function(f), {"a": jnp.ones((8, 5), X.dtype), "b": jnp.ones((5, 2), X.dtype)}
    found = fnn.memory.report(net, params, X)
    assert found.params == sum(leaf.nbytes for leaf in params.values())
    assert found.residuals >= 4 * (X.size + 5 * X.shape[0])  # x, and what tanh makes
    assert fnn.summary(net, X, params=params).rows
    with pytest.raises(fnn.InputError, match="params that are made elsewhere"):
        fnn.memory.report(net, None, X)


def test_bad_input():
    with pytest.raises(fnn.InputError, match="params like"):
        fnn.memory.report(NET, fnn.init(fnn.mlp([8, 4]), jax.random.key(0), X), X)
    if importlib.util.find_spec("libtpu") is None:
        with pytest.raises(fnn.InputError, match=r"compiler for 'v5e:2x2'.*fnn\[targets\]"):
            fnn.memory.report(NET, None, X, target="v5e:2x2")
    if importlib.util.find_spec("jax_plugins") is None:
        with pytest.raises(fnn.InputError, match=r"compiler for 'h100'.*fnn\[targets\]"):
            fnn.memory.report(NET, None, X, target="h100")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs fnn[targets]")
def test_an_accelerator_that_is_not_there():
    counted = [fnn.memory.report(NET, None, X, target=target).compiled for target in ("h100", "v5e:2x2")]
    assert all(c is not None and c.arguments > 0 and c.outputs > 0 for c in counted)
    with pytest.raises(fnn.InputError, match="TPU topology"):
        fnn.memory.report(NET, None, X, target="v99")
