"""A step on a mesh: what one device has of it, and what the devices exchange, as the compiler says."""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fnn.errors import InputError, describe
from fnn.memory.accounting import Compiled
from fnn.memory.placed import bytes_per_device, shardings_like

OPERATIONS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BEGIN = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(OPERATIONS)})(-start)?\(")
CALLED = re.compile(
    r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
    r"|branch_computations=\{([^}]*)\}"
)
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
ARRAY = re.compile(r"\b([a-z]+\d+|pred)(?:[a-z]\w*)?\[([\d,]*)\]")


class Collective(NamedTuple):
    """One kind of exchange between the devices of a compiled program.

    Args:
        op: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
        bytes: the bytes of its result on one device, each time.
        times: how often it runs; in a loop of a length that the compiler does not know, once for the loop.
        where: the operation that it is for, as the program names it, by the places of layers from outside in
            ("loss" for the loss), such as "layers[2]/while/body/layer/dot_general"; where the compiler names
            none, the first that takes its result.

    >>> str(Collective("all-reduce", 1024, 3, "layers[2]/while/body/layer/dot_general"))
    '3 x all-reduce of 1,024 bytes for layers[2]/while/body/layer/dot_general'
    """

    op: str
    bytes: int
    times: int
    where: str

    def __str__(self) -> str:
        return f"{self.times} x {self.op} of {self.bytes:,} bytes for {self.where}"


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


def collectives_of(program: str) -> tuple[Collective, ...]:
    r"""List the collectives of an optimized program, those of most bytes first.

    Args:
        program: the text of the program for one device, `compiled.as_text()`.

    >>> text = 'ENTRY %main (p: f32[8]) -> f32[8] {\n  %a = f32[8]{0} all-reduce(%p), channel_id=1\n}'
    >>> collectives_of(text)
    (Collective(op='all-reduce', bytes=32, times=1, where=''),)
    """
    own, calls, entry, name = defaultdict(list), defaultdict(list), "", ""
    unnamed: dict[str, list[Any]] = {}  # by the values that come of them, in this part of the program
    for line in program.splitlines():
        if begin := BEGIN.match(line):
            name, unnamed = begin[2], {}
            entry = name if begin[1] else entry
            continue
        where, names = NAME.search(line), re.findall(r"%([\w.-]+)", line.partition("metadata=")[0])
        taken = [unnamed[operand] for operand in names[1:] if operand in unnamed]
        if found := COLLECTIVE.search(line):
            taken.append([found[2], _bytes(found[1], bool(found[3])), ""])
            own[name].append(taken[-1])
        for one in taken:
            one[2] = one[2] or (where[1] if where else "")
            unnamed |= {} if one[2] else {names[0]: one}
        trips = TRIPS.search(line)
        for callee, branches in CALLED.findall(line):
            for one in [callee] if callee else re.findall(r"[\w.-]+", branches):
                calls[name].append((one, int(trips[1]) if trips else 1))
    counts: dict[tuple[str, int, str], int] = defaultdict(int)

    def walk(name: str, times: int) -> None:
        for op, size, where in own[name]:
            counts[op, size, where.partition("/")[2]] += times
        for callee, more in calls[name]:
            walk(callee, times * more)

    walk(entry, 1)
    found = [Collective(op, size, count, where) for (op, size, where), count in counts.items()]
    return tuple(sorted(found, key=lambda one: -one.bytes * one.times))


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


def _bytes(result: str, started: bool) -> int:
    """Count the bytes of a result, an array or a tuple; that of a start may hold the operand too."""
    arrays = ARRAY.findall(result)
    sizes = []
    for kind, shape in arrays:
        bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
        size = 1
        for n in filter(None, shape.split(",")):
            size *= int(n)
        sizes.append((size * bits + 7) // 8)
    return max(sizes, default=0) if started and result.startswith("(") else sum(sizes)
