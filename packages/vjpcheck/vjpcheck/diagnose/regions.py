"""Runs of elementwise operations with one input: an activation, however it is written."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Fault
from vjpcheck.interpret import Program, as_is, evaluate
from vjpcheck.jaxprs import CALLS, every, held, platform_branch

ELEMENTWISE = frozenset(
    (
        "tanh logistic erf erfc erf_inv exp exp2 expm1 log log1p sin cos tan sinh cosh atan asin acos abs "
        "sign neg sqrt rsqrt cbrt integer_pow pow square mul add sub div max min select_n clamp "
        "gt ge lt le eq ne and or not xor is_finite convert_element_type stop_gradient copy add_any "
        "bitcast_convert_type cond " + " ".join(CALLS)
    ).split()
)

CURVED = frozenset(
    "tanh logistic erf erfc exp exp2 expm1 log log1p sin cos sqrt rsqrt custom_jvp_call".split()
)


@dataclass(frozen=True)
class Region:
    """Equations of one jaxpr that take `source` to `target` element by element.

    Args: `equations`, in their order; `source`, the variable that it reads; `target`, the variable that it
    makes; `others`, further variables that it reads.
    """

    equations: tuple[JaxprEqn, ...]
    source: Any
    target: Any
    others: tuple[Any, ...]  # further values that they read, which depend on no floating argument

    def function(self, others: Sequence[Any]) -> Callable[[Any], Any]:
        """Return the region as a function of its source alone."""
        body = Program((), (self.source, *self.others), (self.target,), self.equations)
        return lambda x: evaluate(body, (), [x, *others], as_is)[0]


def regions(jaxpr: Any) -> list[Region]:
    """Return the runs of elementwise operations from one floating value to another: the longest, and single
    curved ones.
    """
    made = {v: q for q in jaxpr.eqns for v in q.outvars}
    fixed = constants(jaxpr)
    found = []
    for equation in jaxpr.eqns:
        if is_elementwise(equation) and is_inexact(equation.outvars[0].aval):
            found.append(_grow(equation, made, fixed))
    found = [r for r in found if r is not None]
    found = [r for r in found if r.source.aval.size > 1 and _is_curved(r.equations)]
    longest = [
        r
        for r in found
        if not any(r is not q and set(map(id, r.equations)) < set(map(id, q.equations)) for q in found)
    ]
    curved = [
        r
        for r in found
        if r not in longest and len(r.equations) == 1 and r.equations[0].primitive.name in CURVED
    ]
    return longest + curved


def constants(program: Any) -> set[Any]:
    """Return the values that depend on no floating argument."""
    fixed = set(program.constvars)
    for q in program.eqns:
        if all(isinstance(v, Literal) or v in fixed or not is_inexact(v.aval) for v in q.invars):
            fixed.update(q.outvars)
    return fixed


def _is_curved(equations: Sequence[JaxprEqn]) -> bool:
    bent = CURVED | {"max", "min", "select_n", "abs", "integer_pow", "square", "pow", "clamp", "sign"}
    return _contains(equations, bent)


def is_elementwise(equation: JaxprEqn) -> bool:
    """Whether an operation makes each element of its output from the same element of its inputs."""
    if equation.primitive.name not in ELEMENTWISE or len(equation.outvars) != 1:
        return False
    inner = (q for jaxpr in held(equation) for q in jaxpr.eqns)
    if not all(
        is_elementwise(q) or q.primitive.name in ("broadcast_in_dim", "platform_index") for q in inner
    ):
        return False
    if equation.primitive.name == "cond" and platform_branch(equation) is None:
        return False
    shape = equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    return all(isinstance(v, Literal) or v.aval.shape in (shape, ()) for v in equation.invars)  # pyright: ignore[reportAttributeAccessIssue]


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape


def _grow(last: JaxprEqn, made: dict[Any, JaxprEqn], fixed: set[Any]) -> Region | None:
    """Walk back from `last`, and give the longest run that reads one floating value."""
    order = {id(q): i for i, q in enumerate(made.values())}
    inside, found = [last], None
    shape = last.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    while len(inside) < 40:
        produced = {v for q in inside for v in q.outvars}
        read = {v for q in inside for v in q.invars if not isinstance(v, Literal) and v not in produced}
        floating = [v for v in read if is_inexact(v.aval) and v not in fixed]
        if any(_shape(v) != shape for v in floating):
            break
        growable = [v for v in read if v in made and v not in fixed and is_elementwise(made[v])]
        others = tuple(v for v in read if v not in floating)
        if len(floating) == 1 and not any(v in growable for v in others):
            found = Region(
                tuple(sorted(inside, key=lambda q: order[id(q)])), floating[0], last.outvars[0], others
            )
        if not growable:
            break
        inside.append(made[max(growable, key=lambda v: order[id(made[v])])])
    return found


def region_faults(region: Region, f: Callable[[Any], Any]) -> Iterator[Fault]:
    """Return the mistakes that an activation invites; operand 0 is its source.

    Args: `region`, the region; `f`, its function of the source.
    """
    yield Fault(Kind.TERM_DROPPED, "the path through the activation is left out", lambda b: {0: 0 * b.dy})
    slope = lambda g, x: jax.jvp(g, (x,), (jnp.ones_like(x),))[1]  # noqa: E731
    if region.source.aval.dtype == region.target.aval.dtype:
        yield Fault(
            Kind.DERIVATIVE_MISSING, "the derivative of the activation is left out", lambda b: {0: b.dy}
        )
    if any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in (region.source, region.target)):
        return  # what follows are functions of real numbers
    yield Fault(
        Kind.DERIVATIVE_AT_THE_OUTPUT, "the derivative is taken at the output, not at the input",
        lambda b: {0: b.dy * slope(f, b.outputs[0])},
    )  # fmt: skip
    if _contains(region.equations, ("select_n", "max", "min")):
        yield Fault(
            Kind.MASK_INVERTED,
            "one minus the derivative is used",
            lambda b: {0: b.dy * (1 - slope(f, b.inputs[0]))},
        )


def formula_faults(region: Region, f: Callable[[Any], Any]) -> Iterator[Fault]:
    """Return the derivatives of other functions that may stand there: many, and asked for last.

    Args: `region`, the region; `f`, its function of the source.
    """
    yield Fault(Kind.TERM_DROPPED, "the path through the activation is left out", lambda b: {0: 0 * b.dy})
    if any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in (region.source, region.target)):
        return
    slope = lambda g, x: jax.jvp(g, (x,), (jnp.ones_like(x),))[1]  # noqa: E731
    for name, g in ACTIVATIONS.items():
        yield Fault(
            Kind.ANOTHER_FORMULA,
            f"the derivative is that of {name}",
            lambda b, g=g: {0: b.dy * slope(g, b.inputs[0])},
            less=0.1,
        )
    for text, g in FORMULAS.items():
        words = f"{text} is used for the derivative, with {{}}"
        yield Fault(
            Kind.ANOTHER_FORMULA,
            words.format("y the output"),
            lambda b, g=g: {0: b.dy * g(b.outputs[0])},
            less=0.2,
        )
        yield Fault(
            Kind.ANOTHER_FORMULA,
            words.format("y the input"),
            lambda b, g=g: {0: b.dy * g(b.inputs[0])},
            less=0.3,
        )


def _contains(equations: Sequence[JaxprEqn], names: Collection[str]) -> bool:
    inside = (q for outer in equations for jaxpr in held(outer) for q in every(jaxpr))
    return any(q.primitive.name in names for q in chain(equations, inside))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: jnp.where(x > 0, x, 0),
    "leaky relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
    "tanh": jnp.tanh,
    "the logistic function": lambda x: 1 / (1 + jnp.exp(-x)),
    "silu": lambda x: x / (1 + jnp.exp(-x)),
    "gelu (erf)": lambda x: x * (1 + jax.lax.erf(x * 0.7071067811865476)) / 2,
    "gelu (tanh)": lambda x: 0.5 * x * (1 + jnp.tanh(0.7978845608028654 * (x + 0.044715 * x**3))),
    "gelu (logistic)": lambda x: x / (1 + jnp.exp(-1.702 * x)),
    "softplus": lambda x: jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.where(x > 0, x, 0),
    "elu": lambda x: jnp.where(x > 0, x, jnp.expm1(jnp.where(x > 0, 0, x))),
    "abs": jnp.abs,
    "exp": jnp.exp,
    "sin": jnp.sin,
    "square / 2": lambda x: x * x / 2,
}
FORMULAS: dict[str, Callable[[Any], Any]] = {
    "y": lambda y: y,
    "1 - y": lambda y: 1 - y,
    "y (1 - y)": lambda y: y * (1 - y),
    "1 - y^2": lambda y: 1 - y * y,
    "y^2": lambda y: y * y,
    "1 + y": lambda y: 1 + y,
    "1 - y^2 / 2": lambda y: 1 - y * y / 2,
    "(1 - y)^2": lambda y: (1 - y) ** 2,
    "(1 - y^2)^2": lambda y: (1 - y * y) ** 2,
    "sign(y)": jnp.sign,
}
