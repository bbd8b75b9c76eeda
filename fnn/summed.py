"""Factors summed to gradients: in float32 or wider on each device, over the devices in the dtype of dz.

>>> import fnn
>>> from fnn.factors import Scaled
>>> ones = jnp.ones((3, 2))
>>> factors = Total(ones), Scaled(ones, ones), Examples(ones, rank=1)
>>> [fnn.gradient(factor, jnp.zeros(2)).tolist() for factor in factors]
[[3.0, 3.0], [3.0, 3.0], [3.0, 3.0]]
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from fnn.arrays import accumulator, index_inside
from fnn.factors import Examples, Form, Outer, Rows, Total
from fnn.sharding import dtype_of_parts, names_of, on_mesh, placed, sharding_along, sharding_of


def summed(form: Form, param: Any) -> Any:
    """Return the sum of a form, in float32 or wider.

    Args:
        form: an `Outer`, `Total`, `Rows` or `Examples`.
        param: the param, whose sharding the sum gets.
    """
    match form:
        case Outer(x, dz, reduce):
            rows, acc = tuple(range(x.ndim - 1)), accumulator(dz.dtype)
            over = [(leaf, i) for leaf in (x, dz) for i in rows]
            parts = dtype_of_parts(acc, reduce or exchanged_in(dz.dtype), *over)
            contract = (rows, rows), ((), ())
            sharding = sharding_of(param) or sharding_along((x, x.ndim - 1), (dz, dz.ndim - 1))
            total = lax.dot_general(x, dz, contract, preferred_element_type=parts, out_sharding=sharding)
            return total.astype(acc)
        case Total(dz, reduce):
            return _sum_of_rows(dz, reduce or exchanged_in(dz.dtype), param)
        case Rows(index, dz):
            return added_into_rows(index, dz.astype(accumulator(dz.dtype)), param)
        case Examples(g):
            return jnp.sum(g, 0, dtype=accumulator(g.dtype))


def exchanged_in(dtype: Any) -> Any:
    """Return the dtype in which devices add up its sums: itself, or None where float32 reaches farther."""
    return dtype if jnp.finfo(dtype).maxexp >= jnp.finfo(jnp.float32).maxexp else None


def added_into_rows(index: Any, dz: Any, param: Any) -> Any:
    """Return zeros like a table plus rows. Args: `index` and `dz`, as in `Rows`; `param`, the table."""

    def add(index: Any, dz: Any) -> Any:
        safe = index_inside(index, param.shape[0])
        return jnp.zeros(param.shape, dz.dtype).at[safe].add(dz, mode="drop")

    return on_mesh(add, sharding_of(param) or sharding_along((dz, None), (dz, dz.ndim - 1)), index, dz)


def _sum_of_rows(dz: Any, reduce: Any, param: Any) -> Any:
    """Sum dz (..., j) over all axes but the last, over devices in another dtype."""
    rows, acc = tuple(range(dz.ndim - 1)), accumulator(dz.dtype)
    if dtype_of_parts(acc, reduce, *((dz, i) for i in rows)) == acc:
        return jnp.sum(dz, rows, dtype=acc)
    lie = jax.typeof(dz).sharding
    over = frozenset(name for own in lie.spec[:-1] for name in names_of(own))
    columns = lie.spec[-1]
    parts = lie.update(spec=PartitionSpec(columns, unreduced=over))
    own = lax.reduce_sum(dz.astype(acc), rows, out_sharding=parts).astype(reduce)
    return placed(own, sharding_of(param) or lie.update(spec=PartitionSpec(columns))).astype(acc)
