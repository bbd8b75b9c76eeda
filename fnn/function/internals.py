"""All that fnn.function knows of JAX beyond its documented names: the form of a trace.

A trace is a jaxpr, which JAX documents as its internal language: names of operations and of their
parameters may change between versions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core, source_info_util

Literal = core.Literal

# Operations that give the shape of their operands, broadcast as lax broadcasts: element by element.
ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp complex conj
    convert_element_type copy copysign cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge
    gt igamma igammac imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg
    nextafter not or polygamma pow real reduce_precision regularized_incomplete_beta rem round rsqrt
    select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor zeta""".split()
)
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
REMATS = ("remat2", "checkpoint")
RULES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")
IDENTITIES = ("copy", "copy_p", "sharding_constraint", "pvary", "pcast", "reshard")

SUMS = frozenset("psum psum_invariant psum2 pmax pmin".split())  # over the shards of a `shard_map`


class Scan(NamedTuple):
    """What a scan's equation says.

    Args:
        body: the closed jaxpr of a step.
        consts: the number of operands that all steps share; they come first.
        carry: the number of operands, and of results, that one step hands to the next; they come next.
        length: the number of steps.
        reverse: whether the last step comes first.
        unroll: how many steps are laid out one after the other, as `jax.lax.scan` takes it.
    """

    body: Any
    consts: int
    carry: int
    length: int
    reverse: bool
    unroll: Any


def bind(eqn: Any, values: list[Any]) -> list[Any]:
    """Run one operation of a trace.

    Args:
        eqn: the operation, an equation of the trace.
        values: the values of its operands.

    Returns:
        a list of its results.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*values, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def called(eqn: Any) -> tuple[Any, list[Any]] | None:
    """Return the jaxpr and the constants of an operation that only calls it; None for any other operation."""
    name = CALLS.get(eqn.primitive.name)
    return None if name is None else _open(eqn.params[name])


def ruled(eqn: Any) -> tuple[Any, list[Any]] | None:
    """Return the same of a function with a derivative of its own (`custom_jvp`, `custom_vjp`)."""
    if eqn.primitive.name not in RULES:
        return None
    return _open(eqn.params.get("call_jaxpr", eqn.params.get("fun_jaxpr")))


def scanned(eqn: Any) -> Scan | None:
    """Return what a scan says; None for any other operation."""
    if eqn.primitive.name != "scan":
        return None
    p = eqn.params
    if "ft_in" in p:  # JAX 0.11 and newer: the operands as a tree
        consts, carry = (len(list(group)) for group in p["ft_in"].update(eqn.invars).unpack()[:2])
    else:
        consts, carry = p["num_consts"], p["num_carry"]
    return Scan(p["jaxpr"], consts, carry, p["length"], p["reverse"], p["unroll"])


def branches(eqn: Any) -> tuple[Any, ...] | None:
    """Return the closed jaxprs of a `cond` or `switch`, whose first operand is the index; None for others."""
    return tuple(eqn.params["branches"]) if eqn.primitive.name == "cond" else None


class Sharded(NamedTuple):
    """What a `shard_map`'s equation says.

    Args:
        body: the jaxpr of one shard.
        specs: for each operand, and each of its axes, the mesh axes along which it is cut.
        mesh: the size of each mesh axis, by its name.
    """

    body: Any
    specs: tuple[tuple[tuple[str, ...], ...], ...]
    mesh: Any


def sharded(eqn: Any) -> Sharded | None:
    """Return what a `shard_map` says; None for any other operation."""
    if eqn.primitive.name != "shard_map":
        return None
    p = eqn.params

    def names(entry: Any) -> tuple[str, ...]:
        return () if entry is None else entry if isinstance(entry, tuple) else (entry,)

    specs = tuple(tuple(names(entry) for entry in spec) for spec in p["in_specs"])
    return Sharded(_open(p["jaxpr"])[0], specs, dict(p["mesh"].shape))


def collected(eqn: Any) -> tuple[str, ...]:
    """Name the mesh axes, or mapped axes, over which an operation moves values; none for most."""
    named = eqn.params.get("axes", ()) if eqn.primitive.name in SUMS else eqn.params.get("axis_name", ())
    return tuple(a for a in (named if isinstance(named, tuple) else (named,)) if isinstance(a, str))


class Solve(NamedTuple):
    """What a linear solve's equation says.

    Args:
        product: the jaxpr of the matrix times a vector, of its constants and the vector.
        solver: the jaxpr of the solution, of its constants and the right-hand side.
        of_product, of_solver: the places of their constants among the operands.
        right: the places of the right-hand side among the operands.
    """

    product: Any
    solver: Any
    of_product: slice
    of_solver: slice
    right: slice


def solved(eqn: Any) -> Solve | None:
    """Return what a `custom_linear_solve` says; None for any other operation.

    Its derivative is that of the matrix and the right-hand side: what the solver alone reads has none.
    """
    if eqn.primitive.name != "custom_linear_solve":
        return None
    of, lengths = eqn.params["jaxprs"], [count or 0 for count in eqn.params["const_lengths"]]
    ends = [sum(lengths[:k]) for k in range(5)]  # of the product, its transpose, the solver, its transpose
    product, solver = _open(of.matvec)[0], _open(of.solve)[0]
    return Solve(product, solver, slice(0, ends[1]), slice(ends[2], ends[3]), slice(ends[4], None))


class While(NamedTuple):
    """What a `while_loop`'s equation says.

    Args:
        condition: the jaxpr of the condition, of its constants and what is carried; under `vmap` its result
            has an axis of examples, and each example stays as it is once its own is false.
        body: the jaxpr of a step, of its constants and what is carried.
        of_condition, of_body: the places of their constants among the operands.
        first: the place of the first operand that is carried.
    """

    condition: Any
    body: Any
    of_condition: slice
    of_body: slice
    first: int


def looped(eqn: Any) -> While | None:
    """Return what a `while_loop` says; None for any other operation."""
    if eqn.primitive.name != "while":
        return None
    p = eqn.params
    condition, body = _open(p["cond_jaxpr"])[0], _open(p["body_jaxpr"])[0]
    first = conditions(eqn)
    return While(condition, body, slice(0, first), slice(first, end := first + p["body_nconsts"]), end)


def conditions(eqn: Any) -> int:
    """Count the operands of a `while` that its condition alone reads; they come first."""
    return eqn.params["cond_nconsts"]


def checkpointed(eqn: Any, f: Callable[..., Any]) -> Callable[..., Any]:
    """Put `jax.checkpoint` around a function where an operation of the trace asks for it.

    Args:
        eqn: the operation, an equation of the trace.
        f: the function that runs it.
    """
    if eqn.primitive.name not in REMATS:
        return f
    return jax.checkpoint(f, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"])


def where(eqn: Any) -> str:
    """Name the line of the user's program that an operation stems from: "model.py:12 (forward)"."""
    return source_info_util.summarize(eqn.source_info)


def inner(eqn: Any) -> list[Any]:
    """List the jaxprs inside an operation, in order."""
    found = []
    for value in eqn.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(one, "eqns"):  # of a type of JAX's that differs between versions
                found.append(_open(one)[0])
    return found


def _open(jaxpr: Any) -> tuple[Any, list[Any]]:
    return (jaxpr.jaxpr, list(jaxpr.consts)) if isinstance(jaxpr, core.ClosedJaxpr) else (jaxpr, [])


def differentiable(aval: Any) -> bool:
    """Tell whether a value has derivatives: floating or complex, no integer, bool or key."""
    return hasattr(aval, "dtype") and jax.numpy.issubdtype(aval.dtype, np.inexact)
