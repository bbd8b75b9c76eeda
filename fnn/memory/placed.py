"""Where trees lie that hold copies of the params, and what a device has of a tree."""

from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fnn.core import Params
from fnn.errors import InputError

Path = tuple[Any, ...]


def bytes_per_device(tree: Any, shardings: Any) -> int:
    """Count the bytes that one device has of a tree.

    Args:
        tree: a pytree of arrays or shapes.
        shardings: a tree like it, with the sharding of each.

    >>> lie = NamedSharding(jax.make_mesh((1,), ("data",)), PartitionSpec("data"))
    >>> bytes_per_device(jax.ShapeDtypeStruct((4, 8), "float32"), lie)
    128
    """
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    return sum(prod(lie.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, lie in pairs)


def shardings_like(tree: Any, params: Params, shardings: Any) -> Any:
    """Return where the leaves of a tree lie that holds copies of the params, such as an optimizer's state.

    Args:
        tree: a pytree of arrays or shapes: an optax state, an average, an `fnn.train.State`.
        params: the params, or their shapes.
        shardings: a tree like the params with the sharding of each.

    Returns:
        a tree like `tree` of `NamedSharding`: that of the param whose path a leaf's path ends in, or has in
        it, and whose shape the leaf has; of a leaf that lacks one axis of that shape, as adafactor's
        statistics do, the same without that axis, if one axis fits; every other leaf lies on every device.

    Raises:
        InputError: where there are no params, or the shardings are not like them.

    >>> import optax
    >>> params = {"kernel": jax.ShapeDtypeStruct((4, 8), "float32")}
    >>> placed = {"kernel": NamedSharding(jax.make_mesh((1,), ("data",)), PartitionSpec("data"))}
    >>> state = jax.eval_shape(optax.adam(1e-3).init, params)
    >>> found = shardings_like(state, params, placed)
    >>> found[0].count.spec, found[0].mu["kernel"].spec
    (P(), P('data',))
    """
    known = jax.tree.leaves_with_path(params)
    placed = jax.tree.leaves(shardings)
    if not known or jax.tree.structure(params) != jax.tree.structure(shardings):
        wanted, got = "a tree of shardings like the params", str(jax.tree.structure(shardings))
        raise InputError("shardings_like", wanted, got, "fnn.train.shardings(net, params, mesh)")
    shapes = [(path, np.shape(leaf)) for path, leaf in known]
    # of paths that a leaf's has in it, the longest says most: ("head", "bias") more than ("bias",)
    pairs = sorted(zip(shapes, placed, strict=True), key=lambda pair: -len(pair[0][0]))

    def one(path: Path, leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        for inside in (_ends_in, _has):
            for (own, wanted), sharding in pairs:
                found = _spec_for(shape, wanted, sharding.spec) if inside(path, own) else None
                if found is not None:
                    return NamedSharding(sharding.mesh, found)
        return NamedSharding(placed[0].mesh, PartitionSpec())

    return jax.tree.map_with_path(one, tree)


def _spec_for(shape: tuple[int, ...], param: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec | None:
    """Return the partitions of an array of the param's shape, or of that less one axis; None for others."""
    if shape == param:
        return spec
    partitions = [*spec, *(None,) * (len(param) - len(spec))]
    without = [
        PartitionSpec(*partitions[:axis], *partitions[axis + 1 :])
        for axis in range(len(param))
        if param[:axis] + param[axis + 1 :] == shape
    ]
    return without[0] if len(set(without)) == 1 else None


def _ends_in(path: Path, own: Path) -> bool:
    return path[len(path) - len(own) :] == own


def _has(path: Path, own: Path) -> bool:
    return any(path[i : i + len(own)] == own for i in range(len(path) - len(own) + 1)) and bool(own)
