"""Run a traced function again, one operation at a time, with a say over each of them.

A jaxpr is the forward pass as a list of operations. `evaluate` walks it, into loops and calls, and
hands every operation to a `Step`, which may run it as it is, in float64, with noise, or with another
derivative. Rules written by hand (`custom_vjp`) are followed only where that is asked for by `ruled`:
otherwise what runs is the primal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from vjpcheck.jaxprs import RULED, bind, held, opened
from vjpcheck.nested import NESTED, Run
from vjpcheck.scatters import SCATTERS


@dataclass(frozen=True)
class Program:
    """A part of a jaxpr that is run as if it were one.

    Args:
        constvars: the variables of its constants.
        invars: the variables of its inputs.
        outvars: the variables of its outputs.
        eqns: its equations, in order.
    """

    constvars: tuple[Any, ...]
    invars: tuple[Any, ...]
    outvars: tuple[Any, ...]
    eqns: tuple[JaxprEqn, ...]


@dataclass(frozen=True)
class Operation:
    """One operation of a trace.

    Args:
        place: the numbers of the equations that lead to it, the outermost first.
        equation: its equation.
        run: a function that runs it on other inputs and returns a list of outputs.
        program: the jaxpr, or part of one, that it is in.
        values: what was computed there before it, by variable.
        complete: a function that returns such a dict with what comes after it, too.
    """

    place: tuple[int, ...]
    equation: JaxprEqn
    run: Run
    program: Jaxpr | Program
    values: dict[Any, Any]
    complete: Callable[[], dict[Any, Any]]

    @property
    def name(self) -> str:
        """The name of a called function (`gelu`), or else of the primitive (`tanh`)."""
        return str(self.equation.params.get("name") or self.equation.primitive.name)

    @property
    def is_call(self) -> bool:
        """Whether it stands for a whole function or loop, whose operations are visited too."""
        return self.equation.primitive.name in NESTED

    def floating(self, inputs: Sequence[Any]) -> list[int]:
        """Return the places of the floating operands; a number in the source text is none."""
        atoms = zip(inputs, self.equation.invars, strict=True)
        return [i for i, (x, v) in enumerate(atoms) if _is_inexact(x.dtype) and not isinstance(v, Literal)]


Step = Callable[[Operation, Sequence[Any]], Sequence[Any]]


def as_is(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
    """Run an operation, change nothing, and return its outputs.

    Args:
        operation: the operation.
        inputs: a value for each of its operands.
    """
    return operation.run(*inputs)


def evaluate(
    jaxpr: Jaxpr | Program,
    constants: Sequence[Any],
    inputs: Sequence[Any],
    step: Step | None = None,
    wide: bool = True,
    place: tuple[int, ...] = (),
    ruled: bool = False,
) -> list[Any]:
    """Run a jaxpr, every operation through `step`, and return a list of its outputs.

    Args:
        jaxpr: the program.
        constants: a value for each of its constants.
        inputs: a value for each of its inputs.
        step: `step(operation, inputs)` returns the outputs of an operation; None runs each as it is.
        wide: whether all of it is run in float64.
        place: the numbers of the equations that lead to the program, where it is in a larger one.
        ruled: whether functions keep the derivatives that were written for them.
    """
    start = dict(zip(jaxpr.constvars, map(widen, constants) if wide else constants, strict=True))
    start |= dict(zip(jaxpr.invars, map(widen, inputs) if wide else inputs, strict=True))

    def run(step: Step) -> dict[Any, Any]:
        values = dict(start)
        for i, equation in enumerate(jaxpr.eqns):
            here = (*place, i)
            runner = _runner(equation, step, wide, here, ruled)
            operation = Operation(here, equation, runner, jaxpr, values, complete)
            outputs = step(operation, [_read(values, v, wide) for v in equation.invars])
            values.update(zip(equation.outvars, outputs, strict=True))
        return values

    @cache
    def complete() -> dict[Any, Any]:
        return run(as_is)

    values = run(as_is if step is None else step)
    return [_read(values, v, wide) for v in jaxpr.outvars]


def _read(values: dict[Any, Any], atom: Any, wide: bool) -> Any:
    if not isinstance(atom, Literal):
        return values[atom]
    value = np.asarray(atom.val, atom.aval.dtype)  # pyright: ignore[reportAttributeAccessIssue]
    return widen(value) if wide else value


def widen(value: Any) -> Any:
    """Return a floating value in float64 (a complex one in complex128), any other one as it is."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or not _is_inexact(dtype) or dtype in (np.float64, np.complex128):
        return value
    return jnp.asarray(value).astype(wider(dtype))


