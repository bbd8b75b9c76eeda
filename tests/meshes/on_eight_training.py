"""Training steps on meshes of eight devices: the state after some of them is that on one."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn import Dense, Repeat, RMSNorm, Serial, Skip
from tests.meshes.layouts import assert_on_mesh

NET = Serial(Dense(16), Repeat(Skip(Serial(RMSNorm(), Dense(32), fnn.gelu, Dense(16))), 2), Dense(8))
RANDOM = np.random.default_rng(0)
X, LABEL = RANDOM.standard_normal((32, 8)), RANDOM.integers(0, 8, 32)
CE = fnn.softmax_cross_entropy()
NORMS = fnn.train.Metric(lambda o: fnn.readers.sum_over_params(o.readings), read=fnn.readers.squared_norm)
WATCHED = {"norms": NORMS, "noise": fnn.train.noise_scale(), "dead": fnn.train.dead_units()}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"clip": 0.5, "average": 0.9},
    "metrics": {"metrics": WATCHED},
    "microbatches": {"microbatch": 8, "metrics": WATCHED},
    "skip": {"nonfinite": "skip", "loss_scale": fnn.train.LossScale(8.0)},
    "in backward": {"in_backward": True, "clip": 0.5},
    "private": {"private": fnn.train.Private(1.0, 1.0, 16, 1.0)},
}
ADAM = optax.adam(1e-2, eps=1e-3)


def run(step: fnn.train.Step, place: Any, mesh: Any = None) -> tuple[Any, list[Any]]:
    params = fnn.init(NET, jax.random.key(0), X)
    rules = None if mesh is None else fnn.shardings(NET, params, mesh, "fsdp")
    state, metrics = step.init(jax.random.key(0), X, params, rules), []
    for _ in range(3):
        state, found = step(state, place((X, LABEL)))
        metrics.append(found)
    return state, metrics


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_on_eight_devices_is_that_on_one(name, kind):
    step = fnn.train.make_step(NET, CE, ADAM, **OPTIONS[name])
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    rows = NamedSharding(mesh, P("data"))
    with jax.set_mesh(mesh):
        state, metrics = run(step, lambda batch: fnn.train.placed(batch, rows), mesh)
    wanted, of_one = run(step, lambda batch: batch)
    assert_on_mesh((state.params, state.average), (wanted.params, wanted.average), 1e-9)
    assert_on_mesh(metrics, of_one, 1e-9)
    lie = fnn.shardings(NET, wanted.params, mesh, "fsdp")
    if kind == AxisType.Explicit:  # there shardings are types, and stay
        assert jax.tree.all(jax.tree.map(lambda leaf, own: leaf.sharding == own, state.params, lie))


@pytest.mark.parametrize("loss", [CE, fnn.LinearCrossEntropy(8, chunk=3)], ids=["loss", "head"])
def test_microbatches_that_each_device_walks_over_by_itself_are_those_of_one(loss):
    """Params are whole and nothing is watched: value, gradient and all readings are put together."""
    found = {"norms": NORMS} if loss is CE else {}
    found["sums"] = fnn.train.Metric(lambda o: o.readings, read=fnn.readers.gradient)
    step = fnn.train.make_step(NET, loss, ADAM, microbatch=16, metrics=found)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    weights = RANDOM.uniform(size=32)
    wanted = one_step(step, (X, LABEL, weights))
    with jax.set_mesh(mesh):
        batch = fnn.train.placed((X, LABEL, weights), NamedSharding(mesh, P("data")))
        assert_on_mesh(one_step(step, batch, mesh), wanted, 1e-9)


def one_step(step: fnn.train.Step, batch: Any, mesh: Any = None) -> Any:
    state = step.init(jax.random.key(0), X)
    if mesh is not None:
        there = jax.tree.map(lambda _: NamedSharding(mesh, P()), state.params)
        state = step.init(jax.random.key(0), X, state.params, there)
    state, metrics = step(state, batch)
    return state.params, state.optimizer, metrics
