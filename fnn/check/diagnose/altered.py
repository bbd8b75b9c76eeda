"""Mistakes that are the right backward pass of another function: a constant or a mask left out of it."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from fnn.check.arguments import is_inexact
from fnn.check.diagnose.backward import Fault
from fnn.check.interpret import Operation

_NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


def alterations(operation: Operation) -> Iterator[tuple[int, float, Fault]]:
    """Return the operand to change, the value that it gets (for a selection: ignored), and the mistake that
    this is.
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
    if kind == "select_n" and len(equation.invars) == 3:
        for i in (1, 2):
            same_shape = equation.invars[i].aval.shape == equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
            if not isinstance(equation.invars[i], Literal) and same_shape:
                text = "the backward pass is that of a function without the mask"
                yield i, 0.0, Fault("mask ignored", text, 3.3, lambda b: {})


def altered(
    operation: Operation, inputs: Sequence[Any], values: Sequence[tuple[int, float]], theta: Any
) -> tuple[list[Any], tuple[Any, Any] | None]:
    """Return the inputs with their constants altered, and for a selection `(turned, what it is without the
    mask)`.

    Args: `operation`, the operation; `inputs`, its inputs; `values`, the numbers of its constants, and what
    each is altered to; `theta`, how far each dial is turned.
    """
    changed = list(inputs)
    if operation.equation.primitive.name != "select_n":
        for (i, value), t in zip(values, theta, strict=True):
            changed[i] = changed[i] + t * (value - changed[i])
        return changed, None
    unmasked = sum(jnp.where(t != 0, inputs[i], 0) for (i, _), t in zip(values, theta, strict=True))
    return changed, (theta.sum(), unmasked)
