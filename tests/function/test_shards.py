"""Functions with a `shard_map` inside: exact readings, and examples that meet across shards."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import fnn
from fnn.function import describe, factors
from fnn.readers import squared_norm
from tests.function.functions import X, draw
from tests.function.test_uses import close

MESH = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))


def mapped(f: Any, *specs: Any, out: str | None = "d") -> Any:
    return jax.shard_map(f, mesh=MESH, in_specs=specs, out_specs=P(out))


def over_examples(w: Any, x: Any) -> Any:
    return mapped(lambda w, x: jnp.tanh(x @ w).sum(1), P(), P("d"))(w, x)


def over_outputs(w: Any, x: Any) -> Any:
    return mapped(lambda w, x: lax.psum(jnp.tanh(x @ w).sum(1), "d"), P(None, "d"), P(), out=None)(w, x)


def behind_a_product(w: Any, x: Any) -> Any:
    return mapped(lambda y: jnp.sin(y).sum(1), P("d"))(jnp.tanh(x @ w))


def features_behind_a_product(w: Any, x: Any) -> Any:
    return mapped(lambda y: lax.psum(jnp.sin(y).sum(1), "d"), P(None, "d"), out=None)(jnp.tanh(x @ w))


def centred(w: Any, x: Any) -> Any:
    def shard(w: Any, x: Any) -> Any:
        y = x @ w
        return jnp.square(y - lax.pmean(y.mean(0, keepdims=True), "d")).sum(1)

    return mapped(shard, P(), P("d"))(w, x)


def across_shards(w: Any, x: Any) -> Any:
    return mapped(lambda y: jnp.square(y + lax.psum(y, "d")).sum(1), P("d"))(x @ w)


def gathered(w: Any, x: Any) -> Any:
    def shard(y: Any) -> Any:
        return jnp.square(y[:, None] - lax.all_gather(y, "d", tiled=True)[None]).sum((1, 2))

    return mapped(shard, P("d"))(x @ w)


@pytest.mark.parametrize("f", [over_examples, over_outputs, behind_a_product, features_behind_a_product])
def test_readings_are_exact(f):
    w = draw(0, 5, 4)
    _, norms = jax.jit(lambda w: factors(f)(w, X, read=squared_norm))(w)
    close(norms, jnp.square(jax.jacrev(lambda w: f(w, X))(w)).sum((1, 2)))
    _, gradient = jax.jit(lambda w: factors(f)(w, X, read=fnn.gradient))(w)
    close(gradient, jax.grad(lambda w: f(w, X).sum())(w))


@pytest.mark.parametrize("f", [centred, across_shards, gathered])
def test_examples_that_meet_are_found(f):
    w = draw(0, 5, 4)
    assert "test_shards.py" in str(describe(f, w, X).coupled)
    with pytest.raises(fnn.InputError, match="couples them"):
        factors(f)(w, X, read=squared_norm)
    _, gradient = jax.jit(lambda w: factors(f)(w, X, read=fnn.gradient))(w)
    close(gradient, jax.grad(lambda w: f(w, X).sum())(w))
