"""Mistakes that are the right backward pass of another function: a constant or a mask left out of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.attempt import Attempts
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Named
from vjpcheck.diagnose.board import Run
from vjpcheck.diagnose.repeats import Key
from vjpcheck.interpret import Operation

_NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


@dataclass(frozen=True)
class Alteration:
    """What another function, whose backward pass this is, has at one place.

    Args: `position`, the number of the operand; `instead`, its value there, a number, or the variable that
    stands in the place of the output, or None where the operand itself does; `fault`, the mistake.
    """

    position: int
    instead: Any
    fault: Named


@dataclass(frozen=True)
class Altered:
    """The slot of what is altered at an operation.

    Args: `alterations`, what is altered.
    """

    alterations: tuple[Alteration, ...]
    what = "what another function has there"

    @property
    def dials(self) -> Sequence[tuple[Key, Named]]:
        """Their mistakes."""
        return [((a.fault.name, a.fault.words), a.fault) for a in self.alterations]

    def around(self, operation: Operation, run: Run, theta: Any, attempts: Attempts) -> Run:
        """Run on altered constants, and give what stands in the place of the output where that is dialled.

        Args: `operation`, `run`, `theta`, `attempts`, as for `Slot`.
        """

        def altered(inputs: Sequence[Any]) -> Sequence[Any]:
            changed, output = list(inputs), None
            for t, a in zip(theta, self.alterations, strict=True):
                if isinstance(a.instead, float):
                    changed[a.position] = changed[a.position] + t * (a.instead - changed[a.position])
            (output,) = run(changed)
            for t, a in zip(theta, self.alterations, strict=True):
                if not isinstance(a.instead, float):
                    other = inputs[a.position] if a.instead is None else operation.values[a.instead]
                    output = jnp.where(t != 0, other, output)
            return [output]

        return altered


def alterations(operation: Operation) -> Iterator[Alteration]:
    """Return what may be left out of the function at an operation: a constant, a mask, a smoothing.

    Args: `operation`, the operation.
    """
    equation = operation.equation
    kind = equation.primitive.name
    if not equation.outvars or not is_inexact(equation.outvars[0].aval):
        return
    without = "the backward pass is that of a function without the"
    for i, atom in enumerate(equation.invars):
        if kind in _NEUTRAL and isinstance(atom, Literal) and np.ndim(atom.val) == 0:
            neutral, constant = _NEUTRAL[kind], float(np.real(atom.val))
            if constant != neutral:
                yield Alteration(
                    i, neutral, Named(Kind.CONSTANT_LEFT_OUT, f"{without} constant {constant:.6g}", less=0.4)
                )
    if kind == "add":
        for i, variable, left in _smoothings(operation):
            fault = Named(Kind.LABEL_SMOOTHING_LEFT_OUT, f"{without} smoothing by {left:.3g}")
            yield Alteration(i, variable, fault)
    if kind == "select_n" and len(equation.invars) == 3:
        for i in (1, 2):
            same_shape = equation.invars[i].aval.shape == equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
            if not isinstance(equation.invars[i], Literal) and same_shape:
                yield Alteration(i, None, Named(Kind.MASK_IGNORED, f"{without} mask", less=0.8))


def _smoothings(operation: Operation) -> Iterator[tuple[int, Any, float]]:
    """Return what is mixed with a little of something else, c t + d or c t + (1 - c) u: where, t, 1 - c."""
    for i, j in ((0, 1), (1, 0)):
        one, other = (_scaled(operation, operation.equation.invars[n]) for n in (i, j))
        if one is None or one[1] is None or other is None or not 0.5 < one[0] < 1:
            continue
        if other[1] is None and other[0] > 0 or other[1] is not None and abs(one[0] + other[0] - 1) < 1e-6:
            yield i, one[1], 1 - one[0]


def _scaled(operation: Operation, atom: Any) -> tuple[float, Any] | None:
    """Return a number, or a number and the variable that is multiplied by it."""
    if isinstance(atom, Literal):
        return (float(np.real(atom.val)), None) if np.ndim(atom.val) == 0 else None
    maker = next((q for q in operation.program.eqns if atom in q.outvars), None)
    if maker is None or maker.primitive.name != "mul":
        return None
    for factor, variable in (maker.invars, maker.invars[::-1]):
        if isinstance(factor, Literal) and np.ndim(factor.val) == 0 and not isinstance(variable, Literal):
            return float(np.real(factor.val)), variable
    return None
