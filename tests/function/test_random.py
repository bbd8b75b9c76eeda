"""Functions drawn at random: products, views, sums, loops; against a gradient for each example."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fnn.readers import squared_norm
from tests.function.functions import draw
from tests.function.test_uses import close, factors, one_by_one, readings

pytestmark = pytest.mark.filterwarnings("ignore:.*no derivative goes to")

K = 4  # every step takes (n, t, K) to (n, t, K), with a param of (K, K) and one of (K,)
STEPS = {
    "product": lambda x, w, b: x @ w,
    "transposed": lambda x, w, b: jnp.einsum("ij,ntj->nti", w, x),
    "heads": lambda x, w, b: jnp.einsum("ntk,khd->nthd", x, w.reshape(K, 2, 2)).reshape(x.shape),
    "by tokens": lambda x, w, b: jnp.einsum(
        "ntk,tkj->ntj", x, w.reshape(2, 2, K)[:, :1] * jnp.ones((1, K, 1))
    ),
    "bias": lambda x, w, b: x + b[None, None],
    "scale": lambda x, w, b: x * b[None, None],
    "quotient": lambda x, w, b: x / (2 + jnp.square(b))[None, None],
    "of the weights": lambda x, w, b: x @ jnp.exp(0.1 * w),
    "half": lambda x, w, b: jnp.concatenate([x[..., :2] @ w[:2, :2], x[..., 2:] + w[0, 2:][None, None]], -1),
    "shared scan": lambda x, w, b: lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, 2)[0],
    "stacked scan": lambda x, w, b: lax.scan(lambda c, r: (c * r[None, None], None), x, w)[0],
    "merged": lambda x, w, b: (x.reshape(-1, K) @ w).reshape(x.shape),
    "merged behind": lambda x, w, b: (x.swapaxes(0, 1).reshape(-1, K) @ w).reshape(2, -1, K).swapaxes(0, 1),
    "mapped": lambda x, w, b: lax.map(lambda x: jnp.cos(x) @ w + b[None], x),
    "lookup": lambda x, w, b: x + w[jnp.argmax(x, -1)],
    "reversed": lambda x, w, b: x @ w[::-1],
    "convolution": lambda x, w, b: lax.conv_general_dilated(
        x,
        w.reshape(2, 2, K),
        (1,),
        "SAME",
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=2,
    ),
    "branches": lambda x, w, b: lax.cond(b[0] > 0, lambda x: x @ w, lambda x: x * b[None, None], x),
    "squared": lambda x, w, b: jnp.einsum("ntk,kj,jl->ntl", x, w, w),
    "diagonal": lambda x, w, b: x * jnp.diagonal(w)[None, None],
    "rolled": lambda x, w, b: x @ jnp.roll(w, 1, axis=0) + jnp.roll(b, 1)[None, None],
    "stopped": lambda x, w, b: x @ lax.stop_gradient(w) + x * b[None, None],
    "checkpointed": lambda x, w, b: jax.checkpoint(lambda x, w: jnp.sin(x @ w))(x, w),
}


def function(names):
    def f(params, x):
        for name, own in names:
            x = jnp.tanh(STEPS[name](x, params["w"][own], params["b"][own]))
        return x.sum((1, 2))

    return f


DRAWN = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from([0, 1])), min_size=2, max_size=5)


@pytest.mark.thorough
@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(DRAWN)
def test_random_functions(names):
    check(names)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, database=None)
@given(DRAWN)
def test_many_random_functions(names):
    check(names)


def check(names):
    f, x = function(names), draw(9, 3, 2, K)
    params = {
        "w": tuple(0.5 * draw(k, K, K) for k in range(2)),
        "b": tuple(draw(k + 2, K) for k in range(2)),
    }
    _, _, each, total = readings(f, params, x)
    norms = jax.jit(lambda p: factors(f)(p, x, read=squared_norm)[1])(params)
    expected = jax.jit(one_by_one, static_argnums=0)(f, params, (x,))
    close(each, expected)
    close(total, jax.tree.map(lambda g: g.sum(0), expected))
    close(norms, jax.tree.map(lambda g: jnp.square(g).reshape(3, -1).sum(1), expected))
