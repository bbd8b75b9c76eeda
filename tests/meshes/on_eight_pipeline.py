"""Pipelines of two and four stages: value and gradient are the network's, by every schedule."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn import Dense, Repeat, RMSNorm, Serial, Skip, pipeline
from fnn.pipeline import run as pipeline_run
from fnn.pipeline.stage import Stage
from fnn.train.gradients import InParts, Pass
from tests.meshes.layouts import assert_on_mesh

SCHEDULES = [pipeline.gpipe, pipeline.one_f_one_b, pipeline.zero_bubble]
BLOCK = Skip(Serial(RMSNorm(), Dense(16), fnn.gelu, Dense(6)))
NOISY = Skip(Serial(RMSNorm(), Dense(6), fnn.Dropout(0.3)))
CE = fnn.softmax_cross_entropy()
HEAD = fnn.LinearCrossEntropy(7, chunk=2)


def rows(*shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape))


def indices(n: int, *shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(2).integers(0, n, shape), jnp.int32)


@dataclass(frozen=True)
class Network:
    """A network and its loss, with the data of twenty-four examples."""

    net: Any
    loss: Any
    data: Callable[[], tuple[Any, ...]]

    def drawn(self) -> tuple[Any, tuple[Any, ...]]:
        x, *rest = self.data()
        params = fnn.init(self.net, jax.random.key(0), x)
        if self.loss.has_params:
            y = jax.eval_shape(lambda: fnn.output(self.net, params, x))
            params = params, self.loss.init(jax.random.key(1), y)
        random = np.random.default_rng(0)
        drawn = jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape) / 2), params)
        return drawn, (x, *rest)


def labelled() -> tuple[Any, Any]:
    return rows(24, 5), indices(3, 24)


NETWORKS = {
    "chain": Network(Serial(Dense(6), Repeat(BLOCK, 4), RMSNorm(), Dense(3)), CE, labelled),
    "alone": Network(
        Repeat(Dense(3), 8), fnn.half_squared_error(reduction="sum"), lambda: (rows(24, 3), rows(24, 3))
    ),
    "head": Network(
        Serial(fnn.Embedding(9, 6), Repeat(BLOCK, 4), RMSNorm()), HEAD,
        lambda: (indices(9, 24, 2), indices(7, 24, 2)),
    ),
    "named": Network(
        Serial(a=Serial(Dense(6), fnn.gelu), b=Repeat(Serial(Dense(6), fnn.gelu), 8, every=2), c=Dense(3)),
        CE, labelled,
    ),
    "tanh": Network(Serial(Dense(6), fnn.relu, Repeat(Dense(6), 4), fnn.tanh, Dense(3)), CE, labelled),
    "reversible": Network(
        Serial(Dense(6), Repeat(fnn.Reversible(Dense(3), Dense(3)), 4), Dense(3)), CE, labelled
    ),
    "weights": Network(
        Serial(Dense(6), Repeat(BLOCK, 4), Dense(3)), CE,
        lambda: (*labelled(), None, jnp.asarray([0.0, 1.0, 2.0] * 8)),
    ),
}  # fmt: skip
QUICK = {("chain", "zero_bubble", 4, 6), ("head", "one_f_one_b", 2, 3), ("named", "gpipe", 4, 2)}


def cases() -> list[Any]:
    found = []
    for name in NETWORKS:
        for schedule in SCHEDULES:
            for stages in (2, 4):
                for count in (1, 2, 3, 6, 12):
                    quick = (name, schedule.__name__, stages, count) in QUICK
                    thin = name != "chain" and count in (1, 2, 12)  # the schedule is the same as for "chain"
                    if quick or not thin:
                        marks = () if quick else pytest.mark.slow
                        found.append(pytest.param(name, schedule, stages, count, marks=marks))
    return found


def mesh_of(stages: int, kind: AxisType = AxisType.Auto) -> Any:
    return jax.make_mesh((stages,), ("stage",), axis_types=(kind,), devices=jax.devices()[:stages])


def compiled(f: Any) -> Any:
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


def placed(network: Network, params: Any, mesh: Any) -> Any:
    loss = network.loss if network.loss.has_params else None
    return jax.device_put(params, pipeline.shardings(network.net, params, mesh, loss=loss))


def assert_as_of_the_network(network: Network, schedule: Any, mesh: Any) -> None:
    params, data = network.drawn()
    wanted = compiled(fnn.value_and_grad(network.net, network.loss))(params, *data)
    run = pipeline.value_and_grad(network.net, network.loss, mesh, schedule)
    own = placed(network, params, mesh)
    value, grads = compiled(run)(own, *data)
    assert_on_mesh((value, grads), wanted)
    lie = [leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
           for leaf, like in zip(*map(jax.tree.leaves, (grads, own)), strict=True)]  # fmt: skip
    assert all(lie)


@pytest.mark.parametrize("name, maker, stages, count", cases())
def test_value_and_gradient_are_those_of_the_network(name, maker, stages, count):
    assert_as_of_the_network(NETWORKS[name], maker(stages, count), mesh_of(stages))


@pytest.mark.parametrize(
    "kind", [AxisType.Explicit, pytest.param(AxisType.Auto, marks=pytest.mark.slow)], ids=str
)
def test_rows_may_lie_on_a_further_axis(kind):
    network = NETWORKS["chain"]
    mesh = jax.make_mesh((2, 4), ("data", "stage"), axis_types=(kind,) * 2)
    params, (x, target) = network.drawn()
    wanted = compiled(fnn.value_and_grad(network.net, network.loss))(params, x, target)
    data = jax.device_put((x, target), NamedSharding(mesh, P("data")))
    run = pipeline.value_and_grad(network.net, network.loss, mesh, pipeline.zero_bubble(4, 6))
    with jax.set_mesh(mesh):
        got = compiled(run)(placed(network, params, mesh), *data)
    assert_on_mesh(got, wanted)


@pytest.mark.parametrize("every", [1, 2])
def test_noise_is_that_of_a_step_in_microbatches(every):
    net = Serial(Dense(6), fnn.Dropout(0.2), Repeat(NOISY, 4, every=every), fnn.Dropout(0.5), Dense(3))
    network = Network(net, CE, labelled)
    params, (x, target) = network.drawn()
    mesh = mesh_of(2)
    run = pipeline.value_and_grad(net, CE, mesh, pipeline.zero_bubble(2, 3))
    key = jax.random.key(7)
    got = compiled(run)(placed(network, params, mesh), x, target, key)
    found = compiled(InParts(Pass(net, CE), 8))(params, x, target, key, None, None)
    assert_on_mesh(got, (found.value, found.grads))


def test_a_scale_multiplies_the_gradient_alone():
    network = NETWORKS["chain"]
    params, (x, target) = network.drawn()
    run = compiled(pipeline.value_and_grad(network.net, CE, mesh_of(2), pipeline.one_f_one_b(2, 3)))
    value, grads = run(params, x, target)
    scaled, more = run(params, x, target, None, None, jnp.asarray(4.0))
    assert_on_mesh((scaled, more), (value, jax.tree.map(lambda leaf: 4 * leaf, grads)))


def test_a_dropped_weight_gradient_is_noticed():
    forgets = lambda self, tick, held: held  # noqa: E731
    with patch.object(Stage, "_weights", forgets), pytest.raises(AssertionError, match="off by"):
        assert_as_of_the_network(NETWORKS["chain"], pipeline.zero_bubble(2, 3), mesh_of(2))


def test_a_cotangent_for_the_wrong_stage_is_noticed():
    sent = pipeline_run._sent

    def astray(tree: Any, axis: str, pairs: list[tuple[int, int]]) -> Any:
        backwards = pairs[0][0] > pairs[0][1]
        return sent(tree, axis, [(a, (b + 2) % 4) for a, b in pairs] if backwards else pairs)

    with patch.object(pipeline_run, "_sent", astray), pytest.raises(AssertionError, match="off by"):
        assert_as_of_the_network(NETWORKS["chain"], pipeline.one_f_one_b(4, 6), mesh_of(4))


def test_a_table_with_one_slot_too_few_is_noticed():
    table = pipeline_run.table

    def short(schedule: Any) -> Any:
        ticks, sizes = table(schedule)
        return ticks._replace(residuals=np.minimum(ticks.residuals, sizes.residuals - 2)), sizes

    with patch.object(pipeline_run, "table", short), pytest.raises(AssertionError, match="off by"):
        assert_as_of_the_network(NETWORKS["chain"], pipeline.gpipe(2, 3), mesh_of(2))


def test_a_schedule_of_ones_own_runs():
    ops = [
        ["F0", "F1", "BW0", "F2", "B1", "B2", "W2", "W1"],
        ["F0", "B0", "F1", "F2", "W0", "B1", "B2", "W2", "W1"],
    ]
    split: Any = [tuple(pipeline.Op(op[:-1], int(op[-1])) for op in row) for row in ops]  # pyright: ignore
    assert_as_of_the_network(NETWORKS["chain"], pipeline.Schedule(tuple(split)), mesh_of(2))


def test_mixed_dtypes_add_up_in_float32():
    net = Serial(Dense(6, dtype=jnp.bfloat16), Repeat(Dense(6, dtype=jnp.bfloat16), 4), Dense(3))
    network = replace(NETWORKS["chain"], net=net)
    params, (x, target) = network.drawn()
    params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, x))
    wanted = compiled(fnn.value_and_grad(net, CE))(params, x, target)
    for maker in SCHEDULES:
        got = compiled(pipeline.value_and_grad(net, CE, mesh_of(2), maker(2, 3)))(params, x, target)
        assert_on_mesh(got, wanted, 2**-8 * np.sqrt(24))
