"""Arrays with a sharded last axis, cut into halves and joined again: each device has its columns of both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from experiments.bench.on_mesh import counted
from fnn.columns import cut, joined

# The sizes of a mesh's axes, the sharding of an array of two axes, and how many devices its columns are on.
PLACED = {
    "two": ((2,), P(None, "a"), 2),
    "three": ((3,), P(None, "a"), 3),
    "four, and rows": ((2, 4), P("a", "b"), 4),
    "five": ((5,), P(None, "a"), 5),
    "eight": ((8,), P(None, "a"), 8),
    "two axes, and rows": ((2, 2, 2), P("a", ("b", "c")), 4),
    "columns whole": ((8,), P("a", None), 1),
}


def spread(sizes: tuple[int, ...], spec: P, array: Any) -> Any:
    names = ("a", "b", "c")[: len(sizes)]
    devices = np.array(jax.devices()[: np.prod(sizes)]).reshape(sizes)
    mesh = jax.sharding.Mesh(devices, names, axis_types=(AxisType.Explicit,) * len(sizes))
    return jax.device_put(array, NamedSharding(mesh, spec))


@pytest.mark.parametrize("name", PLACED)
def test_halves_are_those_of_the_whole_array_and_lie_like_it(name):
    sizes, spec, count = PLACED[name]
    whole = np.arange(8.0 * 12 * count).reshape(8, 12 * count)
    x = spread(sizes, spec, whole)
    run = jax.jit(lambda x: cut(x, [x.shape[-1] // 2]))
    halves = run(x)
    for got, wanted in zip(halves, np.split(whole, 2, -1), strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert got.sharding.spec == x.sharding.spec
    back = jax.jit(lambda g, u: joined([g, u], like=x))(*halves)
    np.testing.assert_array_equal(back, whole)
    assert back.sharding.spec == x.sharding.spec
    moved = counted(run, (x,)).collectives
    assert [one.op for one in moved] == ["collective-permute"] * len(moved)
    assert sum(one.times for one in moved) == (2 if count > 1 else 0)
    assert sum(one.times * one.bytes for one in moved) <= x.addressable_shards[0].data.nbytes


@pytest.mark.parametrize("name", ["three", "four, and rows", "two axes, and rows"])
def test_a_gate_has_the_derivatives_of_one_on_one_device(name):
    sizes, spec, count = PLACED[name]
    whole = np.cos(np.arange(8.0 * 12 * count)).reshape(8, 12 * count)
    x, gate = spread(sizes, spec, whole), fnn.Gate()

    def f(x: Any) -> Any:
        return jnp.sum(jnp.square(fnn.output(gate, (), x)))

    def all_of_it(x: Any) -> Any:
        by_row = jax.vmap(lambda x: fnn.apply(gate, (), x))(x)
        return jax.grad(f)(x), jax.jvp(f, (x,), (x,)), by_row

    got, wanted = jax.jit(all_of_it)(x), all_of_it(jnp.asarray(whole))
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [10, 12])
def test_halves_that_devices_cannot_share_are_cut_all_the_same(size):
    x = spread((2,), P(None, "a"), np.arange(8.0 * size).reshape(8, size))
    places = [size // 2] if size == 10 else [2, 4]
    parts = jax.jit(lambda x: cut(x, places))(x)
    for got, wanted in zip(parts, np.split(np.asarray(x), places, -1), strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(jax.jit(lambda *parts: joined(parts, like=x))(*parts), x)
