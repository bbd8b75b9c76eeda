"""Where a stage keeps what: slots of buffers as small as a schedule allows, and the table of ticks."""

from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

import numpy as np

from fnn.pipeline.schedule import Kind, Schedule


class Tick(NamedTuple):
    """What a stage does in a tick, and in which slots; a table of these has arrays (ticks, stages), int32.

    Args:
        kind: the number of the operation among the schedule's kinds, 0 for None.
        microbatch: that of the microbatch.
        before: the slot of the stage's input, which came from the stage before; -1 for none.
        after: the slot of the cotangent of its output, which came from the stage behind, on the last stage of
            the output itself; -1 for none.
        residuals: the slot of the residuals; -1 for none.
        factors: the slot of the factors; -1 for none.
        arrives_before: the slot of an input that arrives in this tick; -1 for none.
        arrives_after: the slot of a cotangent that arrives, on the last stage of its own output; -1 for none.
    """

    kind: Any
    microbatch: Any
    before: Any
    after: Any
    residuals: Any
    factors: Any
    arrives_before: Any
    arrives_after: Any


class Sizes(NamedTuple):
    """How many slots each buffer has.

    Args:
        before: for inputs that arrived.
        after: for cotangents that arrived.
        residuals: for residuals.
        factors: for factors.
    """

    before: int
    after: int
    residuals: int
    factors: int


def kinds(schedule: Schedule) -> tuple[str | None, ...]:
    """Return the kinds of operations that a schedule has, after None for a stage that waits."""
    used = {op.kind for ops in schedule.stages for op in ops}
    return (None, *(kind for kind in get_args(Kind) if kind in used))


def table(schedule: Schedule) -> tuple[Tick, Sizes]:
    """Return the table of a schedule's ticks, and the sizes of the buffers.

    Args:
        schedule: the schedule.
    """
    ticks, stages, numbers = len(schedule.ticks), len(schedule.stages), kinds(schedule)
    found = Tick(*(np.full((ticks, stages), -1, np.int32) for _ in Tick._fields))
    found.kind[:] = found.microbatch[:] = 0
    sizes = []
    for stage in range(stages):
        when = _when(schedule, stage)
        for tick, row in enumerate(schedule.ticks):
            if (op := row[stage]) is not None:
                found.kind[tick, stage], found.microbatch[tick, stage] = numbers.index(op.kind), op.microbatch
        last = stage == stages - 1
        arrived = _when(schedule, stage - 1)["F"] if stage else {}
        returned = when["F"] if last else _when(schedule, stage + 1)["back"]
        lives = {  # where it is written, where it is read, and from which tick to which
            "before": (found.arrives_before, found.before, arrived, when["F"]),
            "after": (found.arrives_after, found.after, returned, when["back"]),
            "residuals": (found.residuals, found.residuals, when["F"], when["back"]),
            "factors": (found.factors, found.factors, when["B"], when["W"]),
        }
        counts = []
        for written, read, begins, ends in lives.values():
            spans = {m: (begin, ends[m]) for m, begin in begins.items()}
            slots, count = _slots(spans.items())
            for m, (begin, end) in spans.items():
                written[begin, stage] = read[end, stage] = slots[m]
            counts.append(count)
        sizes.append(counts)
    most = [max(column) for column in zip(*sizes, strict=True)]
    return found, Sizes(max(most[0], 1), *most[1:])  # a pipeline of one stage sends nothing


def _when(schedule: Schedule, stage: int) -> dict[str, dict[int, int]]:
    """Return by kind in which tick a stage does each microbatch; "back" is its B or BW."""
    found: dict[str, dict[int, int]] = {kind: {} for kind in (*get_args(Kind), "back")}
    for tick, op in zip(schedule.starts[stage], schedule.stages[stage], strict=True):
        found[op.kind][op.microbatch] = tick
        if op.kind in ("B", "BW"):
            found["back"][op.microbatch] = tick
    return found


def _slots(spans: Iterable[tuple[int, tuple[int, int]]]) -> tuple[dict[int, int], int]:
    """Find a free slot for each span of ticks; one is written after it is read in the same tick."""
    slots, free_at = {}, []
    for m, (begin, end) in sorted(spans, key=lambda item: item[1]):
        slot = next((i for i, free in enumerate(free_at) if free <= begin), len(free_at))
        free_at[slot : slot + 1] = [end]
        slots[m] = slot
    return slots, len(free_at)
