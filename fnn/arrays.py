"""Arrays and trees of arrays: shapes, dtypes, sizes."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from math import gcd, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn.errors import InputError, describe


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
            raise InputError(who, "an array or shape as x", describe(x), "jnp.asarray(x)")
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


def accumulator(*dtypes: Any) -> Any:
    """Return the dtype to accumulate in: the widest of `dtypes`, and at least float32 (JAX issue 34330)."""
    with jax.numpy_dtype_promotion("standard"):  # here a promotion is what we ask for
        return jnp.result_type(jnp.float32, *dtypes)


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


def added(a: Any, b: Any) -> Any:
    """Add two cotangents of one value.

    Args:
        a: a pytree of arrays.
        b: a pytree of the same structure, shapes and dtypes.

    Returns:
        the sum, a pytree like both. A float0 leaf, the cotangent of integers, stays as it is in `a`.
    """
    return jax.tree.map(lambda a, b: a if a.dtype == jax.dtypes.float0 else a + b, a, placed_like(b, a))


def zeros_like(array: Any) -> Any:
    """Return zeros of the type of an array or shape: of its sharding and its varying axes, too."""
    sharding = sharding_of(array)
    return varying_like(jnp.zeros(array.shape, array.dtype, out_sharding=sharding), array)


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


# On a mesh with explicit axes a sharding is part of an array's type; what cannot be derived has to be said.
# Everywhere else the functions below do nothing, and leave nothing in the program.


def sharding_of(*arrays: Any) -> NamedSharding | None:
    """Return the sharding of the first array that lies on a mesh with explicit axes, else None."""
    for array in arrays:
        sharding = jax.typeof(array).sharding
        if AxisType.Explicit in sharding.mesh.axis_types:
            return sharding
    return None


def sharding_along(*axes: tuple[Any, int | None]) -> NamedSharding | None:
    """Return the sharding of a result whose axes are those axes of arrays; None where no mesh is explicit.

    An axis is given as `(array, its number)`, with None for one that is not sharded. A mesh's axis is used once,
    by the first that is sharded over it.
    """
    like = sharding_of(*(array for array, _ in axes))
    if like is None:
        return None
    used, partitions = set(), []
    for array, axis in axes:
        own = sharding_of(array)
        names = () if own is None or axis is None else _names(own.spec[axis])
        names = tuple(name for name in names if name not in used)
        used.update(names)
        partitions.append(names or None)
    return like.update(spec=PartitionSpec(*partitions))


def placed(value: Any, sharding: NamedSharding | None) -> Any:
    """Return an array with that sharding in its type; None for the one that it has."""
    if sharding is None or jax.typeof(value).sharding == sharding:
        return value
    return jax.sharding.reshard(value, sharding)


def gathered(array: Any, rows: Sequence[tuple[Any, int]]) -> Any:
    """Return an array that is not sharded over those axes of a mesh over which rows are, `(array, axis)`.

    So weights come to the rows, as under FSDP, and the compiler does not move rows instead.
    """
    sharding, over = sharding_of(array), sharding_along(*rows)
    if sharding is None or over is None:
        return array
    used = {name for names in over.spec for name in _names(names)}
    kept = [tuple(name for name in _names(names) if name not in used) or None for names in sharding.spec]
    return placed(array, sharding.update(spec=PartitionSpec(*kept)))


def _names(partition: Any) -> tuple[str, ...]:
    """Return the mesh's axes that an array's axis is sharded over."""
    return partition if isinstance(partition, tuple) else (partition,) if partition else ()


def placed_like(value: Any, primal: Any) -> Any:
    """Return a tree of arrays with the shardings of others, as a cotangent has its primal's."""

    def one(value: Any, primal: Any) -> Any:
        return value if value.dtype == jax.dtypes.float0 else placed(value, sharding_of(primal))

    return jax.tree.map(one, value, primal)


def on_mesh(f: Callable[..., Any], sharding: Any, *args: Any) -> Any:
    """Return `f(*args)` with that sharding (None: no mesh is explicit); within f the compiler chooses."""
    if sharding is None:
        return f(*args)
    mesh = jax.tree.leaves(sharding)[0].mesh
    return jax.sharding.auto_axes(f, axes=mesh.explicit_axes, out_sharding=sharding)(*args)


