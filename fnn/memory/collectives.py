"""A step on a mesh: what one device has of it, and what the devices exchange, as the compiler says."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fnn.errors import InputError, describe
from fnn.memory.accounting import Compiled
from fnn.memory.hlo import Collective, collectives_of
from fnn.memory.placed import bytes_per_device, shardings_like


@dataclass(frozen=True)
class PerDevice:
    """What one device of a mesh has of a training step, in bytes.

    Args:
        params: the bytes of its part of the params.
        gradients: those of the gradients, which lie like the params.
        optimizer: those of the optimizer's state.
        compiled: the compiler's count for one device, or None where nothing was compiled.
        collectives: a `Collective` for each kind of exchange, in the order of their bytes.

    >>> PerDevice(64, 64, 128, None, ()).optimizer
    128
    """

    params: int
    gradients: int
    optimizer: int
    compiled: Compiled | None
    collectives: tuple[Collective, ...]

    def __str__(self) -> str:
        rows = [(name, getattr(self, name)) for name in ("params", "gradients", "optimizer")]
        lines = [f"on each device: {name:9}  {value:15,}" for name, value in rows]
        return "\n".join([*lines, *map(str, self.collectives)])


def on_devices(
    step: Any, params: Any, state: Any, x: Any, y: Any, shardings: Any, target: str | None
) -> PerDevice:
    """Count what one device has of a training step, and compile the step for the devices that are here.

    Args:
        step: the step, `step(params, state, x, dy) -> (params, state)`.
        params: the shapes of the params.
        state: those of the optimizer's state.
        x: the input, an array or a shape with its sharding.
        y: the shape of the output.
        shardings: a tree like the params, with the sharding of each.
        target: "here" to compile the step; None not to.

    Raises:
        InputError: where the target is another, or the input's sharding is not known.
    """
    lie = shardings_like(state, params, shardings)
    sizes = bytes_per_device(params, shardings), bytes_per_device(state, lie)
    if target is None:
        return PerDevice(sizes[0], *sizes, None, ())
    if target != "here":
        wanted = 'target="here" or None, with shardings'
        fix = 'fnn.memory.report(net, params, x, target="here", shardings=shardings)'
        raise InputError("report", wanted, repr(target), fix)
    mesh = jax.tree.leaves(shardings)[0].mesh

    def own(leaf: Any) -> NamedSharding | None:
        given = leaf.sharding if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) else None
        return given if isinstance(given, NamedSharding) else None

    rows = [own(leaf) for leaf in jax.tree.leaves(x)]
    if not rows or None in rows:
        wanted = "x with a sharding on the mesh, as shardings are given"
        fix = (
            f"jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P({mesh.axis_names[0]!r})))"
        )
        raise InputError("report", wanted, describe(x), fix)
    first = PartitionSpec(*(rows[0].spec[:1] if rows[0] else ()))

    def shape(leaf: Any, sharding: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    of_rows = jax.tree.map(lambda leaf: NamedSharding(mesh, first if jnp.ndim(leaf) else PartitionSpec()), y)
    args = jax.tree.map(shape, (params, state), (shardings, lie))
    data = jax.tree.map(lambda leaf: shape(leaf, own(leaf)), x), jax.tree.map(shape, y, of_rows)
    program = _compiled(step, (shardings, lie), *args, *data)
    count = program.memory_analysis()
    compiled = Compiled(
        count.argument_size_in_bytes,
        count.output_size_in_bytes,
        count.alias_size_in_bytes,
        count.temp_size_in_bytes,
    )
    return PerDevice(sizes[0], *sizes, compiled, collectives_of(program.as_text()))


def _compiled(step: Any, out: Any, *args: Any) -> Any:
    return jax.jit(step, donate_argnums=(0, 1), out_shardings=out).lower(*args).compile()
