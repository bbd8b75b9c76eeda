"""Models of Equinox under fnn's readers, against a gradient for each example."""

# pyright: reportMissingImports=false

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.curvature import eigen, kronecker_factors, kronecker_solve
from fnn.function import Function
from fnn.readers import losses_and_readings, squared_norm
from tests.function.functions import draw
from tests.function.models import compare
from tests.function.test_uses import close

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend


def perceptron() -> Any:
    import equinox as eqx

    return eqx.nn.MLP(4, 2, 5, 2, key=jax.random.key(0), dtype=jnp.float64)


def model(name: str) -> tuple[Any, Any]:
    """Give a model of one example, and a batch."""
    import equinox as eqx

    key = jax.random.key(0)
    if name == "mlp":
        return perceptron(), draw(0, 3, 4)
    if name == "conv":
        conv = eqx.nn.Conv2d(2, 4, 3, padding=1, groups=2, key=key, dtype=jnp.float64)
        return conv, draw(0, 3, 2, 5, 5)
    if name == "gru":

        class Recurrent(eqx.Module):
            cell: Any

            def __call__(self, x: Any) -> Any:
                return jax.lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(5), x)[0]

        return Recurrent(eqx.nn.GRUCell(4, 5, key=key, dtype=jnp.float64)), draw(0, 3, 3, 4)

    class Self(eqx.Module):
        attention: Any

        def __call__(self, x: Any) -> Any:
            return self.attention(x, x, x)

    return Self(eqx.nn.MultiheadAttention(2, 4, key=key, dtype=jnp.float64)), draw(0, 3, 3, 4)


def split(model: Any, which: Any = None) -> tuple[Any, Any]:
    """Give the params of a model, and the function of params and batch."""
    import equinox as eqx

    params, static = eqx.partition(model, which or eqx.is_inexact_array)
    return params, lambda params, x: jax.vmap(eqx.combine(params, static))(x)


@pytest.mark.parametrize("name", ["mlp", "conv", "gru", "attention"])
def test_equinox(name):
    own, x = model(name)
    params, apply = split(own)
    compare(apply, params, x)


def test_filtered_modules():
    """The last layer alone, by Equinox's filter and by `wrt`."""
    import equinox as eqx

    own, x, labels = perceptron(), draw(0, 3, 4), jnp.array([0, 1, 1])
    none = jax.tree.map(lambda _: False, own)
    params, apply = split(
        own, eqx.tree_at(lambda m: m.layers[-1], none, jax.tree.map(lambda _: True, own.layers[-1]))
    )
    params, others = eqx.partition(params, eqx.is_inexact_array)
    compare(lambda p, x: apply(eqx.combine(p, others), x), params, x)
    whole, of_all = split(own)
    last = Function(of_all, wrt=lambda path, leaf: getattr(path[1], "idx", None) == 2)
    with jax.numpy_rank_promotion("allow"):
        read = losses_and_readings(last, fnn.softmax_cross_entropy(), squared_norm)
        norms = read(whole, x, labels)[1]
    assert norms.layers[2].weight.all() and not norms.layers[0].weight.any()


def test_kronecker_factors_of_transposed_weights():
    """An `eqx.nn.Linear` has its weight as (out, in), fnn's Dense as (in, out)."""
    own, x, labels = perceptron(), draw(0, 6, 4), jnp.array([0, 1, 1, 0, 1, 0])
    params, apply = split(own)
    loss = fnn.softmax_cross_entropy()
    theirs = Function(apply)
    ours = fnn.Serial(fnn.Dense(5), fnn.relu, fnn.Dense(5), fnn.relu, fnn.Dense(2))

    def as_ours(tree: Any) -> Any:
        layers = [{"kernel": own.weight.T, "bias": own.bias} for own in tree.layers]
        return layers[0], (), layers[1], (), layers[2]

    def step(net: Any, params: Any) -> Any:
        curved = kronecker_factors(net, loss)(params, x, labels)
        return kronecker_solve(eigen(curved.factors), curved.gradient, 1e-2)

    with jax.numpy_rank_promotion("allow"):
        found = jax.jit(lambda p: step(theirs, p))(params)
    close(as_ours(found), jax.jit(lambda p: step(ours, p))(as_ours(params)))
