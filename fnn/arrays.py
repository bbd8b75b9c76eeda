"""Arrays and trees of arrays: shapes, dtypes, sizes."""

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe

if TYPE_CHECKING:  # to a type checker jaxtyping's is of no known type; this one is Any
    from typing_extensions import TypeAliasType

    _Leaf = TypeVar("_Leaf")
    PyTree = TypeAliasType("PyTree", Any, type_params=(_Leaf,))
else:
    from jaxtyping import PyTree as PyTree


def canonical(tree: Any) -> Any:
    """Convert the NumPy arrays and scalars of a tree to JAX arrays.

    Args:
        tree: a pytree of any leaves.

    Returns:
        the same tree. NumPy leaves have the dtype that JAX computes in: float64 becomes float32 unless x64 is
        enabled. Leaves that are not NumPy numbers, float0 cotangents among them, are unchanged.

    Raises:
        InputError: where the narrower dtype cannot hold an integer, which would wrap around.
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
    """Return the shapes and dtypes of a tree of arrays.

    Args:
        who: the name of the caller, for the error message.
        x: a pytree of arrays or of `jax.ShapeDtypeStruct`s.

    Returns:
        the same tree with a `jax.ShapeDtypeStruct` for each leaf, in the dtype that JAX computes in.

    Raises:
        InputError: where a leaf has no shape or no dtype.
    """

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            shape = isinstance(x, (tuple, list)) and all(isinstance(size, int) for size in x)
            fix = f"jax.ShapeDtypeStruct({tuple(x)}, jnp.float32)" if shape else "jnp.asarray(x)"
            raise InputError(who, "an array or shape as x", describe(x), fix)
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(one, x)


def as_index(index: Any) -> Any:
    """Convert labels or indices to a signed dtype of at least 32 bits.

    A narrower or an unsigned dtype cannot hold every size and negative number that an index is compared with:
    256 is 0 in uint8.

    Args:
        index: an integer array of any shape.

    Returns:
        an array of the same shape. A number too large for the signed dtype becomes its largest number, which
        is out of range for every table.
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


def index_inside(index: Any, size: int) -> Any:
    """Return an index with `size` in the place of what is not in 0 .. size - 1.

    A lookup drops or fills that. Left as they are, negative numbers count from the end, and JAX narrows those
    of 64 bits, so that 2^32 + 1 is 1.

    Args:
        index: the indices, (...) integers.
        size: the size of what they look up.
    """
    return jnp.where((index >= 0) & (index < size), index, size)


def accumulator(*dtypes: Any) -> Any:
    """Return the dtype to accumulate in: the widest of `dtypes`, and at least float32."""
    known = [dtype for dtype in map(np.dtype, dtypes) if dtype.itemsize > 1]  # JAX promotes no float8
    with jax.numpy_dtype_promotion("standard"):  # here a promotion is what we ask for
        return jnp.result_type(jnp.float32, *known)


def widened(array: Any) -> Any:
    """Convert a floating array to float32; one that is float32 or wider stays as it is."""
    return array.astype(accumulator(array.dtype))


def bytes_of(tree: Any) -> int:
    """Count the bytes of a pytree of arrays or of `jax.ShapeDtypeStruct`s."""
    return sum(prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def same_shapes(trees: Iterable[Any]) -> bool:
    """Return whether all trees of arrays, one or more, have the same structure, shapes and dtypes."""
    first, *others = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in trees]
    return all(other == first for other in others)


def zero_cotangents(x: Any) -> Any:
    """Return the cotangents of inputs that nothing depends on.

    Args:
        x: a pytree of arrays.

    Returns:
        a pytree of the same structure and shapes: zeros of the leaf's dtype, or float0 for integers.
    """

    def one(leaf: Any) -> Any:
        floating = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.zeros_like(leaf) if floating else np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(one, x)
