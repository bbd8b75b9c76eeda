"""A schedule of a pipeline, as a value: what each stage does, in which order, and what follows from that."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from fnn.errors import InputError

Kind = Literal["F", "B", "W", "BW"]


class Op(NamedTuple):
    """One operation of a stage.

    Args:
        kind: "F": forwards; "B": backwards to the cotangent of the stage's input, which goes to the stage
            before, and the factors; "W": the factors' gradients; "BW": both at once, and the cotangent goes
            after both.
        microbatch: the number of the microbatch.

    >>> str(Op("F", 3))
    'F3'
    """

    kind: Kind
    microbatch: int

    def __str__(self) -> str:
        return f"{self.kind}{self.microbatch}"


@dataclass(frozen=True)
class Schedule:
    """What each stage of a pipeline does, in which order.

    A stage begins an operation as soon as it is done with the one before and has what it needs: F(m) the
    output of F(m) on the stage before, B(m) or BW(m) its own F(m) and the cotangent from the stage behind.
    Printed, a schedule is a table of ticks in which every operation takes one.

    Args:
        stages: for each stage its operations in order: for every microbatch 0 .. m - 1 an F, then a BW or a B
            and a W.

    Raises:
        InputError: where an operation is missing, occurs twice, or waits for one that waits for it.

    >>> print(Schedule(((Op("F", 0), Op("BW", 0)), (Op("F", 0), Op("B", 0), Op("W", 0)))))
    F0  .   .   BW0
    .   F0  B0  W0
    """

    stages: tuple[tuple[Op, ...], ...]
    starts: ClassVar[tuple[tuple[int, ...], ...]]  # of each stage's operations, where each takes one tick

    def __post_init__(self) -> None:
        for number, ops in enumerate(self.stages):
            _check(number, ops, self.microbatches)
        vars(self)["starts"] = tuple(map(tuple, _simulated(self.stages, dict.fromkeys(get_args(Kind), 1))))

    def __str__(self) -> str:
        cells = [[str(op or ".") for op in row] for row in zip(*self.ticks, strict=True)]
        width = max((len(cell) for row in cells for cell in row), default=0)
        return "\n".join(" ".join(cell.ljust(width) for cell in row).rstrip() for row in cells)

    @property
    def microbatches(self) -> int:
        """The number of microbatches."""
        return len({op.microbatch for ops in self.stages for op in ops})

    @cached_property
    def ticks(self) -> tuple[tuple[Op | None, ...], ...]:
        """For each tick what each stage does, None where it waits, if every operation takes one tick."""
        length = max((start + 1 for row in self.starts for start in row), default=0)
        at = [dict(zip(row, ops, strict=True)) for row, ops in zip(self.starts, self.stages, strict=True)]
        return tuple(tuple(row.get(tick) for row in at) for tick in range(length))

    def times(self, f: float = 1.0, b: float = 1.0, w: float = 1.0) -> tuple[tuple[float, ...], ...]:
        """Return when each operation of each stage begins. Args: `f`, `b`, `w`, as for `bubble`."""
        return tuple(map(tuple, _simulated(self.stages, _costs(f, b, w))))

    def bubble(self, f: float = 1.0, b: float = 1.0, w: float = 1.0) -> float:
        """Return the share of the stages' time, from the first operation to the last, in which they wait.

        Args:
            f: the time that an F takes.
            b: the time that a B takes.
            w: the time that a W takes; a BW takes b + w.

        Returns:
            a number in [0, 1). Nothing is counted for what is sent between stages.

        >>> from fnn.pipeline import gpipe
        >>> gpipe(2, 3).bubble()
        0.25
        """
        costs, starts = _costs(f, b, w), self.times(f, b, w)
        pairs = zip(starts, self.stages, strict=True)
        end = max(row[-1] + costs[ops[-1].kind] for row, ops in pairs)
        busy = sum(costs[op.kind] for ops in self.stages for op in ops)
        return 1 - busy / (end * len(self.stages))

    @property
    def in_flight(self) -> int:
        """The most microbatches that a stage is done with forwards, and not backwards: their residuals."""
        return max(_peak(ops, {"F": 1, "B": -1, "BW": -1}) for ops in self.stages)

    @property
    def waiting(self) -> int:
        """The most microbatches whose factors wait on a stage for their W."""
        return max(_peak(ops, {"B": 1, "W": -1}) for ops in self.stages)

    @property
    def held(self) -> int:
        """The most microbatches of which a stage holds anything, residuals or factors."""
        return max(_peak(ops, {"F": 1, "W": -1, "BW": -1}) for ops in self.stages)


def _costs(f: float, b: float, w: float) -> dict[str, float]:
    return {"F": f, "B": b, "W": w, "BW": b + w}


def _peak(ops: Sequence[Op], change: dict[str, int]) -> int:
    count, most = 0, 0
    for op in ops:
        count += change.get(op.kind, 0)
        most = max(most, count)
    return most


def _check(number: int, ops: Sequence[Op], microbatches: int) -> None:
    """Raise unless a stage has each operation once, and in an order in which it can do them."""
    own = {m: [op.kind for op in ops if op.microbatch == m] for m in range(microbatches)}
    good = all(kinds in (["F", "BW"], ["F", "B", "W"]) for kinds in own.values())
    if not good or not ops or len(ops) > sum(map(len, own.values())):
        wanted = f"for each microbatch F and then BW, or F, B and W, on stage {number}"
        got = " ".join(map(str, ops)) or "nothing"
        raise InputError("Schedule", wanted, got, "fnn.pipeline.one_f_one_b(stages=4, microbatches=8)")


def _needed(op: Op, stage: int, stages: int) -> list[tuple[int, tuple[Op, ...]]]:
    """Return what an operation waits for: pairs of a stage and operations of which that has one."""
    m = op.microbatch
    if op.kind == "F":
        return [(stage - 1, (op,))] if stage else []
    if op.kind == "W":
        return [(stage, (Op("B", m),))]
    behind = [(stage + 1, (Op("B", m), Op("BW", m)))] if stage + 1 < stages else []
    return [(stage, (Op("F", m),)), *behind]


def _simulated(stages: Sequence[Sequence[Op]], costs: Any) -> list[list[Any]]:
    """Return when each operation begins; raise where one can never begin."""
    starts: list[list[Any]] = [[] for _ in stages]
    done: dict[tuple[int, Op], Any] = {}
    free = Counter[int]()
    moved = True
    while moved:
        moved = False
        for stage, ops in enumerate(stages):
            while len(starts[stage]) < len(ops):
                op = ops[len(starts[stage])]
                needed = _needed(op, stage, len(stages))
                waits = [[done[where, one] for one in ones if (where, one) in done] for where, ones in needed]
                if [] in waits:
                    break
                start = max([free[stage], *sum(waits, [])])
                starts[stage].append(start)
                done[stage, op] = free[stage] = start + costs[op.kind]
                moved = True
    stuck = [str(ops[len(s)]) for s, ops in zip(starts, stages, strict=True) if len(s) < len(ops)]
    if stuck:
        wanted = "an order in which no operation waits for one that waits for it"
        got = f"stages that wait at {', '.join(stuck)}"
        raise InputError("Schedule", wanted, got, "fnn.pipeline.one_f_one_b(stages=4, microbatches=8)")
    return starts
