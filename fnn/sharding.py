"""Shardings of arrays on meshes with explicit axes. Where no mesh is explicit, these functions do nothing."""

from collections.abc import Callable, Sequence
from math import gcd, prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def zeros_like(array: Any) -> Any:
    """Return zeros of the type of an array or shape: of its sharding and its varying axes, too."""
    sharding = sharding_of(array)
    return varying_like(jnp.zeros(array.shape, array.dtype, out_sharding=sharding), array)


def sharding_of(*arrays: Any) -> NamedSharding | None:
    """Return the sharding of the first array that lies on a mesh with explicit axes, else None."""
    for array in arrays:
        sharding = jax.typeof(array).sharding
        if AxisType.Explicit in sharding.mesh.axis_types:
            return sharding
    return None


def sharding_along(*axes: tuple[Any, int | None]) -> NamedSharding | None:
    """Return the sharding of a result whose axes are those axes of arrays; None where no mesh is explicit.

    An axis is given as `(array, its number)`, with None for one that is not sharded. A mesh's axis is used
    once, by the first that is sharded over it.
    """
    like = sharding_of(*(array for array, _ in axes))
    if like is None:
        return None
    used, partitions = set(), []
    for array, axis in axes:
        own = sharding_of(array)
        names = () if own is None or axis is None else names_of(own.spec[axis])
        names = tuple(name for name in names if name not in used)
        used.update(names)
        partitions.append(names or None)
    return like.update(spec=PartitionSpec(*partitions))


def placed(value: Any, sharding: NamedSharding | None) -> Any:
    """Return an array with this sharding. Args: `value`, the array; `sharding`, or None for its own."""
    if sharding is None or jax.typeof(value).sharding == sharding:
        return value
    return jax.sharding.reshard(value, sharding)


def gathered(array: Any, rows: Sequence[tuple[Any, int]]) -> Any:
    """Return an array that is not sharded over the axes of a mesh that some rows are sharded over.

    So under FSDP the weights are gathered to the rows, and the compiler does not move the rows instead.

    Args:
        array: the array.
        rows: pairs of an array and the number of one of its axes.
    """
    sharding, over = sharding_of(array), sharding_along(*rows)
    if sharding is None or over is None:
        return array
    used = {name for names in over.spec for name in names_of(names)}
    kept = [tuple(name for name in names_of(names) if name not in used) or None for names in sharding.spec]
    return placed(array, sharding.update(spec=PartitionSpec(*kept)))


def dtype_of_parts(whole: Any, reduce: Any, *axes: tuple[Any, int]) -> Any:
    """Return the dtype that devices' parts of a sum are made in, and added up in.

    Args:
        whole: the dtype of the sum, where no device has but a part.
        reduce: the dtype for parts; None for that of the sum.
        axes: the axes that are summed over, each an array and the number of its axis.
    """
    over = sharding_along(*axes)
    return whole if reduce is None or over is None or not any(over.spec) else reduce


def names_of(partition: Any) -> tuple[str, ...]:
    """Return the mesh's axes that an array's axis is sharded over."""
    return partition if isinstance(partition, tuple) else (partition,) if partition else ()


def placed_like(value: Any, primal: Any) -> Any:
    """Return a tree of arrays with the shardings of another.

    Args: `value`, the tree of arrays; `primal`, a tree of the same structure.
    """

    def one(value: Any, primal: Any) -> Any:
        return value if value.dtype == jax.dtypes.float0 else placed(value, sharding_of(primal))

    return jax.tree.map(one, value, primal)


def on_mesh(f: Callable[..., Any], sharding: Any, *args: Any) -> Any:
    """Return `f(*args)` with a given sharding; within f the compiler chooses the shardings.

    Args:
        f: the function.
        sharding: the sharding of its result, or a tree of shardings; None where no mesh is explicit.
        args: its arguments.
    """
    if sharding is None:
        return f(*args)
    mesh = jax.tree.leaves(sharding)[0].mesh
    return jax.sharding.auto_axes(f, axes=mesh.explicit_axes, out_sharding=sharding)(*args)


def reshaped(x: Any, shape: tuple[int, ...], *axes: tuple[Any, int | None]) -> Any:
    """Return `x.reshape(shape)` with the sharding of given axes.

    Args:
        x: the array.
        shape: the new shape.
        axes: for each new axis an array and the number of one of its axes, as for `sharding_along`.
    """
    sharding = sharding_along(*axes)
    if sharding is None:
        return x.reshape(shape)
    return jnp.reshape(x, shape, out_sharding=fitting(sharding, shape))


def shards_of(leaf: Any) -> int:
    """Return the number of parts of equal size into which axis 0 may be cut on its mesh.

    It is 1 where there is no mesh. Where the axes of the mesh are not explicit, the sharding is not known
    yet, and it is one part for each device.
    """
    sharding = jax.typeof(leaf).sharding
    sizes = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_sizes, strict=True))
    own = names_of(sharding.spec[0]) if leaf.ndim else ()
    return gcd(leaf.shape[0], prod(sizes[name] for name in (*own, *sharding.mesh.auto_axes)))


def fitting(sharding: NamedSharding, shape: tuple[int, ...]) -> NamedSharding:
    """Return a sharding without the mesh's axes that do not divide a length.

    Args: `sharding`, the sharding; `shape`, that of the array that gets it.
    """
    sizes = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_sizes, strict=True))

    def fits(size: int, names: Any) -> bool:
        return size % prod(sizes[name] for name in names_of(names)) == 0

    pairs = zip(shape, sharding.spec, strict=True)
    return sharding.update(
        spec=PartitionSpec(*(names if fits(size, names) else None for size, names in pairs))
    )


def einsum(subscripts: str, *operands: Any, dtype: Any = None, like: Any = None) -> Any:
    """Return `jnp.einsum` with a dtype to accumulate in, and a sharding.

    Args:
        subscripts: the letters of the axes, as for `jnp.einsum`, with "->".
        operands: the arrays.
        dtype: the dtype to accumulate in, and of the result.
        like: an array whose sharding the result gets; None for that of the operands' axes.
    """
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
    """Return a tree of arrays that vary over all axes over which others vary, within `shard_map`.

    Args: `value`, the tree of arrays; `others`, trees of arrays.
    """
    axes = varying_axes(*jax.tree.leaves(others))

    def one(leaf: Any) -> Any:
        more = tuple(sorted(axes - varying_axes(leaf)))
        return lax.pcast(leaf, more, to="varying") if more else leaf

    return jax.tree.map(one, value) if axes else value


def as_cotangent(value: Any, primal: Any) -> Any:
    """Return a tree of cotangents with the shardings and the varying axes of their primals.

    A cotangent is summed over the axes over which its primal does not vary.

    Args:
        value: the tree of cotangents.
        primal: the tree of their primals.
    """

    def one(value: Any, primal: Any) -> Any:
        if value.dtype == jax.dtypes.float0:
            return value
        axes = varying_axes(value) - varying_axes(primal)
        value = lax.psum(value, tuple(sorted(axes))) if axes else value
        return varying_like(placed(value, sharding_of(primal)), primal)

    return jax.tree.map(one, value, primal)


def added(a: Any, b: Any) -> Any:
    """Add two cotangents of one value.

    Args:
        a: a pytree of arrays.
        b: a pytree of the same structure, shapes and dtypes.

    Returns:
        the sum, a pytree like both. A float0 leaf, the cotangent of integers, stays as it is in `a`.
    """
    return jax.tree.map(lambda a, b: a if a.dtype == jax.dtypes.float0 else a + b, a, placed_like(b, a))
