"""Mistakes that are the right backward pass of another function: a constant or a mask left out of it."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.diagnose.backward import Fault
from vjpcheck.interpret import Operation

_NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


def alterations(operation: Operation) -> Iterator[tuple[int, Any, Fault]]:
    """Return the operand to change, the value that it gets (for a selection: ignored; a variable stands in
    the place of the output), and the mistake that this is.

    Args: `operation`, the operation.
    """
    equation = operation.equation
    kind = equation.primitive.name
    if not equation.outvars or not is_inexact(equation.outvars[0].aval):
        return
    for i, atom in enumerate(equation.invars):
        if kind in _NEUTRAL and isinstance(atom, Literal) and np.ndim(atom.val) == 0:
            neutral = _NEUTRAL[kind]
            if float(np.real(atom.val)) != neutral:
                constant = float(np.real(atom.val))
                text = f"the backward pass is that of a function without the constant {constant:.6g}"
                yield i, neutral, Fault("constant left out", text, 3.3, lambda b: {})
    if kind == "add":
        yield from _smoothing(operation)
    if kind == "select_n" and len(equation.invars) == 3:
        for i in (1, 2):
            same_shape = equation.invars[i].aval.shape == equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
            if not isinstance(equation.invars[i], Literal) and same_shape:
                text = "the backward pass is that of a function without the mask"
                yield i, 0.0, Fault("mask ignored", text, 3.3, lambda b: {})


def _smoothing(operation: Operation) -> Iterator[tuple[int, Any, Fault]]:
    """Return what is mixed with a little of something else: c t + d, or c t + (1 - c) u."""
    for i, j in ((0, 1), (1, 0)):
        one, other = (_scaled(operation, operation.equation.invars[n]) for n in (i, j))
        if one is None or other is None or not 0.5 < one[0] < 1:
            continue
        if other[1] is None and other[0] > 0 or other[1] is not None and abs(one[0] + other[0] - 1) < 1e-6:
            text = f"the backward pass is that of a function without the smoothing by {1 - one[0]:.3g}"
            yield i, one[1], Fault("label smoothing left out", text, 2.9, lambda b: {})


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


def altered(
    operation: Operation, inputs: Sequence[Any], values: Sequence[tuple[int, Any]], theta: Any
) -> tuple[list[Any], tuple[Any, Any] | None]:
    """Return the inputs with their constants altered, and `(turned, what the output is instead)` where it is
    another value, or what it is without the mask.

    Args: `operation`, the operation; `inputs`, its inputs; `values`, the numbers of its constants, and what
    each is altered to; `theta`, how far each dial is turned.
    """
    changed, instead = list(inputs), None
    if operation.equation.primitive.name != "select_n":
        for (i, value), t in zip(values, theta, strict=True):
            if isinstance(value, float):
                changed[i] = changed[i] + t * (value - changed[i])
            else:
                instead = t, operation.values[value]
        return changed, instead
    unmasked = sum(jnp.where(t != 0, inputs[i], 0) for (i, _), t in zip(values, theta, strict=True))
    return changed, (theta.sum(), unmasked)
