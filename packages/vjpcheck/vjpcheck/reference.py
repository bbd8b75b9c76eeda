"""The right gradient: autodiff of the primal in float64, and the same at the working precision.

The primal is traced once, as it runs, and the trace is run again in float64; constants, cast-downs and
masks stay those of the working precision, so both are one function, rounded differently.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from vjpcheck.arguments import Arguments, exact, is_inexact, replaced
from vjpcheck.effort import compile_quickly, in_float64
from vjpcheck.interpret import Step, as_is, evaluate, widen
from vjpcheck.jaxprs import every
from vjpcheck.roughness import resolve_ties, roughen

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Trace:
    """A primal traced at some shapes.

    Args:
        jaxpr: the program.
        arguments: the arguments whose shapes it was traced at.
        shapes: the shape and dtype of each leaf of the output.
        out_tree: the structure of the output.
        outputs: the places, among these leaves, of the floating ones.
        ruled: whether the rules of what it calls are followed.
    """

    jaxpr: ClosedJaxpr
    arguments: Arguments
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    out_tree: Any
    outputs: tuple[int, ...]
    ruled: bool = False  # whether the rules of what it calls are followed


def trace(primal: Callable[..., Any], arguments: Arguments, ruled: bool = False) -> Trace:
    """Trace a function at the shapes of its arguments.

    Args:
        primal: the function.
        arguments: its arguments.
        ruled: whether the rules of what it calls are to be followed.
    """
    flat = lambda *leaves: primal(*arguments.unflatten(leaves))  # noqa: E731
    jaxpr, shape = jax.make_jaxpr(flat, return_shape=True)(*arguments.leaves)
    shapes, tree = jax.tree.flatten(shape)
    outputs = tuple(i for i, s in enumerate(shapes) if is_inexact(s))
    return Trace(jaxpr, arguments, tuple(shapes), tree, outputs, ruled)


@dataclass(frozen=True)
class Reference:
    """The right outputs and gradients of a trace.

    Each function takes `(leaves, dys)`, with a seed or a side, and returns the outputs and the gradients, in
    float64 on the host; the gradients are stacked over the cotangents `dys`.

    Args:
        trace: the trace.
        wide: runs it in float64.
        working: runs it as it was traced.
        rough: `rough(leaves, dys, seed)`, in float64 with the rounding errors of the working precision drawn.
        tied: `tied(leaves, dys, side)`, in float64 with one side taken at every kink.
    """

    trace: Trace
    wide: Callable[..., tuple[Arrays, Arrays]]
    working: Callable[..., tuple[Arrays, Arrays]]
    rough: Callable[..., tuple[Arrays, Arrays]]
    tied: Callable[..., tuple[Arrays, Arrays]]


def reference(traced: Trace) -> Reference:
    """Make the reference of a traced primal; each of its functions compiles when it is first called."""

    def compiled(wide: bool, step: Callable[[Any], Step]) -> Callable[..., tuple[Arrays, Arrays]]:
        run = compile_quickly(lambda leaves, dys, seed: pull(traced, leaves, dys, step(seed), wide))

        def call(leaves: Sequence[Any], dys: Sequence[Any], seed: int = 0) -> tuple[Arrays, Arrays]:
            with in_float64() if wide else nullcontext():
                ys, grads = run(tuple(leaves), tuple(dys), seed)
                return [exact(y) for y in ys], [exact(g) for g in grads]

        return call

    return Reference(
        traced,
        wide=compiled(True, lambda _: as_is),
        working=compiled(False, lambda _: as_is),
        rough=compiled(True, roughen),
        tied=compiled(True, resolve_ties),
    )


def pull(
    traced: Trace, leaves: Sequence[Any], dys: Sequence[Any], step: Step | None = None, wide: bool = True
) -> tuple[list[Any], list[Any]]:
    """Run a trace, and pull every one of the stacked cotangents back to the active leaves.

    Args:
        traced: the trace.
        leaves: the leaves of the arguments, all of them.
        dys: the cotangents of each floating output, (n, ...).
        step: what is done at each operation, as for `evaluate`.
        wide: whether it is run in float64.

    Returns:
        the floating outputs, and the gradients of each active leaf, (n, ...).
    """
    change = widen if wide else jnp.asarray
    active = traced.arguments.active

    def run(*chosen: Any) -> list[Any]:
        full = replaced(leaves, active, chosen)
        ys = evaluate(traced.jaxpr.jaxpr, traced.jaxpr.consts, full, step, wide, (), traced.ruled)
        return [ys[i] for i in traced.outputs]

    ys, pullback = jax.vjp(run, *[change(leaves[i]) for i in active])
    grads = jax.vmap(lambda dy: pullback(dy))(
        [jnp.asarray(d).astype(y.dtype) for d, y in zip(dys, ys, strict=True)]
    )
    return ys, list(grads)


def wide_rule(
    rule: Callable[..., Any], arguments: Arguments, dys: Sequence[Any], rough: bool = False
) -> Callable[..., Arrays] | None:
    """Return a rule in float64, to tell a wrong formula from rounding; None where it cannot be traced.

    Args:
        rule: `rule(leaves, dy)` returns the gradients for one cotangent of the outputs.
        arguments: the arguments at whose shapes it is traced.
        dys: stacked cotangents of each output, (n, ...), of the shapes and dtypes to come.
        rough: whether rounding errors of the dtypes traced are drawn.

    Returns:
        `run(leaves, dys, seed=0)`, which returns the gradients for stacked cotangents, on the host.
    """
    try:
        jaxpr = jax.make_jaxpr(rule)(arguments.leaves, [d[0] for d in dys])
    except Exception:  # the rule's own; said elsewhere
        return None

    def run(leaves: Sequence[Any], dys: Sequence[Any], seed: Any) -> list[Any]:
        step = roughen(seed) if rough else as_is
        one = lambda dy: evaluate(jaxpr.jaxpr, jaxpr.consts, [*leaves, *dy], step)  # noqa: E731
        return jax.lax.map(one, [widen(d) for d in dys])

    compiled = compile_quickly(run)

    def call(leaves: Sequence[Any], dys: Sequence[Any], seed: int = 0) -> Arrays:
        with in_float64():
            return [exact(g) for g in compiled(tuple(leaves), tuple(dys), seed)]

    return call


def narrowest(jaxpr: Any) -> float:
    """Return the largest eps of the floating dtypes that a trace computes in."""
    outputs = (v.aval for equation in every(jaxpr) for v in equation.outvars)
    return max((float(jnp.finfo(aval.dtype).eps) for aval in outputs if is_inexact(aval)), default=0.0)
