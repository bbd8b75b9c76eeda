"""Rows on two devices, cut into chunks on each: no row moves, and what is summed is added up once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn.chunks import over_chunks
from fnn.memory.hlo import collectives_of


@pytest.mark.parametrize(("n", "size", "chunks"), [(12, 4, 2), (10, 2, 3), (4, 9, 1), (2, 1, 1)])
def test_rows_of_two_shards_are_cut_within_each(n, size, chunks):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    x = np.arange(float(n * 3)).reshape(n, 3)
    seen = []

    def chunk(by, part, widen):
        rows, numbers = part
        seen.append(rows.shape)
        return widen(jnp.zeros(3)) + (rows * numbers[:, None]).sum(0), (by * rows, numbers)

    with jax.set_mesh(mesh):
        rows = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data", None)))
        numbers = jax.device_put(np.arange(float(n)), NamedSharding(mesh, PartitionSpec("data")))
        run = jax.jit(lambda rows, numbers: over_chunks(chunk, jnp.full((), 2.0), (rows, numbers), size))
        total, (doubled, same) = run(rows, numbers)
        text = run.lower(rows, numbers).compile().as_text() or ""
    np.testing.assert_array_equal(total, (x * np.arange(float(n))[:, None]).sum(0))
    np.testing.assert_array_equal(doubled, 2 * x)
    np.testing.assert_array_equal(same, np.arange(float(n)))
    assert (doubled.sharding.spec, same.sharding.spec) == (rows.sharding.spec, numbers.sharding.spec)
    assert {shape[0] for shape in seen} == {-(-(n // 2) // chunks)}  # of one device
    assert sum(one.times for one in collectives_of(text)) == 1
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in text
