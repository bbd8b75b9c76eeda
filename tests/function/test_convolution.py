"""Convolutions: by patches or by the examples' gradients, whichever is cheaper, the same is read."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from fnn.factors import is_factor
from fnn.function import factors
from fnn.function.convolved import Convolved
from fnn.readers import gram, squared_norm, variance
from tests.function.functions import draw
from tests.function.test_uses import close, one_by_one

# space, window, channels in and out, groups, stride, padding, dilations of x and of the window
SHAPES = {
    "few positions": ((4,), (3,), 6, 8, 1, 1, "VALID", 1, 1),
    "many positions": ((9, 7), (2, 3), 2, 3, 1, 2, "SAME", 1, 1),
    "groups, few positions": ((3, 3), (2, 2), 8, 12, 2, 1, "VALID", 1, 1),
    "depthwise": ((8,), (3,), 4, 4, 4, 1, "SAME", 1, 2),
    "transposed": ((3,), (3,), 5, 6, 1, 1, ((2, 1),), 2, 1),
    "three axes": ((3, 2, 4), (2, 1, 3), 3, 4, 1, 1, "SAME", 1, 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_readings_of_a_kernel(name):
    space, window, i, o, groups, stride, padding, inner, outer = SHAPES[name]
    axes = len(space)
    kernel, x = draw(0, o, i // groups, *window), draw(1, 3, i, *space)

    def f(w, x):
        y = lax.conv_general_dilated(
            x,
            w,
            (stride,) * axes,
            padding,
            lhs_dilation=(inner,) * axes,
            rhs_dilation=(outer,) * axes,
            feature_group_count=groups,
        )
        return jnp.tanh(y).reshape(y.shape[0], -1).sum(1)

    @jax.jit
    def readings(w, x):
        _, found = factors(f)(w, x)
        return found, squared_norm(found, w), gram(found, w), variance(found, w)

    found, norms, pairs, spread = readings(kernel, x)
    assert is_factor(found) and isinstance(found, Convolved)
    g = jax.jit(one_by_one, static_argnums=0)(f, kernel, (x,))
    flat = g.reshape(3, -1)
    close((norms, pairs), (jnp.square(flat).sum(1), flat @ flat.T))
    close(spread, jnp.var(g, 0))
