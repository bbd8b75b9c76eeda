"""Rows on two devices, cut into chunks on each: no row moves, and what is summed is added up once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn.chunks import over_chunks
from fnn.memory.hlo import collectives_of
from fnn.sharding import as_cotangent


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


@pytest.mark.parametrize("as_a_gradient", [True, False])
@pytest.mark.parametrize("reduce", [None, jnp.bfloat16])
def test_devices_add_up_in_the_dtype_that_is_asked_for(reduce, as_a_gradient):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    x = jnp.array([256.0, 1.0, 256.0, 1.0], jnp.float32)  # bfloat16 holds 256, not 257

    def total(x):
        def chunk(shared, rows, widen):
            param = widen(jnp.zeros((), jnp.float32))
            return as_cotangent(rows.sum(), param) if as_a_gradient else param + rows.sum(), None

        return over_chunks(chunk, (), x, 1, reduce=reduce)[0]

    assert total(x) == jax.jit(total)(x) == 514  # on one device nothing is rounded
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    assert jax.jit(total)(placed).dtype == jnp.float32
    program = str(jax.make_jaxpr(total)(placed))
    assert ("bf16[] = psum" in program) == (reduce is not None)
    assert ("f32[] = psum" in program) == (reduce is None)
