"""The backward pass with a dial for every mistake: at 0 it is right, at 1 the mistake is made.

One compiled function takes all the dials, so that trying a mistake costs one run. In a single dial the
gradient is a straight line, so a wrong factor on a path is read off, not searched for. A line of code that
is run again and again (a loop that was unrolled) has one dial for all its repetitions.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vjpcheck.arguments import exact
from vjpcheck.attempt import Attempts, Budget
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.altered import Altered, alterations
from vjpcheck.diagnose.backward import Named
from vjpcheck.diagnose.board import ABSENT, Board, Dial, Slot
from vjpcheck.diagnose.faults import faults
from vjpcheck.diagnose.hypothesis import Evidence
from vjpcheck.diagnose.loops import loops
from vjpcheck.diagnose.mistaken import mistaken
from vjpcheck.diagnose.operate import Ending, RegionFaults, Rules
from vjpcheck.diagnose.regions import Region, formula_faults, region_faults, regions
from vjpcheck.diagnose.repeats import Key, Repeats
from vjpcheck.diagnose.spans import span_faults, spans
from vjpcheck.diagnose.statistic import statistic
from vjpcheck.effort import compile_quickly, in_float64
from vjpcheck.interpret import Operation, wider
from vjpcheck.reference import Arrays, Trace, pull
from vjpcheck.source import source

LIMIT = 2000  # dials; a longer forward pass is searched up to there
DROP = Kind.TERM_DROPPED


@dataclass(frozen=True)
class _Notes:
    """What is known of one jaxpr (which is kept, so that its id stays its own)."""

    program: Any
    repeats: Repeats
    ends: dict[Any, list[tuple[Region, RegionFaults]]]
    made: dict[Any, Any]


class Panel:
    """All dials of a trace, and the gradients that they set: those for `formulas` of activations apart.

    Args: `traced`, the trace of the primal; `budget`, the seconds of the check; `formulas`, whether the dials
    are those for formulas of activations.
    """

    def __init__(self, traced: Trace, budget: Budget, formulas: bool = False):
        self.dials: list[Dial] = []
        self._boards: dict[tuple[int, ...], Board] = {}
        self._numbers: dict[Any, int] = {}
        self._keys: dict[tuple[int, ...], Key] = {}
        self._notes: dict[int, _Notes] = {}
        self._traced, self._formulas = traced, formulas
        self.budget: Budget = budget
        self.attempts: Attempts = Attempts()
        outputs = [traced.shapes[i] for i in traced.outputs]
        with in_float64():
            shapes = [jax.ShapeDtypeStruct((1, *s.shape), wider(s.dtype)) for s in outputs]
            jax.eval_shape(
                lambda x, dys: pull(traced, x, dys, self._enumerate), list(traced.arguments.leaves), shapes
            )
        self._idle = np.zeros(len(self.dials) + 1)
        self._run = compile_quickly(lambda t, leaves, dys: pull(traced, leaves, dys, self._turned(t))[1])

    def gradients(self, number: int | Sequence[int], e: Evidence, to: float = 1.0) -> Arrays:
        """Return the gradients with one dial turned to 1, or several.

        Args: `number`, that of the dial, or several; `e`, whose arguments and cotangents are taken; `to`, how
        far it is turned.
        """
        theta = self._idle.copy()
        theta[number] = to
        return self._at(theta, e)

    def each(self, e: Evidence) -> list[Arrays]:
        """Return the gradients with each dial turned to 1 by itself. Raises OutOfTime."""
        found = []
        for number in range(len(self.dials)):
            self.budget.tick()
            found.append(self.gradients(number, e))
        return found

    def set_idle(self, idle: Sequence[int], e: Evidence) -> bool:
        """Leave out for good the paths that carry nothing in the end; give whether that changes nothing.

        Such is the path through the maximum of a stable softmax: nobody writes it into a backward pass, and
        it carries something as soon as another path is wrong.

        Args: `idle`, the numbers of their dials; `e`, what was given and what is right.
        """
        theta = np.zeros(len(self.dials) + 1)
        theta[list(idle)] = 1.0
        got = self._at(theta, e)
        unchanged = all(
            np.allclose(g, r, 1e-9, 1e-12 * np.max(np.abs(r), initial=0))
            for g, r in zip(got, e.right, strict=True)
        )
        if unchanged:
            self._idle = theta
        return unchanged

    def _at(self, theta: np.ndarray, e: Evidence) -> Arrays:
        leaves, dys = tuple(e.measurement.arguments.leaves), tuple(map(exact, e.measurement.pair))
        with in_float64():
            return [exact(g) for g in self._run(theta, leaves, dys)]

    def _enumerate(self, operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
        notes = self._noted(operation.program)
        key = (*self._outer(operation.place), notes.repeats.key(operation.equation))
        self._keys[operation.place] = key
        outputs = operation.run(*inputs)
        self.attempts.run(
            f"{operation.name}: its mistakes", lambda: self._offer(operation, inputs, key, notes)
        )
        return outputs

    def _offer(self, operation: Operation, inputs: Sequence[Any], key: Key, notes: _Notes) -> None:
        board = self._boards[operation.place] = Board()
        turns: Counter[Key] = Counter()
        for slot in self._slots(operation, inputs, notes):
            numbers = [self._add(operation, fault, key, turns, tag) for tag, fault in slot.dials]
            if numbers:
                shared, own = zip(*numbers, strict=True)
                board.slots.append((slot, list(shared), list(own)))

    def _slots(self, operation: Operation, inputs: Sequence[Any], notes: _Notes) -> Iterator[Slot]:
        """Return the slots, inner ones first."""
        if not self._formulas:
            called = operation.is_call
            rules = tuple((loops if called else faults)(operation, inputs))
            yield Rules(rules, () if called else tuple(mistaken(operation, notes.repeats)))
            yield Altered(tuple(alterations(operation)))
            found = statistic(operation.equation, notes.made)
            yield from () if found is None else (found,)
        ends = notes.ends.get(operation.equation.outvars[0], []) if operation.equation.outvars else []
        yield from (Ending(region, rules) for region, rules in ends)

    def _add(
        self, operation: Operation, fault: Named, key: Key, turns: Counter[Key], tag: Key
    ) -> tuple[int, int]:
        """Return the numbers of the dials of a mistake: of all repetitions, and of this one."""
        turns[tag] += 1
        tag = (*tag, turns[tag])
        repeated = len(self._noted(operation.program).repeats.groups[key[-1]]) > 1
        shared = self._number((key, tag), fault, operation, key, repeated)
        alone, place = repeated and fault.name == DROP, operation.place
        return shared, self._number((place, tag), fault, operation, place) if alone else ABSENT

    def _number(
        self, name: Any, fault: Named, operation: Operation, place: Key, repeated: bool = False
    ) -> int:
        if name not in self._numbers:
            if len(self.dials) > LIMIT:
                return ABSENT
            self._numbers[name] = len(self.dials)
            self.dials.append(Dial(fault, source(operation.equation), operation.name, place, repeated))
        return self._numbers[name]

    def _outer(self, place: tuple[int, ...]) -> Key:
        outer = place[:-1]
        while outer and outer not in self._keys:
            outer = outer[:-1]
        return (*self._keys.get(outer, ()), *place[len(outer) : -1])

    def _noted(self, program: Any) -> _Notes:
        if id(program) not in self._notes:
            ends: dict[Any, list[tuple[Region, RegionFaults]]] = {}
            for region in regions(program):
                rules = formula_faults if self._formulas else region_faults
                ends.setdefault(region.target, []).append((region, rules))
            for span in spans(program) if not self._formulas else ():
                ends.setdefault(span.target, []).append((span, span_faults))
            made = {v: q for q in program.eqns for v in q.outvars}
            self._notes[id(program)] = _Notes(program, Repeats(program), ends, made)
        return self._notes[id(program)]

    def _turned(self, theta: Any) -> Callable[[Operation, Sequence[Any]], Sequence[Any]]:
        def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
            board = self._boards.get(operation.place, Board())
            return board.run(operation, inputs, theta, self.attempts)

        return step
