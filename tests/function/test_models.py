"""Models of Flax, Equinox and Haiku under fnn's readers, against a gradient for each example.

They run where these libraries are: `pip install fnn[models]`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.factors import is_factor
from fnn.function import Function, factors
from fnn.privacy import clipped_gradient
from fnn.readers import squared_norm, sum_over_params
from tests.function.cases import draw
from tests.function.test_uses import close, each_of, one_by_one

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend


@pytest.fixture(autouse=True)
def _promotions():
    """Allow the promotions that these libraries rely on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def compare(apply: Any, params: Any, x: Any, forms: set[str]) -> None:
    """Hold gradients, norms and the clipped sum of a model against those of single examples."""
    target = jnp.cos(jnp.arange(float(x.shape[0])))
    y = jax.eval_shape(apply, params, x)
    target = jnp.broadcast_to(target.reshape(-1, *(1,) * (y.ndim - 1)), y.shape)

    def f(params: Any, x: Any, target: Any) -> Any:
        y = apply(params, x)
        return 0.5 * jnp.square(y - target).reshape(y.shape[0], -1).sum(1)

    @jax.jit
    def ours(params: Any) -> Any:
        _, found = factors(f)(params, x, target)
        each = jax.tree.map(each_of, found, params, is_leaf=is_factor)
        norms = jax.tree.map(squared_norm, found, params, is_leaf=is_factor)
        clipped = clipped_gradient(Function(apply), fnn.half_squared_error(), 0.1)(params, x, target)
        return found, each, sum_over_params(norms), clipped.gradient

    found, each, norms, clipped = ours(params)
    expected = jax.jit(one_by_one, static_argnums=0)(f, params, (x, target))
    names = {type(own).__name__ for own in jax.tree.leaves(found, is_leaf=is_factor)}
    assert names <= forms, names
    close(each, expected)
    flat = jnp.concatenate([g.reshape(x.shape[0], -1) for g in jax.tree.leaves(expected)], 1)
    close(norms, jnp.square(flat).sum(1))
    scale = jnp.minimum(1, 0.1 / jnp.linalg.norm(flat, axis=1))
    close(clipped, jax.tree.map(lambda g: jnp.tensordot(scale, g, 1), expected))


def flax_model(name: str) -> tuple[Any, Any]:
    nn = pytest.importorskip("flax.linen")
    double = {"dtype": jnp.float64, "param_dtype": jnp.float64}

    class Perceptron(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(2, **double)(nn.relu(nn.Dense(4, **double)(x)))

    class Images(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.Conv(4, (3, 3), strides=2, **double)(x)
            x = nn.relu(nn.GroupNorm(2, **double)(x))
            y = nn.Conv(4, (3, 3), feature_group_count=2, **double)(x)
            x = nn.avg_pool(x + y, (2, 2))
            return nn.Dense(3, **double)(x.reshape(x.shape[0], -1))

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = x + self.param("positions", nn.initializers.normal(), (3, 4), jnp.float64)[None]
            y = nn.LayerNorm(**double)(x)
            x = x + nn.MultiHeadDotProductAttention(2, **double)(y, y)
            y = nn.gelu(nn.Dense(5, **double)(nn.LayerNorm(**double)(x)))
            return x + nn.Dense(4, **double)(y)

    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.RNN(nn.GRUCell(4, **double))(x)

    class Tied(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            table = nn.Embed(6, 4, **double)
            return table.attend(jnp.tanh(table(jnp.abs(x[..., 0] * 2).astype(int) % 6)))

    model = {"mlp": Perceptron, "cnn": Images, "attention": Block, "gru": Recurrent, "tied": Tied}[name]()
    x = draw(0, 3, 8, 8, 2) if name == "cnn" else draw(0, 3, 3, 4)
    params = model.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), params)
    return model.apply, (params, x)


KNOWN = {"Outer", "Total", "Scaled", "Rows", "Viewed", "Convolved"}


@pytest.mark.parametrize("name", ["mlp", "cnn", "attention", "gru", "tied"])
def test_flax(name):
    apply, (params, x) = flax_model(name)
    compare(apply, params, x, KNOWN)


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs: Any):
            double = {"dtype": jnp.float64, "param_dtype": jnp.float64, "rngs": rngs}
            self.inner, self.outer = nnx.Linear(4, 5, **double), nnx.Linear(5, 2, **double)
            self.norm = nnx.LayerNorm(5, **double)

        def __call__(self, x: Any) -> Any:
            return self.outer(jnp.tanh(self.norm(self.inner(x))))

    structure, state = nnx.split(Model(nnx.Rngs(0)))
    params = nnx.to_pure_dict(state)

    def apply(params: Any, x: Any) -> Any:
        own = jax.tree.map(lambda v: v, state)
        nnx.replace_by_pure_dict(own, params)
        return nnx.merge(structure, own)(x)

    compare(apply, params, draw(0, 3, 4), KNOWN)


@pytest.mark.parametrize("name", ["mlp", "conv", "gru", "attention"])
def test_equinox(name):
    eqx = pytest.importorskip("equinox")
    key = jax.random.key(0)
    if name == "mlp":
        model, x = eqx.nn.MLP(4, 2, 5, 2, key=key, dtype=jnp.float64), draw(0, 3, 4)
    elif name == "conv":
        model, x = (
            eqx.nn.Conv2d(2, 4, 3, padding=1, groups=2, key=key, dtype=jnp.float64),
            draw(0, 3, 2, 5, 5),
        )
    elif name == "gru":
        cell = eqx.nn.GRUCell(4, 5, key=key, dtype=jnp.float64)

        class Recurrent(eqx.Module):
            cell: Any

            def __call__(self, x: Any) -> Any:
                return jax.lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(5), x)[0]

        model, x = Recurrent(cell), draw(0, 3, 3, 4)
    else:
        attention = eqx.nn.MultiheadAttention(2, 4, key=key, dtype=jnp.float64)

        class Self(eqx.Module):
            attention: Any

            def __call__(self, x: Any) -> Any:
                return self.attention(x, x, x)

        model, x = Self(attention), draw(0, 3, 3, 4)
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def apply(params: Any, x: Any) -> Any:
        return jax.vmap(eqx.combine(params, static))(x)

    compare(apply, params, x, KNOWN)


def test_haiku():
    hk = pytest.importorskip("haiku")

    def forward(x: Any) -> Any:
        x = hk.Conv2D(3, 3)(x)
        x = hk.LayerNorm(-1, True, True)(jnp.tanh(x))
        return hk.Linear(2)(x.reshape(x.shape[0], -1))

    model = hk.without_apply_rng(hk.transform(forward))
    x = draw(0, 3, 5, 5, 2)
    compare(model.apply, model.init(jax.random.key(0), x), x, KNOWN)
