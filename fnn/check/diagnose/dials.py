"""The backward pass with a dial for every mistake: at 0 it is right, at 1 the mistake is made.

One compiled function takes all the dials, so that trying a mistake costs one run. In a single dial the
gradient is a straight line, so a wrong factor on a path is read off, not searched for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from fnn.check.arguments import exact, is_inexact
from fnn.check.diagnose.altered import alterations, altered
from fnn.check.diagnose.backward import Back, Fault
from fnn.check.diagnose.faults import faults
from fnn.check.diagnose.regions import CURVED, Region, region_faults, regions
from fnn.check.effort import compile_quickly, in_float64
from fnn.check.interpret import Operation
from fnn.check.reference import Arrays, Trace, pull
from fnn.check.source import source

LIMIT = 2000  # dials; a longer forward pass is searched up to there
OTHERS = 6  # values that an operand may be mistaken for
LATER = 3  # and such that come after it


@dataclass(frozen=True)
class Dial:
    """One mistake at one operation."""

    fault: Fault
    where: str
    operation: str
    place: tuple[int, ...]


@dataclass(frozen=True)
class Board:
    """The dials of one operation: where they start, and what they are."""

    start: int
    rules: tuple[Fault, ...]
    region: Region | None
    region_rules: tuple[Fault, ...]
    bypass: Any  # the value that a whole function of this operation's output is of, where it has that shape
    values: tuple[tuple[int, float], ...]  # literals, and what they are in the altered function
    others: tuple[Any, ...]  # variables


class Panel:
    """All dials of a trace, and the gradients that they set."""

    def __init__(self, traced: Trace):
        self.dials: list[Dial] = []
        self._boards: dict[tuple[int, ...], Board] = {}
        self._regions: dict[int, dict[Any, Region]] = {}
        self._traced = traced
        with in_float64():
            shapes = [jax.ShapeDtypeStruct((1, *traced.shapes[i].shape), np.float64) for i in traced.outputs]
            jax.eval_shape(
                lambda x, dys: pull(traced, x, dys, self._enumerate), list(traced.arguments.leaves), shapes
            )
        self._idle = np.zeros(len(self.dials))
        self._run = compile_quickly(lambda t, leaves, dys: pull(traced, leaves, dys, self._turned(t))[1])

    def gradients(self, number: int, leaves: Sequence[Any], dys: Sequence[Any]) -> Arrays:
        """Give the gradients with one dial turned to 1."""
        theta = self._idle.copy()
        theta[number] = 1.0
        return self._at(theta, leaves, dys)

    def set_idle(self, idle: Sequence[int], leaves: Sequence[Any], dys: Sequence[Any], right: Arrays) -> bool:
        """Leave out for good the paths that carry nothing in the end; give whether that changes nothing.

        Such is the path through the maximum of a stable softmax: nobody writes it into a backward pass, and
        it carries something as soon as another path is wrong.
        """
        theta = np.zeros(len(self.dials))
        theta[list(idle)] = 1.0
        got = self._at(theta, leaves, dys)
        unchanged = all(
            np.allclose(g, r, 1e-9, 1e-12 * np.max(np.abs(r), initial=0))
            for g, r in zip(got, right, strict=True)
        )
        if unchanged:
            self._idle = theta
        return unchanged

    def _at(self, theta: np.ndarray, leaves: Sequence[Any], dys: Sequence[Any]) -> Arrays:
        with in_float64():
            return [
                exact(g)
                for g in self._run(theta, tuple(leaves), tuple(np.asarray(d, np.float64) for d in dys))
            ]

    def _enumerate(self, operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
        outputs = operation.run(*inputs)
        if len(self.dials) > LIMIT:
            return outputs
        others = tuple(_others(operation))
        rules = tuple(faults(operation, inputs, [v.aval for v in others])) if not operation.is_call else ()
        region = self._region(operation)
        region_rules = tuple(region_faults(region, lambda x: x)) if region else ()
        bypass = None if region else _bypass(operation)
        region_rules = BYPASS if bypass is not None else region_rules
        values = tuple(alterations(operation))
        board = Board(
            len(self.dials), rules, region, region_rules, bypass, tuple((i, v) for i, v, _ in values), others
        )
        where = source(operation.equation)
        for fault in (*rules, *region_rules, *(f for _, _, f in values)):
            self.dials.append(Dial(fault, where, operation.name, operation.place))
        self._boards[operation.place] = board
        return outputs

    def _region(self, operation: Operation) -> Region | None:
        program = operation.program
        found = self._regions.setdefault(id(program), {r.target: r for r in regions(program)})
        return found.get(operation.equation.outvars[0]) if operation.equation.outvars else None

    def _turned(self, theta: Any) -> Callable[[Operation, Sequence[Any]], Sequence[Any]]:
        def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
            board = self._boards.get(operation.place)
            if board is None:
                return operation.run(*inputs)
            n, m = len(board.rules), len(board.region_rules)
            t = theta[board.start : board.start + n + m + len(board.values)]
            outputs: Sequence[Any]
            if board.values:
                inputs, shortcut = altered(operation, inputs, board.values, t[n + m :])
            else:
                shortcut = None
            others = tuple(_value(operation, v) for v in board.others)
            outputs = (
                _with_rules(operation, board.rules, t[:n], others, inputs) if n else operation.run(*inputs)
            )
            if shortcut is not None:
                outputs = [jnp.where(shortcut[0] != 0, shortcut[1], outputs[0])]
            if board.bypass is not None:
                outputs = [_bypassed(t[n], t[n + 1], operation.values[board.bypass], outputs[0])]
            elif board.region is not None:
                outputs = [_with_region(operation, board.region, t[n : n + m], outputs[0])]
            return outputs

        return step


BYPASS = (
    Fault("term dropped", "the path through it is left out", 3.0, lambda b: {}),
    Fault("derivative missing", "its derivative is left out", 3.05, lambda b: {}),
)


def _bypass(operation: Operation) -> Any:
    """Give the one floating input of a called function that keeps its shape; for a softmax, what it is of."""
    equation = operation.equation
    floating = [v for v in equation.invars if is_inexact(v.aval) and not isinstance(v, Literal)]
    if len(equation.outvars) != 1 or not is_inexact(equation.outvars[0].aval) or not floating:
        return None
    shape = equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    if operation.is_call:
        whole = len(floating) == 1 and floating[0].aval.shape == shape  # pyright: ignore[reportAttributeAccessIssue]
        return floating[0] if whole else None
    made: dict[Any, Any] = {v: q for q in operation.program.eqns for v in q.outvars}
    of = lambda atom: None if isinstance(atom, Literal) else made.get(atom)  # noqa: E731
    top = of(equation.invars[0]) if equation.primitive.name == "div" else None
    if top is None or top.primitive.name != "exp":
        return None
    below = of(top.invars[0])
    source = below.invars[0] if below is not None and below.primitive.name == "sub" else top.invars[0]
    return source if not isinstance(source, Literal) and source.aval.shape == shape else None  # pyright: ignore[reportAttributeAccessIssue]


@jax.custom_vjp
def _bypassed(dropped: Any, missing: Any, x: Any, y: Any) -> Any:
    """Give `y`; its cotangent is dropped, or goes straight to `x`, as the dials say."""
    return y


_bypassed.defvjp(
    lambda dropped, missing, x, y: (y, (dropped, missing)),
    lambda t, dy: (jnp.zeros_like(t[0]), jnp.zeros_like(t[1]), t[1] * dy, (1 - t[0] - t[1]) * dy),
)


def _others(operation: Operation) -> list[Any]:
    """Give the values that have the shape of an operand and may be mistaken for it: arguments, the last few
    before the operation, and from behind it the results and the activations, which are what rules keep.
    """
    equation, program = operation.equation, operation.program
    own = [v for v in (*equation.invars, *equation.outvars) if not isinstance(v, Literal)]
    shapes = {v.aval.shape for v in own[: len(own) - 1] if len(v.aval.shape) > 0}  # pyright: ignore[reportAttributeAccessIssue]
    if equation.primitive.name not in ("mul", "dot_general"):
        return []
    fits = lambda v: is_inexact(v.aval) and v.aval.shape in shapes and v not in own  # noqa: E731
    found = [v for v in operation.values if fits(v)]
    given = [v for v in found if v in program.invars]
    kept = {v for v in program.outvars if not isinstance(v, Literal)}
    later = [v for q in program.eqns for v in q.outvars if v not in operation.values and fits(v)]
    curved = {v for q in program.eqns if q.primitive.name in CURVED for v in q.outvars}
    behind = [v for v in later if v in kept or v in curved][:LATER]
    return [*given[:OTHERS], *[v for v in found if v not in given][-OTHERS:], *behind]


def _value(operation: Operation, variable: Any) -> Any:
    """Give a value of the forward pass, wherever it stands to the operation."""
    known = operation.values
    return known[variable] if variable in known else lax.stop_gradient(operation.complete()[variable])


def _with_rules(
    operation: Operation, rules: Sequence[Fault], theta: Any, others: Sequence[Any], inputs: Sequence[Any]
) -> Sequence[Any]:
    floating = [i for i, x in enumerate(inputs) if is_inexact(x)]

    def run(theta: Any, others: Any, *xs: Any) -> Any:
        return tuple(operation.run(*xs))

    def forward(theta: Any, others: Any, *xs: Any) -> Any:
        def chosen(*fs: Any) -> Any:
            full = list(xs)
            for i, x in zip(floating, fs, strict=True):
                full[i] = x
            return tuple(operation.run(*full))

        outputs, pullback = jax.vjp(chosen, *[xs[i] for i in floating])
        return outputs, (theta, others, xs, outputs, pullback)

    def backward(saved: Any, dys: Any) -> Any:
        theta, others, xs, outputs, pullback = saved
        given = dict(zip(floating, pullback(dys), strict=True))
        right = [given.get(i) for i in range(len(xs))]
        back = Back(operation, xs, outputs, dys[0], right, others)
        total = dict(given)
        for t, fault in zip(theta, rules, strict=True):
            for i, wrong in fault.rule(back).items():
                wrong = _summed_to(wrong, xs[i].shape)
                total[i] = total[i] + jnp.where(t != 0, t * (wrong - right[i]), 0)
        nothing = jax.tree.map(jnp.zeros_like, (theta, others))
        return (*nothing, *(total.get(i) for i in range(len(xs))))

    operate = jax.custom_vjp(run)
    operate.defvjp(forward, backward)
    return list(operate(theta, tuple(others), *inputs))


def _summed_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which an operand of this shape was broadcast."""
    if x.shape == shape:
        return x
    x = x.sum(range(x.ndim - len(shape)))
    return x.sum([a for a, n in enumerate(shape) if n == 1 and x.shape[a] > 1], keepdims=True).reshape(shape)


def _with_region(operation: Operation, region: Region, theta: Any, target: Any) -> Any:
    source_value = operation.values[region.source]
    others = tuple(operation.values[v] for v in region.others)

    def run(theta: Any, others: Any, x: Any, y: Any) -> Any:
        return y

    def forward(theta: Any, others: Any, x: Any, y: Any) -> Any:
        return y, (theta, others, x, y)

    def backward(saved: Any, dy: Any) -> Any:
        theta, others, x, y = saved
        f = region.function(others)
        back = Back(operation, (x,), (y,), dy, (dy,))
        dx = jnp.zeros_like(x)
        for t, fault in zip(theta, region_faults(region, f), strict=True):
            dx = dx + jnp.where(t != 0, t * fault.rule(back)[0], 0)
        nothing = [jnp.zeros_like(o) if is_inexact(o) else None for o in others]
        return jnp.zeros_like(theta), tuple(nothing), dx, dy * (1 - theta.sum())

    operate = jax.custom_vjp(run)
    operate.defvjp(forward, backward)
    return operate(theta, others, source_value, target)
