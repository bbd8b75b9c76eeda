"""Schedules as values: what they promise of bubbles and of memory, by counting."""

from itertools import product
from typing import Any

import numpy as np
import pytest

import fnn
from fnn.pipeline import Op, Schedule, gpipe, one_f_one_b, zero_bubble
from fnn.pipeline.slots import kinds, table

SIZES = [(p, m) for p, m in product((1, 2, 3, 4, 8), (1, 2, 3, 5, 8, 16, 24))]
COSTS = [(1.0, 1.0, 1.0), (1.0, 1.2, 0.8), (0.7, 1.0, 1.0), (1.0, 1.5, 1.5)]
MAKERS = [gpipe, one_f_one_b, zero_bubble]


def ops(*rows: str) -> Any:
    return tuple(tuple(Op(op[:-1], int(op[-1])) for op in row.split()) for row in rows)  # pyright: ignore


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("stages, microbatches", SIZES)
def test_every_operation_waits_for_what_it_needs(maker, stages, microbatches):
    """Against the definition, and not against the code that puts them in order."""
    schedule = maker(stages, microbatches)
    at = {(stage, op.kind[0], op.microbatch): tick for tick, row in enumerate(schedule.ticks)
          for stage, op in enumerate(row) if op is not None}  # fmt: skip
    whole = maker is not zero_bubble
    assert len(at) == stages * microbatches * (2 if whole else 3)
    for stage, m in product(range(stages), range(microbatches)):
        assert stage == 0 or at[stage - 1, "F", m] < at[stage, "F", m]
        assert at[stage, "F", m] < at[stage, "B", m]
        assert stage == stages - 1 or at[stage + 1, "B", m] < at[stage, "B", m]
        assert whole or at[stage, "B", m] < at[stage, "W", m]


@pytest.mark.parametrize("f, b, w", COSTS)
@pytest.mark.parametrize("stages, microbatches", SIZES)
def test_bubbles_are_those_of_the_papers(stages, microbatches, f, b, w):
    p, m = stages, microbatches
    share = (p - 1) / (m + p - 1)
    assert gpipe(p, m).bubble(f, b, w) == pytest.approx(share, abs=1e-12)
    assert one_f_one_b(p, m).bubble(f, b, w) == pytest.approx(share, abs=1e-12)
    zero = zero_bubble(p, m).bubble(f, b, w)
    assert zero < share or p == 1
    if m >= p and b >= w and f >= w - 1e-9:
        waits = (p - 1) * (f + b - w)
        assert zero == pytest.approx(waits / (m * (f + b + w) + waits), abs=1e-12)


@pytest.mark.parametrize("stages, microbatches", SIZES)
def test_what_is_held(stages, microbatches):
    p, m = stages, microbatches
    assert (gpipe(p, m).in_flight, gpipe(p, m).waiting) == (m, 0)
    assert (one_f_one_b(p, m).in_flight, one_f_one_b(p, m).waiting) == (min(p, m), 0)
    zero = zero_bubble(p, m)
    assert zero.held <= min(p, m) and zero.in_flight <= min(p, m) and zero.waiting <= min(p, m)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("stages, microbatches", SIZES)
def test_no_slot_is_written_before_it_is_read(maker, stages, microbatches):
    """What a stage reads is what was written for that microbatch: slots are followed tick by tick."""
    schedule = maker(stages, microbatches)
    ticks, sizes = table(schedule)
    names = kinds(schedule)
    assert (sizes.residuals, sizes.factors) == (schedule.in_flight, schedule.waiting)
    held: Any = [[{} for _ in range(stages)] for _ in range(4)]
    before, after, residuals, factors = held
    for tick in range(len(schedule.ticks)):
        arrives = []
        for s in range(stages):
            kind, m = names[ticks.kind[tick, s]], ticks.microbatch[tick, s]
            if kind == "F":
                assert s == 0 or before[s][ticks.before[tick, s]] == m
                residuals[s][ticks.residuals[tick, s]] = m
                arrives.append((before, s + 1, m) if s + 1 < stages else (after, s, m))
            elif kind in ("B", "BW"):
                assert after[s][ticks.after[tick, s]] == residuals[s][ticks.residuals[tick, s]] == m
                arrives += [(after, s - 1, m)] if s else []
                if kind == "B":
                    factors[s][ticks.factors[tick, s]] = m
            elif kind == "W":
                assert factors[s][ticks.factors[tick, s]] == m
        for buffer, s, m in arrives:
            slots = ticks.arrives_before if buffer is before else ticks.arrives_after
            assert 0 <= slots[tick, s] < (sizes.before if buffer is before else sizes.after)
            buffer[s][slots[tick, s]] = m
        assert sum(int(np.sum(slots[tick] >= 0)) for slots in ticks[-2:]) == len(arrives)


@pytest.mark.parametrize("rows", [
    ("F0",), ("F0 BW0 BW0",), ("BW0 F0",), ("F0 W0 B0",), ("F0 B0",), ("F0 F0 BW0 BW0",), ("F1 BW1",), ("",),
    ("F0 BW0", "F0 BW0 F1 BW1"), ("F0 BW0 F1 BW1", "F1 BW1 F0 BW0"),
])  # fmt: skip
def test_what_is_no_schedule_is_refused(rows):
    with pytest.raises(fnn.InputError, match=r"fnn.pipeline.one_f_one_b\(stages=4, microbatches=8\)"):
        Schedule(ops(*rows))


def test_a_schedule_is_a_value():
    assert one_f_one_b(3, 4) == one_f_one_b(3, 4) != gpipe(3, 4)
    assert len({zero_bubble(2, 3), zero_bubble(2, 3)}) == 1
    assert str(gpipe(2, 1)) == "F0  .   .   BW0\n.   F0  BW0 ."
