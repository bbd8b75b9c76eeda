"""Gradients of rows on two devices: each adds up its own in float32, both in the dtype that is asked for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn.factors import Outer, Total

ROWS = P("data", None, None)
BF16, F16, F32 = jnp.bfloat16, jnp.float16, jnp.float32
# The dtype of the rows, what the factor says, where rows lie, and the dtype in which the two add up.
DTYPES = {
    "bfloat16": (BF16, None, ROWS, BF16),
    "bfloat16, tokens": (BF16, None, P(None, "data", None), BF16),
    "bfloat16, as the layer says": (BF16, F32, ROWS, F32),
    "bfloat16, rows whole": (BF16, None, P(), F32),
    "bfloat16, columns": (BF16, None, P(None, None, "data"), F32),
    "float16": (F16, None, ROWS, F32),
    "float16, as the layer says": (F16, F16, ROWS, F16),
    "float32": (F32, None, ROWS, F32),
}


def placed(array: Any, spec: P) -> Any:
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    return jax.device_put(array, NamedSharding(mesh, spec))


def factors(dtype: Any, reduce: Any, spec: P) -> tuple[Outer, Total]:
    """Return factors of whole numbers, whose sums over one device bfloat16 holds."""
    x, dz = (
        jnp.asarray(np.random.default_rng(i).integers(-2, 3, (4, 2, n)), dtype) for i, n in enumerate((6, 8))
    )
    x, dz = placed(x, P(*spec[:2], None) if spec else spec), placed(dz, spec)
    return Outer(x, dz, reduce), Total(dz, reduce)


def inner(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from inner(value.jaxpr)


@pytest.mark.parametrize("name", DTYPES)
def test_devices_add_up_in_the_dtype_that_is_asked_for(name):
    dtype, reduce, spec, wanted = DTYPES[name]
    outer, total = factors(dtype, reduce, spec)
    for factor, like in ((outer, jnp.zeros((6, 8), F32)), (total, jnp.zeros(8, F32))):
        param = placed(like, P("data"))
        got = jax.jit(fnn.gradient)(factor, param)
        exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), factor)
        np.testing.assert_array_equal(got, fnn.gradient(exact, like.astype(jnp.float64)))
        assert got.dtype == F32 and got.sharding.is_equivalent_to(param.sharding, got.ndim)
        program = list(inner(jax.make_jaxpr(fnn.gradient)(factor, param)))
        if isinstance(factor, Outer):
            (dot,) = (q for q in program if q.primitive.name == "dot_general")
            assert dot.outvars[0].aval.dtype == wanted
        else:
            (summed,) = (q for q in program if q.primitive.name == "reduce_sum")
            assert summed.invars[0].aval.dtype == summed.outvars[0].aval.dtype == F32
            assert bool(summed.outvars[0].aval.sharding.spec.unreduced) == (wanted != F32)


def test_what_the_devices_add_is_rounded_and_their_own_sums_are_not():
    ones = jnp.ones((4, 1), F32)
    dz = jnp.array([[256.0], [1.0], [256.0], [1.0]], F32)  # bfloat16 holds 256, not 257
    for factor in (Outer(ones, dz), Total(dz)):
        own = jax.tree.map(lambda leaf: placed(leaf.astype(BF16), P("data", None)), factor)
        param = placed(jnp.zeros((1, 1) if isinstance(factor, Outer) else 1, F32), P())
        assert np.asarray(jax.jit(fnn.gradient)(own, param)).item() == 512
        wide = jax.tree.map(lambda leaf: leaf.astype(F32), own)
        assert np.asarray(jax.jit(fnn.gradient)(wide, param)).item() == 514


def test_sums_that_are_rounded_go_through_loops_batches_and_forward_mode():
    outer, total = factors(BF16, None, ROWS)
    params = placed(jnp.zeros((6, 8), F32), P()), placed(jnp.zeros(8, F32), P())

    def read(pair: Any) -> Any:
        return jax.tree.map(fnn.gradient, pair, params, is_leaf=lambda leaf: isinstance(leaf, Outer | Total))

    def all_of_it(pair: Any) -> Any:
        two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), pair)
        scanned = jax.lax.scan(lambda carry, one: (carry, read(one)), None, two)[1]
        return jax.vmap(read)(two), scanned, jax.jvp(read, (pair,), (pair,))

    once = read((outer, total))
    batched, scanned, (value, slope) = jax.jit(all_of_it)((outer, total))
    for got in (batched, scanned):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.stack([b, b])), got, once)
    jax.tree.map(np.testing.assert_array_equal, value, once)
    assert jax.tree.map(jnp.shape, slope) == jax.tree.map(jnp.shape, once)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, 2 * b), slope[0], once[0])
    jax.tree.map(np.testing.assert_array_equal, slope[1], once[1])
