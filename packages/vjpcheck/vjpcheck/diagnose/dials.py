"""The backward pass with a dial for every mistake: at 0 it is right, at 1 the mistake is made.

One compiled function takes all the dials, so that trying a mistake costs one run. In a single dial the
gradient is a straight line, so a wrong factor on a path is read off, not searched for. A line of code that
is run again and again (a loop that was unrolled) has one dial for all its repetitions.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.arguments import exact
from vjpcheck.attempt import Attempts, Budget
from vjpcheck.diagnose.altered import alterations, altered
from vjpcheck.diagnose.backward import Fault
from vjpcheck.diagnose.board import Board, Dial
from vjpcheck.diagnose.faults import faults
from vjpcheck.diagnose.hypothesis import Evidence
from vjpcheck.diagnose.loops import loops
from vjpcheck.diagnose.mistaken import mistaken
from vjpcheck.diagnose.operate import RegionFaults, with_region, with_rules
from vjpcheck.diagnose.regions import Region, formula_faults, region_faults, regions
from vjpcheck.diagnose.repeats import Key, Repeats
from vjpcheck.diagnose.spans import span_faults, spans
from vjpcheck.diagnose.statistic import statistic, statistic_faults
from vjpcheck.effort import compile_quickly, in_float64
from vjpcheck.interpret import Operation, wider
from vjpcheck.reference import Arrays, Trace, pull
from vjpcheck.source import source

LIMIT = 2000  # dials; a longer forward pass is searched up to there
DROP = "term dropped"
_ABSENT = -1  # the place in theta that stays 0


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
        if self._formulas:
            board = Board()
            self._end(board, operation, key, notes)
            return
        values = list(alterations(operation))
        board = Board(
            rules=tuple((loops if operation.is_call else faults)(operation, inputs)),
            mistakes=() if operation.is_call else tuple(mistaken(operation, notes.repeats)),
            values=[(i, v) for i, v, _ in values],
            statistic=statistic(operation.equation, notes.made),
        )
        board.statistic_rules = tuple(statistic_faults(board.statistic)) if board.statistic else ()
        turns: Counter[Any] = Counter()
        for fault in [*(f for _, _, f in values), *board.statistic_rules, *board.rules]:
            self._add(board, operation, fault, key, turns, (fault.name, fault.words))
        for m in board.mistakes:
            self._add(board, operation, m.fault, key, turns, m.tag)
        self._end(board, operation, key, notes, turns)

    def _end(
        self, board: Board, operation: Operation, key: Key, notes: _Notes, turns: Counter[Any] | None = None
    ) -> None:
        """Add the dials of what ends at an operation, and keep its board."""
        turns = Counter() if turns is None else turns
        ends = notes.ends.get(operation.equation.outvars[0], []) if operation.equation.outvars else []
        named = [(r, f, tuple(f(r, lambda x: x))) for r, f in ends]
        board.regions = [(r, f, len(found)) for r, f, found in named]
        for fault in (fault for _, _, found in named for fault in found):
            self._add(board, operation, fault, key, turns, (fault.name, fault.words))
        self._boards[operation.place] = board

    def _add(
        self, board: Board, operation: Operation, fault: Fault, key: Key, turns: Counter[Any], tag: Key
    ) -> None:
        turns[tag] += 1
        tag = (*tag, turns[tag])
        repeated = len(self._noted(operation.program).repeats.groups[key[-1]]) > 1
        board.shared.append(self._number((key, tag), fault, operation, key, repeated))
        alone = repeated and fault.name == DROP
        place = operation.place
        board.own.append(self._number((place, tag), fault, operation, place) if alone else _ABSENT)

    def _number(
        self, name: Any, fault: Fault, operation: Operation, place: Key, repeated: bool = False
    ) -> int:
        if name not in self._numbers:
            if len(self.dials) > LIMIT:
                return _ABSENT
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
        tried = self.attempts.run

        def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
            board = self._boards.get(operation.place)
            if board is None or not board.shared:
                return operation.run(*inputs)
            take, shortcut, outputs, name = board.settings(theta), None, None, operation.name
            if board.values:
                inputs, shortcut = altered(operation, inputs, board.values, take(len(board.values)))
            if board.statistic is not None:
                turned, hook = take(len(board.statistic_rules)), board.statistic.hook
                hooked = lambda: hook(operation, inputs, board.statistic_rules, turned)  # noqa: E731
                inputs, wide = tried(f"{name}: sums over other axes", hooked, (inputs, None))
                outputs = None if wide is None else [wide]
            own = take(len(board.rules) + len(board.mistakes))
            if len(own):
                dialled = lambda: with_rules(  # noqa: E731
                    operation, board.rules, board.mistakes, own, inputs, self.attempts
                )
                outputs = tried(f"{name}: its rules", dialled, outputs)
            outputs = operation.run(*inputs) if outputs is None else outputs
            if shortcut is not None:
                outputs = [jnp.where(shortcut[0] != 0, shortcut[1], outputs[0])]
            for region, rules, n in board.regions:
                dials, end = take(n), outputs[0]
                whole = lambda r=region, f=rules, t=dials, y=end: with_region(  # noqa: E731
                    operation, r, f, t, y, self.attempts
                )
                outputs = [tried(f"{name}: what ends there", whole, end)]
            return outputs

        return step
