"""Rules with a name: how a preset chooses the sharded axes of every param."""

import warnings
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from jax.sharding import NamedSharding, PartitionSpec

from fnn.errors import InputError
from fnn.train.axes import Node, Param
from fnn.train.tensor import follow


class Spec:
    """The mesh's axes over which each axis of one param is sharded, as it is being chosen.

    Args:
        param: the param.
        mesh: the mesh.
    """

    def __init__(self, param: Param, mesh: Any) -> None:
        self.param, self.mesh = param, mesh
        self.axes: list[tuple[str, ...]] = [()] * len(param.shape)

    def take(self, axis: int, name: str) -> bool:
        """Shard an axis over an axis of the mesh, if that is free and divides it; return whether it is.

        Args:
            axis: the number of the axis of the param.
            name: the name of the axis of the mesh.
        """
        names = (*self.axes[axis], name)
        if any(name in own for own in self.axes):
            return name in self.axes[axis]
        if self.param.shape[axis] % prod(self.mesh.shape[name] for name in names):
            return False
        self.axes[axis] = names
        return True

    def take_largest(self, name: str) -> None:
        """Shard the largest axis that is whole, and is none of a stack, over an axis of the mesh."""
        order = sorted(range(len(self.axes)), key=lambda axis: -self.param.shape[axis])
        for axis in order:
            if not self.axes[axis] and self.param.axes[axis] != "layers" and self.take(axis, name):
                return

    def sharding(self) -> NamedSharding:
        """Return the sharding."""
        names = [own[0] if len(own) == 1 else own or None for own in self.axes]
        return NamedSharding(self.mesh, PartitionSpec(*names))


def _fsdp(specs: Sequence[Spec], whole: Node, axis: str) -> None:
    for spec in specs:
        spec.take_largest(axis)


def _tensor(specs: Sequence[Spec], whole: Node, axis: str) -> None:
    decided = set()  # of a param that is used twice, the first use decides

    def take(number: int | None, place: int) -> bool:
        if number is None:
            return False
        spec, chosen = specs[number], number in decided
        decided.add(number)
        return bool(spec.axes[place]) if chosen else spec.take(len(spec.axes) + place, axis)

    follow(whole, False, take)
    for number, spec in enumerate(specs):
        if number not in decided and "vocabulary" in spec.param.axes:  # of a loss
            spec.take(spec.param.axes.index("vocabulary"), axis)


Half = tuple[Callable[[Sequence[Spec], Node, str], None], tuple[str, ...]]  # and the mesh's axes to look for
FSDP: Half = (_fsdp, ("fsdp", "data"))
TENSOR: Half = (_tensor, ("tensor", "model"))
PRESETS: dict[str, tuple[Half, ...]] = {
    "data": (),
    "fsdp": (FSDP,),
    "tensor": (TENSOR,),
    "fsdp+tensor": (TENSOR, FSDP),
}


def choose(specs: Sequence[Spec], whole: Node, mesh: Any, preset: str, large: int) -> None:
    """Choose by a preset, and warn of what is large and lies on every device all the same.

    Args:
        specs: a `Spec` for each param, in the order of the leaves.
        whole: the node of the whole network.
        mesh: the mesh.
        preset: the preset's name.
        large: the number of elements from which on a param is large.

    Raises:
        InputError: where there is no preset of this name, or the mesh has none of its axes.
    """
    if preset not in PRESETS:
        wanted = f"rules, or one of the presets {', '.join(PRESETS)}"
        raise InputError("shardings", wanted, repr(preset), 'fnn.train.shardings(net, params, mesh, "fsdp")')
    over = []
    for half, names in PRESETS[preset]:
        axis = next((name for name in names if name in mesh.axis_names), None)
        if axis is None:
            wanted = f"a mesh with an axis {' or '.join(map(repr, names))}, for {preset!r}"
            axes = ", ".join(repr(own[0]) for _, own in reversed(PRESETS[preset]))
            sizes = (1,) * (len(PRESETS[preset]) - 1)
            fix = f"jax.make_mesh({(*sizes, mesh.size)}, ({axes},))"
            raise InputError("shardings", wanted, f"the axes {mesh.axis_names}", fix)
        over.append(axis)
        half(specs, whole, axis)
    for spec in specs if over else ():
        if prod(spec.param.shape) >= large and not any(spec.axes):
            why = _reason(spec.param, preset, {name: mesh.shape[name] for name in over})
            warnings.warn(f"{spec.param} lies on every device under {preset!r}: {why}", stacklevel=3)


def _reason(param: Param, preset: str, sizes: dict[str, int]) -> str:
    """Return why a param is not sharded over axes of the mesh of these sizes."""
    own = [size for name, size in zip(param.axes, param.shape, strict=True) if name != "layers"]
    if not any(size % n == 0 for size in own for n in sizes.values()):
        return f"none of its axes is divided by {' or '.join(f'{n} ({a!r})' for a, n in sizes.items())}"
    if set(param.axes) <= {None, "layers"}:
        return "its layer does not name its axes"
    return f"of the axes {tuple(param.axes)} the one to shard is not divided, or there is none"
