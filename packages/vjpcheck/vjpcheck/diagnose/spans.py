"""Parts of the forward pass that take one value to another of its shape: a softmax, a rotation, a norm."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Fault
from vjpcheck.diagnose.regions import Region, constants, is_elementwise

LONGEST = 30  # operations
EACH = 2  # spans that end at one operation


def spans(program: Any) -> list[Region]:
    """Return the parts that read one floating value and are not elementwise, nearest sources first."""
    made = {v: q for q in program.eqns for v in q.outvars}
    order = {id(q): n for n, q in enumerate(program.eqns)}
    free = constants(program)
    return [
        span
        for equation in program.eqns
        if len(equation.outvars) == 1 and is_inexact(equation.outvars[0].aval)
        for span in _ending_at(equation, made, order, free)
    ]


def _ending_at(last: Any, made: dict[Any, Any], order: dict[int, int], free: set[Any]) -> list[Region]:
    target = last.outvars[0]
    inside, found = [last], []
    while len(inside) < LONGEST and len(found) < EACH and target.aval.size > 1:
        produced = {v for q in inside for v in q.outvars}
        read = {v for q in inside for v in q.invars if not isinstance(v, Literal)} - produced
        floating = [v for v in read if is_inexact(v.aval) and v not in free]
        whole = len(floating) == 1 and floating[0].aval.shape == target.aval.shape
        if whole and not all(map(is_elementwise, inside)) and not _is_plain(inside):
            equations = tuple(sorted(inside, key=lambda q: order[id(q)]))
            others = tuple(v for v in read if v not in floating)
            found.append(Region(equations, floating[0], target, others))
        growable = [v for v in floating if v in made]
        if not growable:
            break
        inside.append(made[max(growable, key=lambda v: order[id(made[v])])])
    return found


def _is_plain(equations: list[Any]) -> bool:
    """Whether nothing is left out by leaving them out: conversions, and a lone operation with rules of its
    own.
    """
    names = {q.primitive.name for q in equations}
    return names <= {
        "convert_element_type",
        "copy",
        "reshape",
        "squeeze",
        "broadcast_in_dim",
        "stop_gradient",
    }


def span_faults(span: Region, f: Callable[[Any], Any]) -> Iterator[Fault]:
    """Return the mistakes that a whole function invites; operand 0 is its source.

    Args: `span`, its equations; `f`, it, as a function of the source.
    """
    yield Fault(Kind.TERM_DROPPED, "the path through it is left out", lambda b: {0: 0 * b.dy})
    if span.source.aval.dtype != span.target.aval.dtype:
        return  # complex numbers on one side alone
    yield Fault(Kind.DERIVATIVE_MISSING, "its derivative is left out", lambda b: {0: b.dy}, less=0.65)
    text = "it is applied to the cotangent as on the way forward, where its transpose is meant"
    yield Fault(Kind.TRANSPOSE_MISSING, text, lambda b: {0: jax.jvp(f, (b.inputs[0],), (b.dy,))[1]}, less=0.9)
    names = {q.primitive.name for q in span.equations}
    if {"exp", "reduce_sum"} <= names:
        for axis in range(len(span.target.aval.shape)):
            for name, g in _NORMALISED.items():
                words = f"the derivative is that of {name} along axis {axis}"
                rule = lambda b, g=g, a=axis: {0: jax.vjp(lambda x: g(x, a), b.inputs[0])[1](b.dy)[0]}  # noqa: E731
                yield Fault(Kind.ANOTHER_FORMULA, words, rule)


_NORMALISED: dict[str, Callable[[Any, int], Any]] = {
    "softmax": jax.nn.softmax,
    "log-softmax": jax.nn.log_softmax,
    "exp": lambda x, axis: jnp.exp(x),
}