def _is_inexact(dtype: Any) -> bool:
    return not jnp.issubdtype(dtype, jax.dtypes.extended) and jnp.issubdtype(dtype, jnp.inexact)


def wider(dtype: Any) -> Any:
    """Return the dtype of 64 bits a part for a floating or complex one."""
    return np.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else np.float64


def _runner(equation: JaxprEqn, step: Step, wide: bool, place: tuple[int, ...], ruled: bool) -> Run:
    name = equation.primitive.name
    inner = NESTED.get(name)
    if ruled and name in RULED:  # a rule may hold programs for the dtypes that it was traced at
        return lambda *inputs: _run_narrow(equation, inputs) if wide else bind(equation, inputs)
    if inner is not None:

        def closed(closed_jaxpr: Any, *inputs: Any, part: int = 0) -> list[Any]:
            jaxpr, constants = opened(closed_jaxpr)
            here = (*place, part) if part else place
            return evaluate(jaxpr, constants, inputs, step, wide, here, ruled)

        return lambda *inputs: inner(closed, equation, inputs)
    return (lambda *inputs: _run_wide(equation, inputs)) if wide else (lambda *inputs: bind(equation, inputs))


def run_as(equation: JaxprEqn, inputs: Sequence[Any], **changed: Any) -> list[Any]:
    """Run an equation in float64 with other parameters.

    Args:
        equation: the equation.
        inputs: a value for each of its operands.
        changed: the parameters that are replaced, by name.
    """
    return _run_wide(equation.replace(params=equation.params | changed), inputs)


def _run_wide(equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    name = equation.primitive.name
    if name == "reduce_precision":
        return list(inputs)
    if name in ("debug_callback", "debug_print"):
        return []
    if name in SCATTERS:
        return [SCATTERS[name](equation.params, *inputs)]
    if name == "custom_linear_solve":
        return _solve(equation.params, inputs)
    if name == "reduce":
        return _reduce(equation.params, inputs)
    if name in _NARROW or any(held(equation)):  # a kernel, a map over devices: made for its dtypes
        return _run_narrow(equation, inputs)
    changed = {k: wider(v) for k, v in equation.params.items() if _is_dtype(v)}
    if "precision" in equation.params:
        changed["precision"] = None
    try:
        return [widen(y) for y in bind(equation, inputs, **changed)]
    except (TypeError, NotImplementedError, ValueError):  # a kernel that knows no float64
        return _run_narrow(equation, inputs)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, np.dtype | type) and value is not bool and _is_inexact(value)


def _run_narrow(equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    as_traced = [
        jnp.asarray(x).astype(v.aval.dtype) if _is_inexact(x.dtype) else x  # pyright: ignore[reportAttributeAccessIssue]
        for x, v in zip(inputs, equation.invars, strict=True)
    ]
    return [widen(y) for y in bind(equation, as_traced)]


_NARROW = ("bitcast_convert_type", "pure_callback", "io_callback")


def _solve(params: dict[str, Any], inputs: Sequence[Any]) -> list[Any]:
    """Solve a linear system again, its product and its solvers in float64."""
    lengths, (matvec, vecmat, solve, transpose_solve) = params["const_lengths"], params["jaxprs"]
    rest = iter(inputs)
    constants = [[next(rest) for _ in range(n)] for n in lengths]

    def of(jaxpr: ClosedJaxpr | None, n: int) -> Callable[..., Any]:
        run = lambda xs: evaluate(jaxpr.jaxpr, jaxpr.consts, [*constants[n], *xs]) if jaxpr else None  # noqa: E731
        return (lambda xs: run(xs)) if n < 2 else (lambda _, xs: run(xs))

    back = of(transpose_solve, 3) if transpose_solve is not None else None
    return lax.custom_linear_solve(of(matvec, 0), list(rest), of(solve, 2), back, vecmat is matvec)


def _reduce(params: dict[str, Any], inputs: Sequence[Any]) -> list[Any]:
    """Run a reduction by a function of two, which is run in float64 as well."""
    n = len(inputs) // 2
    combine = lambda a, b: tuple(evaluate(*opened(params["jaxpr"]), [*a, *b]))  # noqa: E731
    start = tuple(jnp.asarray(x) for x in inputs[n:])
    return list(lax.reduce(tuple(inputs[:n]), start, combine, params["dimensions"]))
