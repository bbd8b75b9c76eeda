"""Which values an operand may be mistaken for on the way back: another one, a stale one, itself turned
round.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Named
from vjpcheck.diagnose.regions import CURVED
from vjpcheck.diagnose.repeats import Repeats
from vjpcheck.interpret import Operation
from vjpcheck.source import source

BEFORE = 10  # values that an operand may be mistaken for
BEHIND = 5  # and such that come after it
_BENT = CURVED | {"integer_pow", "pow", "square", "max", "min"}


@dataclass(frozen=True)
class Mistaken:
    """The operand at `position` is read as `variable`, or as `change` of itself, when the cotangent of
    `target` is made.

    Args: `position`, the number of the operand; `target`, the number of the one whose cotangent is made;
    `tag`, tells it from others of the operation; `fault`, its name and words; `variable`, what is read
    instead, or None; `change`, what is made of the operand, or None.
    """

    position: int
    target: int
    tag: tuple[Any, ...]
    fault: Named
    variable: Any = None
    change: Callable[[Any], Any] | None = None


def mistaken(operation: Operation, repeats: Repeats) -> Iterator[Mistaken]:
    """Return what the operands of a product, a quotient or a curved function may be mistaken for.

    Args: `operation`, the operation; `repeats`, the operations, grouped by line.
    """
    kind, invars = operation.equation.primitive.name, operation.equation.invars
    floating = [i for i, v in enumerate(invars) if not isinstance(v, Literal) and is_inexact(v.aval)]
    if kind in ("mul", "div", "dot_general", "conv_general_dilated") and len(invars) == 2:
        pairs = [(p, 1 - p) for p in floating if 1 - p in floating and (kind != "div" or p == 1)]
    elif kind in _BENT and len(floating) == 1:
        pairs = [(floating[0], floating[0])]
    else:
        return
    for position, target in pairs:
        for tag, fault, variable in _values(operation, repeats, position):
            yield Mistaken(position, target, (position, target, *tag), fault, variable)
        if kind in ("dot_general", "conv_general_dilated"):
            for name, words, change in _turned(invars[position].aval.shape):  # pyright: ignore[reportAttributeAccessIssue]
                fault = Named(name, f"operand {position} is {words}", less=0.3)
                yield Mistaken(position, target, (position, target, words), fault, None, change)


def _values(
    operation: Operation, repeats: Repeats, position: int
) -> Iterator[tuple[tuple[Any, ...], Named, Any]]:
    equation, program = operation.equation, operation.program
    own = equation.invars[position]
    shape = own.aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    alike = lambda v: jnp.iscomplexobj(v.aval) == jnp.iscomplexobj(own.aval)  # noqa: E731
    fits = lambda v: is_inexact(v.aval) and v.aval.shape == shape and v is not own and alike(v)  # noqa: E731
    for step in (1, -1):
        other = repeats.operand(equation, position, step)
        if other is not None and fits(other):
            text = f"operand {position} is that of the step {'after' if step > 0 else 'before'}"
            yield ("step", step), Named(Kind.ANOTHER_VALUE, text, less=0.8), other
    other = repeats.mirrored(equation, position)
    if other is not None and fits(other):
        text = f"operand {position} is taken in the opposite order"
        yield ("mirrored",), Named(Kind.ORDER_REVERSED, text, less=0.3), other
    if not shape:
        return
    found = [v for v in operation.values if fits(v)]
    given = [v for v in found if v in program.invars]
    kept = {v for v in program.outvars if not isinstance(v, Literal)}
    later = [v for q in program.eqns for v in q.outvars if v not in operation.values and fits(v)]
    curved = {v for q in program.eqns if q.primitive.name in CURVED for v in q.outvars}
    behind = [v for v in later if v in kept or v in curved][:BEHIND]
    read = _read_with_others(program) | kept
    made = [v for v in found if v not in given and v not in program.constvars and v in read][-BEFORE:]
    makers = {v: q for q in program.eqns for v in q.outvars}
    for k, v in enumerate([*given[:BEFORE], *made, *behind]):
        text = f"operand {position} is not what the forward pass had there, but {_described(v, makers)}"
        yield repeats.relation(equation, v), Named(Kind.ANOTHER_VALUE, text, less=1.2 + k / 100), v


def _described(v: Any, makers: dict[Any, Any]) -> str:
    if v not in makers:
        return "an input"
    name = makers[v].params.get("name") or makers[v].primitive.name
    return f"what {name} gave" + (f" at {where}" if (where := source(makers[v])) else "")


def _read_with_others(program: Any) -> set[Any]:
    """Return the values that a person names: those that meet another value, or are read twice, not the inside
    of a formula.
    """
    meeting = [[v for v in q.invars if not isinstance(v, Literal)] for q in program.eqns]
    read = Counter(v for operands in meeting for v in set(operands))
    return {v for operands in meeting for v in operands if len(operands) > 1 or read[v] > 1}


def _turned(shape: tuple[int, ...]) -> Iterator[tuple[Kind, str, Callable[[Any], Any]]]:
    for axis, n in enumerate(shape):
        if n > 1:
            yield Kind.ORDER_REVERSED, f"reversed along axis {axis}", lambda x, a=axis: jnp.flip(x, a)
    for a, b in combinations(range(len(shape)), 2):
        if shape[a] == shape[b] > 1:
            words = "not transposed" if len(shape) == 2 else f"used with its axes {a} and {b} exchanged"
            yield Kind.TRANSPOSE_MISSING, words, lambda x, a=a, b=b: jnp.swapaxes(x, a, b)
