"""A dense layer's product on two devices with explicit axes: its value, and where it lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn.layers.dense import product

ROWS, COLUMNS = P("data", None, None), P(None, None, "data")
# The sharding of a (2, 4, 6), of b and of what the product is like, the axis of b that is contracted, and the
# sharding of the product.
PLACED = {
    "rows": (P("data", None, None), P(None, None), None, 0, P("data", None, None)),
    "tokens": (P(None, "data", None), P(None, None), None, 0, P(None, "data", None)),
    "columns": (P(None, None, None), P(None, "data"), None, 0, P(None, None, "data")),
    "columns of a transposed matrix": (P(None, None, None), P("data", None), None, 1, P(None, None, "data")),
    "rows, and a matrix that is gathered": (ROWS, P(None, "data"), None, 0, ROWS),
    "what is contracted": (COLUMNS, P("data", None), ROWS, 0, ROWS),
    "like another": (P(None, None, "data"), P(None, "data"), P(None, None, None), 1, P(None, None, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACED)
def test_a_product_lies_where_its_operands_or_what_it_is_like_do(name):
    of_a, of_b, of_like, axis, wanted = PLACED[name]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    a = np.arange(48.0).reshape(2, 4, 6)
    b = np.cos(np.arange(48.0)).reshape((6, 8) if axis == 0 else (8, 6))
    with jax.set_mesh(mesh):
        x, w = (jax.device_put(v, NamedSharding(mesh, spec)) for v, spec in ((a, of_a), (b, of_b)))
        like = None if of_like is None else jax.device_put(jnp.zeros((2, 4, 8)), NamedSharding(mesh, of_like))
        for run in (product, jax.jit(product, static_argnums=2)):
            got = run(x, w, axis, like)
            assert got.sharding.spec == wanted
            np.testing.assert_allclose(got, a @ (b if axis == 0 else b.T), rtol=1e-13)


@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize("reduce", [jnp.bfloat16, jnp.float32, None])
def test_products_are_added_up_over_devices_in_the_dtype_that_is_asked_for(name, reduce):
    of_a, of_b, of_like, axis, _ = PLACED[name]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))

    def shape(sizes, spec):
        return jax.ShapeDtypeStruct(sizes, jnp.bfloat16, sharding=NamedSharding(mesh, spec))

    b = shape((6, 8) if axis == 0 else (8, 6), of_b)
    like = None if of_like is None else shape((2, 4, 8), of_like)
    program = jax.make_jaxpr(lambda a, b, like: product(a, b, axis, like, reduce))(
        shape((2, 4, 6), of_a), b, like
    )
    (dot,) = (q for q in program.eqns if q.primitive.name == "dot_general")
    parts = reduce if name in ("what is contracted", "like another") and reduce else jnp.float32
    assert dot.outvars[0].aval.dtype == parts and program.out_avals[0].dtype == jnp.float32
