"""An optimized program of a compiler, read as text: its collectives, and how often its loops run.

TPUs have two forms of their own. A collective that runs beside products stands in the program several times:
where it starts, in each product beside it, and where it is done, all with one "chain_id". A reduce-scatter is
a fused computation of an all-reduce and slices of it. And their loops do not say how often they run.
"""

import re
from collections import defaultdict
from math import prod
from typing import NamedTuple

OPERATIONS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BEGIN = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^ +(ROOT )?%([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)$")
CALLED = re.compile(
    r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
    r"|branch_computations=\{([^}]*)\}"
)
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
CHAIN = re.compile(r'chain_id="(\d+)"')
NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
ARRAY = re.compile(r"\b([a-z]+\d+|pred)(?:[a-z]\w*)?\[([\d,]*)\]")
LOOP = re.compile(r"condition=%?([\w.-]+), body=%?([\w.-]+)")
SAME = ("copy", "bitcast", "convert")  # what passes a number on


class Collective(NamedTuple):
    """One kind of exchange between the devices of a compiled program.

    Args:
        op: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
        bytes: the bytes of its result on one device, of a reduce-scatter those of its operand, each time.
        times: how often it runs; in a loop of which the program does not say how often that runs, once.
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


class Instruction(NamedTuple):
    """One line of a program.

    Args:
        name: the name of its result.
        result: the result's type, an array or a tuple.
        op: the operation.
        operands: the names of its operands, and of the computations behind them.
        rest: the line from the operands on.
        where: the operation of the source that it is for; "" where the compiler names none.
    """

    name: str
    result: str
    op: str
    operands: list[str]
    rest: str
    where: str


class Computation(NamedTuple):
    """A part of a program. Args: `lines`, by the names of their results; `root`, the name of its result."""

    lines: dict[str, Instruction]
    root: list[str]


def collectives_of(program: str) -> tuple[Collective, ...]:
    r"""List the collectives of an optimized program, those of most bytes first.

    Args:
        program: the text of the program for one device, `compiled.as_text()`.

    >>> text = 'ENTRY %main (p: f32[8]) -> f32[8] {\n  %a = f32[8]{0} all-reduce(%p), channel_id=1\n}'
    >>> collectives_of(text)
    (Collective(op='all-reduce', bytes=32, times=1, where=''),)
    """
    parts, entry = _computations(program)
    counts: dict[tuple[str, int, str], int] = defaultdict(int)

    def walk(name: str, times: int, outside: str, chains: set[str]) -> None:
        inside: set[str] = set()  # the chains whose steps the fusions of this computation are
        for line in parts[name].lines.values() if name in parts else ():
            op, chain = line.op.removesuffix("-start"), CHAIN.search(line.rest)
            if op in OPERATIONS and not (chain and chain[1] in chains):
                chains |= {chain[1]} if chain else set()
                scatters = op == "all-reduce" and name.startswith("all-reduce-scatter")
                where = line.where or outside
                size = _bytes_of(line, parts[name])
                counts["reduce-scatter" if scatters else op, size, where.partition("/")[2]] += times
            more = trips_of(line, parts[name], parts) if line.op == "while" else 1
            for callee, branches in CALLED.findall(line.rest):
                for one in [callee] if callee else re.findall(r"[\w.-]+", branches):
                    walk(one, times * more, line.where, inside)

    walk(entry, 1, "", set())
    found = [Collective(op, size, count, where) for (op, size, where), count in counts.items()]
    return tuple(sorted(found, key=lambda one: -one.bytes * one.times))


def trips_of(loop: Instruction, around: Computation, parts: dict[str, Computation]) -> int:
    """Return how often a loop runs: as the program says, or as a number that is counted up to another shows.

    Args:
        loop: the loop.
        around: the computation in which it stands.
        parts: all computations by their names.

    Returns:
        the number; 1 where it does not show.
    """
    if known := TRIPS.search(loop.rest):
        return int(known[1])
    names = LOOP.search(loop.rest)
    if names is None or names[1] not in parts or names[2] not in parts:
        return 1
    condition, body = parts[names[1]], parts[names[2]]
    test = _root(condition)
    if test is None or test.op != "compare" or "direction=LT" not in test.rest:
        return 1
    counter, end = _source(test.operands[0], condition), _number(test.operands[1], condition)
    if counter is None or counter.op != "get-tuple-element" or end is None:
        return 1
    place = _index(counter)
    start = _number(_element(_source(loop.operands[0], around), place), around)
    after = _source(_element(_root(body), place), body)
    if start is None or after is None or after.op != "add":
        return 1
    before, step = _source(after.operands[0], body), _number(after.operands[1], body)
    if before is None or before.op != "get-tuple-element" or not step:
        return 1
    return max(0, -(-(end - start) // step)) if _index(before) == place and step > 0 else 1


def _computations(program: str) -> tuple[dict[str, Computation], str]:
    """Return the parts of a program by name, and the name of that which is run."""
    parts: dict[str, Computation] = {}
    entry, own, unnamed = "", Computation({}, []), {}
    for line in program.splitlines():
        if begin := BEGIN.match(line):
            own = parts[begin[2]] = Computation({}, [])
            entry, unnamed = begin[2] if begin[1] else entry, {}  # by the values that come of them
            continue
        found = INSTRUCTION.match(line)
        if found is None:
            continue
        root, name, result, op, rest = found.groups()
        named = NAME.search(rest)
        where = named[1] if named else ""
        operands = re.findall(r"%([\w.-]+)", rest.partition("metadata=")[0])
        own.lines[name] = Instruction(name, result, op, operands, rest, where)
        own.root.extend([name] if root else [])
        waiting = {one for operand in operands for one in unnamed.get(operand, ())}
        waiting |= {name} if op.removesuffix("-start") in OPERATIONS else set()
        for one in waiting if where else ():
            own.lines[one] = own.lines[one]._replace(where=own.lines[one].where or where)
        if waiting and not where:
            unnamed[name] = waiting
    return parts, entry


def _index(element: Instruction) -> int:
    return int(element.rest.partition("index=")[2].partition(",")[0])


def _root(part: Computation) -> Instruction | None:
    return part.lines.get(part.root[0]) if part.root else None


def _source(name: str | None, part: Computation) -> Instruction | None:
    """Return the instruction that a value comes of, behind copies."""
    line = part.lines.get(name or "")
    while line is not None and line.op in SAME and line.operands:
        line = part.lines.get(line.operands[0])
    return line


def _element(tuple_: Instruction | None, place: int) -> str | None:
    return tuple_.operands[place] if tuple_ and tuple_.op == "tuple" else None


def _number(name: str | None, part: Computation) -> int | None:
    """Return the integer that a value is, where it is a constant."""
    line = _source(name, part)
    found = re.match(r"(-?\d+)\)", line.rest) if line and line.op == "constant" else None
    return int(found[1]) if found else None


def _bytes_of(line: Instruction, part: Computation) -> int:
    """Count the bytes of a result; of a start, whose tuple may hold the operand too, the largest array's."""
    if line.op.startswith("reduce-scatter"):
        own = [part.lines[name].result for name in line.operands if name in part.lines]
        return sum(_sizes(" ".join(own))) or sum(_sizes(line.result))
    sizes = _sizes(line.result)
    started = line.op.endswith("-start") and line.result.startswith("(")
    return max(sizes, default=0) if started else sum(sizes)


def _sizes(types: str) -> list[int]:
    """Return the bytes of each array of a type."""

    def size(kind: str, shape: str) -> int:
        bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
        return (prod(int(n) for n in shape.split(",") if n) * bits + 7) // 8

    return [size(kind, shape) for kind, shape in ARRAY.findall(types)]
