"""Second derivatives of a network that stores: they pass through what is stored, or are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.memory import Bits, Rounded, stored

NET, LOSS = fnn.mlp([1, 16, 1], fnn.tanh), fnn.half_squared_error()
X, T = jnp.linspace(-1.0, 1.0, 5)[:, None], jnp.ones((5, 1))
PARAMS = fnn.init(NET, jax.random.key(0), X)


def second_by_input(net, params, x):
    first = jax.grad(lambda x: fnn.apply(net, params, x).sum())
    return jax.grad(lambda x: first(x).sum())(x)


def hessian(net, params, x):
    return fnn.curvature.hessian_product(net, LOSS)(params, x, T, params)


@pytest.mark.parametrize("second", [second_by_input, hessian])
@pytest.mark.parametrize("codec", [Bits(8), Bits(4)], ids=repr)
def test_bits_are_refused(codec, second):
    net = stored(NET, codec)
    for run in (second, jax.jit(second, static_argnums=0)):
        with pytest.raises(
            fnn.InputError, match="first derivatives alone of a network that is stored in bits"
        ):
            jax.eval_shape(lambda run=run: run(net, PARAMS, X))
    deep = fnn.Serial(fnn.Repeat(stored(fnn.Serial(fnn.Dense(1), fnn.tanh), codec), 3))
    with pytest.raises(fnn.InputError, match="first derivatives alone"):
        jax.eval_shape(lambda: second(deep, fnn.init(deep, jax.random.key(0), X), X))


@pytest.mark.parametrize("second", [second_by_input, hessian])
def test_what_is_rounded_passes_them_on(second):
    got, wanted = (jax.jit(second, static_argnums=0)(net, PARAMS, X) for net in (stored(NET, Rounded()), NET))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=2**-6 * float(jnp.abs(b).max()))  # a few roundings to 2^-9


def test_a_relu_in_bits_and_products_of_the_gauss_newton_matrix_are_right():
    net = fnn.mlp([1, 16, 1])
    kept = stored(net, Bits(8), lambda layer: isinstance(layer, fnn.activations.Activation))
    run = jax.jit(hessian, static_argnums=0)
    jax.tree.map(np.testing.assert_allclose, run(kept, PARAMS, X), run(net, PARAMS, X))
    assert jax.eval_shape(lambda: fnn.curvature.ggn_product(stored(NET, Bits(8)), LOSS)(PARAMS, X, T, PARAMS))
