"""Arrays cut along their last axis, and joined, on meshes with explicit axes where they lie there."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding

from fnn.sharding import fitting, names_of, on_mesh, sharding_of


def cut(x: Any, places: Sequence[int]) -> list[Any]:
    """Cut an array along its last axis; the parts have its sharding, where their sizes allow.

    Args:
        x: the array.
        places: the indices where it is cut.
    """
    sharding, parts = sharding_of(x), partial(jnp.split, indices_or_sections=list(places), axis=-1)
    if sharding is None or sharding.spec[-1] is None:
        return parts(x)
    ends = (0, *places, x.shape[-1])
    shapes = [(*x.shape[:-1], stop - start) for start, stop in pairwise(ends)]
    if _are_halves(shapes, sharding):
        return _on_devices(_dealt, sharding, x)
    return on_mesh(parts, [fitting(sharding, shape) for shape in shapes], x)


def joined(parts: Sequence[Any], like: Any = None) -> Any:
    """Concatenate arrays along their last axis.

    Args:
        parts: the arrays.
        like: an array whose sharding the result gets; None for that of the first part, where its size allows.
    """
    sharding = sharding_of(*parts)
    if sharding is not None:
        shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        sharding = sharding_of(*(() if like is None else (like,))) or fitting(sharding, shape)
        alike = all(sharding_of(part) == sharding for part in parts)
        if alike and _are_halves([part.shape for part in parts], sharding):
            return _on_devices(_taken_back, sharding, *parts)
    return on_mesh(lambda *parts: jnp.concatenate(parts, -1), sharding, *parts)


def _are_halves(shapes: Sequence[tuple[int, ...]], sharding: NamedSharding) -> bool:
    """Return whether parts are two of a size that is cut among the devices of a sharded last axis."""
    count = _count(sharding)
    return len(shapes) == 2 and shapes[0] == shapes[1] and count > 1 and shapes[0][-1] % count == 0


def _count(sharding: NamedSharding) -> int:
    return prod(sharding.mesh.shape[name] for name in names_of(sharding.spec[-1]))


def _on_devices(f: Any, sharding: NamedSharding, *arrays: Any) -> Any:
    """Run `f(names, count, *arrays)` on every device's own columns."""
    names, spec = names_of(sharding.spec[-1]), sharding.spec
    used = {name for own in spec for name in names_of(own)}  # of rows, too: `shard_map` gathers over others
    local = partial(f, names, _count(sharding))
    run = jax.shard_map(local, mesh=sharding.mesh, in_specs=spec, out_specs=spec, axis_names=used)
    return jax.jit(run)(*arrays)


# A sharded array is 2 t parts, of which device d of t has the parts 2d and 2d + 1. As halves it is to have d
# and t + d. In two rounds each device sends one part and gets one: in the first the even devices get their
# part of the first half and the odd ones theirs of the second, then the other way around.


def _dealt(names: Any, count: int, x: Any) -> list[Any]:
    """Return a device's columns of both halves of an array."""
    first, second = _turned(names, count, *jnp.split(x, 2, -1))
    rounds = [lax.ppermute(part, names, way) for part, way in zip((first, second), _ways(count), strict=True)]
    return _swapped(lax.axis_index(names) % 2 == 1, *rounds)


def _taken_back(names: Any, count: int, g: Any, u: Any) -> Any:
    """Undo `_dealt`."""
    rounds = _swapped(lax.axis_index(names) % 2 == 1, g, u)
    back = [[(to, of) for of, to in way] for way in _ways(count)]
    parts = [lax.ppermute(part, names, way) for part, way in zip(rounds, back, strict=True)]
    return jnp.concatenate(_turned(names, count, *parts), -1)


def _ways(count: int) -> list[list[tuple[int, int]]]:
    """Return who sends to whom in the two rounds."""
    late = [int(count % 2 == 0 and 2 * d >= count) for d in range(count)]  # who sends the second part first
    return [[(d, (2 * d + (late[d] ^ turn)) % count) for d in range(count)] for turn in range(2)]


def _turned(names: Any, count: int, first: Any, second: Any) -> list[Any]:
    """Exchange two parts on those devices that send the second first."""
    if count % 2:
        return [first, second]
    return _swapped(2 * lax.axis_index(names) >= count, first, second)


def _swapped(where: Any, a: Any, b: Any) -> list[Any]:
    return [lax.select_n(where, a, b), lax.select_n(where, b, a)]
