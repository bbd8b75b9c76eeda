"""Narrow layers as one: the numbers of a chain, by plain code and by the kernel, which is lowered for a GPU."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import Dense, Fused, Serial
from fnn.layers import blocks, fused
from tests.proof import assert_equal

LOSS = fnn.half_squared_error()
ACTIVATIONS = [fnn.relu, fnn.gelu, fnn.gelu_tanh, fnn.silu, fnn.tanh, fnn.sigmoid]
ROWS = [(3, 5), (1,), (130,), ()]  # of more blocks than one, of one row, of none


def drawn(net, x):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    return jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape) / 2, p.dtype), shapes)


def both(rows, f, run, dtype=jnp.float64, k=7, features=(6, 20, 4)):
    """Give value and gradient of fused layers, and those of the chain."""
    x = jnp.asarray(np.random.default_rng(1).standard_normal((*rows, k)), dtype)
    net, t = Fused(features, f, run), jnp.ones((*rows, features[-1]), dtype)
    params = drawn(net, x)
    layers = [layer for size in features for layer in (Dense(size), f)][:-1]
    own = [layer for each in params for layer in (each, ())][:-1]
    found = jax.jit(fnn.value_and_grad(net, LOSS))(params, x, t)
    value, grads = jax.jit(fnn.value_and_grad(Serial(*layers), LOSS))(tuple(own), x, t)
    return found, (value, grads[::2])


@pytest.mark.parametrize("f", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("run", ["plain", "interpreted"])
def test_they_are_the_chain(f, run):
    assert_equal(*both((3, 5), f, run))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("k, features", [(1, (1,)), (17, (3, 1)), (16, (32, 16))])
def test_any_number_of_rows_and_columns(rows, k, features):
    assert_equal(*both(rows, fnn.tanh, "interpreted", k=k, features=features))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_every_layer_is_rounded_as_in_the_chain(dtype):
    found, wanted = both((9,), fnn.gelu, "interpreted", dtype)
    for got, right in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert got.dtype == right.dtype
        scale = np.abs(np.asarray(right, np.float64)).max()
        np.testing.assert_allclose(got, np.asarray(right, np.float64), atol=8 * jnp.finfo(dtype).eps * scale)


@pytest.mark.skipif(
    jax.__version_info__ >= (0, 12), reason="JAX lowers its kernels where there is a GPU alone"
)
@pytest.mark.parametrize("f", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_kernel_is_lowered_for_a_gpu(f, dtype):
    """Two kernels, one forwards and one backwards; of float64 and of wide layers none."""
    x, t = jnp.ones((256, 64), dtype), jnp.ones((256, 16), dtype)

    def kernels(net, x, t):
        traced = jax.jit(fnn.value_and_grad(net, LOSS)).trace(drawn(net, x), x, t)
        return traced.lower(lowering_platforms=("cuda",)).as_text().count("xla.gpu.triton")

    assert kernels(Fused((64, 64, 16), f), x, t) == 2
    assert kernels(Fused((64, 64, 16), f), x.astype(jnp.float64), t.astype(jnp.float64)) == 0
    assert kernels(Fused((64, 512, 16), f), x, t) == 0


def test_where_jax_has_no_such_kernels_it_is_plain_code(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    net, x = Fused((4, 2), fnn.tanh), jnp.ones((5, 3))
    traced = jax.jit(lambda params: fnn.apply(net, params, x)).trace(drawn(net, x))
    assert "triton" not in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_without_rows_nothing_runs():
    net, x = Fused((4, 2), run="interpreted"), jnp.ones((0, 3))
    assert fnn.apply(net, drawn(net, x), x).shape == (0, 2)


def test_other_derivatives_are_those_of_the_plain_code():
    x = jnp.asarray(np.random.default_rng(1).standard_normal((5, 3)))
    plain, kernel = (Fused((4, 2), fnn.tanh, run) for run in ("plain", "interpreted"))
    params = drawn(plain, x)

    def gradient(net):
        return lambda params: fnn.value_and_grad(net, LOSS)(params, x, jnp.ones((5, 2)))[1]

    found, wanted = (jax.jvp(gradient(net), (params,), (params,)) for net in (kernel, plain))
    assert_equal(found, wanted)
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    found, wanted = (jax.vmap(gradient(net))(many) for net in (kernel, plain))
    assert_equal(found, wanted)


@pytest.mark.parametrize("wrong", ["product", "affine"])
def test_a_kernel_that_multiplies_wrongly_is_noticed(wrong, monkeypatch):
    right = getattr(blocks, wrong)
    spoiled = lambda *args, **more: 1.0009765625 * right(*args, **more)  # noqa: E731
    code = fused.IN_BLOCKS._replace(**{wrong: spoiled})
    monkeypatch.setattr(fused, "IN_BLOCKS", code)
    with pytest.raises(AssertionError):
        assert_equal(*both((3,), fnn.tanh, "interpreted", features=(5, 2)))