def reshaped(x: Any, shape: tuple[int, ...], *axes: tuple[Any, int | None]) -> Any:
    """Return `x.reshape(shape)`, sharded along those axes of arrays, see `sharding_along`."""
    sharding = sharding_along(*axes)
    if sharding is None:
        return x.reshape(shape)
    return jnp.reshape(x, shape, out_sharding=fitting(sharding, shape))


def shards_of(leaf: Any) -> int:
    """Return into how many parts, of equal size, axis 0 may be cut on its mesh; 1 where there is no mesh.

    On a mesh whose axes are not explicit nobody knows yet: then it is one for each device.
    """
    sharding = jax.typeof(leaf).sharding
    sizes = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_sizes, strict=True))
    own = _names(sharding.spec[0]) if leaf.ndim else ()
    return gcd(leaf.shape[0], prod(sizes[name] for name in (*own, *sharding.mesh.auto_axes)))


def cut(x: Any, places: Sequence[int]) -> list[Any]:
    """Cut an array up along its last axis at `places`; the parts are sharded as it is, where their sizes allow."""
    sharding, parts = sharding_of(x), partial(jnp.split, indices_or_sections=list(places), axis=-1)
    if sharding is None or sharding.spec[-1] is None:
        return parts(x)
    ends = (0, *places, x.shape[-1])
    shapes = [(*x.shape[:-1], stop - start) for start, stop in pairwise(ends)]
    return on_mesh(parts, [fitting(sharding, shape) for shape in shapes], x)


def joined(parts: Sequence[Any], like: Any = None) -> Any:
    """Join arrays along their last axis; the whole is sharded as `like` is, or as the first, where its size allows."""
    sharding = sharding_of(*parts)
    if sharding is not None:
        shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        sharding = sharding_of(*(() if like is None else (like,))) or fitting(sharding, shape)
    return on_mesh(lambda *parts: jnp.concatenate(parts, -1), sharding, *parts)


def fitting(sharding: NamedSharding, shape: tuple[int, ...]) -> NamedSharding:
    """Return the sharding without the axes that do not divide a size."""
    sizes = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_sizes, strict=True))

    def fits(size: int, names: Any) -> bool:
        return size % prod(sizes[name] for name in _names(names)) == 0

    pairs = zip(shape, sharding.spec, strict=True)
    return sharding.update(
        spec=PartitionSpec(*(names if fits(size, names) else None for size, names in pairs))
    )


def einsum(subscripts: str, *operands: Any, dtype: Any = None, like: Any = None) -> Any:
    """Return `jnp.einsum`, accumulated in `dtype`, with the sharding of `like`, or that of the operands' axes."""
    inputs, output = subscripts.split("->")
    places = {}
    for letters, operand in zip(inputs.split(","), operands, strict=True):
        for axis, letter in enumerate(letters):
            places.setdefault(letter, (operand, axis))
    sharding = sharding_of(*operands)
    if sharding is not None:
        own = None if like is None else sharding_of(like)
        sharding = own or sharding_along(*(places[letter] for letter in output))
    return jnp.einsum(subscripts, *operands, preferred_element_type=dtype, out_sharding=sharding)


# Within `shard_map` the axes over which an array varies are part of its type.


def varying_axes(*arrays: Any) -> frozenset[str]:
    """Return the manual axes of a mesh over which one of the arrays varies, as far as they are checked."""
    return frozenset().union(*(jax.typeof(array).manual_axis_type.varying for array in arrays))


def varying_like(value: Any, *others: Any) -> Any:
    """Return a tree of arrays that vary over all the axes over which the arrays of others vary."""
    axes = varying_axes(*jax.tree.leaves(others))

    def one(leaf: Any) -> Any:
        more = tuple(sorted(axes - varying_axes(leaf)))
        return lax.pcast(leaf, more, to="varying") if more else leaf

    return jax.tree.map(one, value) if axes else value


def as_cotangent(value: Any, primal: Any) -> Any:
    """Return a tree of cotangents with the shardings and the varying axes of their primals.

    The cotangent of what does not vary over an axis is the sum over that axis.
    """

    def one(value: Any, primal: Any) -> Any:
        if value.dtype == jax.dtypes.float0:
            return value
        axes = varying_axes(value) - varying_axes(primal)
        value = lax.psum(value, tuple(sorted(axes))) if axes else value
        return varying_like(placed(value, sharding_of(primal)), primal)

    return jax.tree.map(one, value, primal)
