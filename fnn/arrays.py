"""Arrays and trees of arrays: shapes, dtypes, sizes."""

from collections.abc import Iterable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe


def canonical(tree: Any) -> Any:
    """Turn NumPy's arrays into JAX's, of the dtype that JAX computes in: float64 becomes float32 unless x64
    is on.

    Leaves that are no array of numbers stay as they are, float0 cotangents among them. Raises InputError
    for an integer that the narrower dtype does not hold, which would wrap around.
    """

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, (np.ndarray, np.generic)) or not _numbers(leaf.dtype):
            return leaf
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype.newbyteorder("="))
        if leaf.dtype.kind in "iu" and leaf.size:
            low, high, ends = leaf.min(), leaf.max(), jnp.iinfo(dtype)
            if low < ends.min or high > ends.max:
                fix = 'jax.config.update("jax_enable_x64", True)'
                raise InputError("fnn", f"integers that {dtype} holds", f"{low} .. {high}", fix)
        return jnp.asarray(leaf.astype(dtype))

    return jax.tree.map(one, tree)


def _numbers(dtype: Any) -> bool:
    return dtype.kind == "b" or (dtype.kind in "iufcV" and jnp.issubdtype(dtype, jnp.number))


def shapes_of(who: object, x: Any) -> Any:
    """Return the shapes of arrays, or of shapes: a tree of `jax.ShapeDtypeStruct`. Raises InputError else."""

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise InputError(who, "an array or shape as x", describe(x), "jnp.asarray(x)")
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(one, x)


def as_index(index: Any) -> Any:
    """Return labels or indices in a signed dtype of at least 32 bits.

    A narrower one, or an unsigned one, cannot hold every size and every negative number that it is compared
    with: 256 is 0 in uint8. What is too large for the signed dtype becomes its largest number, out of range
    wherever it is looked up.
    """
    index = jnp.asarray(index)
    info = jnp.iinfo(index.dtype)
    if info.bits < 32:
        return index.astype(jnp.int32)
    if info.min < 0:
        return index
    wide = jax.dtypes.canonicalize_dtype(jnp.int64)
    largest = jnp.asarray(min(jnp.iinfo(wide).max, info.max), index.dtype)
    return jnp.minimum(index, largest).astype(wide)


def accumulator(*dtypes: Any) -> Any:
    """Return the dtype to accumulate in: the widest of these, at least float32 (jax issue 34330)."""
    with jax.numpy_dtype_promotion("standard"):  # here a promotion is what we ask for
        return jnp.result_type(jnp.float32, *dtypes)


def widened(array: Any) -> Any:
    """Return an array of a low precision in float32."""
    return array.astype(accumulator(array.dtype))


def bytes_of(tree: Any) -> int:
    """Count the bytes of a tree of arrays or shapes."""
    return sum(prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def same_shapes(trees: Iterable[Any]) -> bool:
    """Tell whether all trees have the same structure, shapes and dtypes."""
    first, *others = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in trees]
    return all(other == first for other in others)


def added(a: Any, b: Any) -> Any:
    """Add two cotangents, trees of arrays; those of integers are float0 and stay so."""
    return jax.tree.map(lambda a, b: a if a.dtype == jax.dtypes.float0 else a + b, a, b)


def zero_cotangents(x: Any) -> Any:
    """Return the cotangents of inputs on which nothing depends: zeros, float0 for integers."""

    def one(leaf: Any) -> Any:
        floating = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.zeros_like(leaf) if floating else np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(one, x)
