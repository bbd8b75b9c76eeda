"""The derivative of the gradient: second order, ours and autodiff's in float64."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.arguments import exact, is_inexact, replaced
from vjpcheck.attempt import first_line
from vjpcheck.bench import Bench
from vjpcheck.effort import in_float64
from vjpcheck.interpret import evaluate
from vjpcheck.progress import Progress
from vjpcheck.pulled import Gradients, Run


def second_order(bench: Bench, run: Run, p: Progress) -> None:
    """Pull a random cotangent back through the backward pass itself, ours and autodiff's in float64.

    Args:
        bench: the subject beside its reference, whose trace is differentiated twice.
        run: the subject's function, with the arguments and the cotangent of the first backward pass.
        p: the report in the making, to which failures are added.
    """
    rng = np.random.default_rng(2)
    active = run.arguments.active
    us = [
        rng.standard_normal(run.arguments.leaves[i].shape).astype(run.arguments.leaves[i].dtype)
        for i in active
    ]

    def twice(first: Callable[..., Any], leaves: Sequence[Any], us: Sequence[Any]) -> list[Any]:
        chosen = lambda *xs: first(replaced(leaves, active, xs))  # noqa: E731
        return list(jax.vjp(chosen, *[leaves[i] for i in active])[1](list(us)))

    try:
        got = [exact(g) for g in twice(lambda x: run.pull(run.f, x, run.dy), run.arguments.leaves, us)]
    except Exception as error:  # the user's rule
        p.fail(
            "second order",
            f"the backward pass cannot be differentiated: {first_line(error)}",
            "second order undefined",
        )
        return
    want = _right_second_order(bench, run, us, twice)
    working = _working_second_order(bench, run, us, twice)
    for name, g, w, o, dtype in zip(bench.names, got, want, working, bench.dtypes, strict=True):
        size = float(np.max(np.abs(w), initial=0.0))
        noise = float(np.max(np.abs(o - w), initial=0.0))
        allowed = 8 * max(noise, 8 * float(jnp.finfo(dtype).eps) * size, float(jnp.finfo(dtype).tiny))
        error = float(np.max(np.abs(g - w), initial=0.0))
        if not error <= allowed and allowed <= max(size, 1e-30):
            text = f"the second derivative by {name} is off by {error:.1e} where {allowed:.1e} is allowed"
            p.fail("second order", text, "" if p.mistakes else "second order wrong", name)


def _first_gradient(bench: Bench, leaves: Sequence[Any], dy: Sequence[Any], wide: bool) -> list[Any]:
    traced = bench.traced
    active = traced.arguments.active

    def f(*xs: Any) -> list[Any]:
        full = replaced(leaves, active, xs)
        ys = evaluate(traced.jaxpr.jaxpr, traced.jaxpr.consts, full, wide=wide)
        return [ys[i] for i in traced.outputs]

    ys, pullback = jax.vjp(f, *[leaves[i] for i in active])
    return list(pullback([jnp.asarray(d).astype(y.dtype) for d, y in zip(dy, ys, strict=True)]))


def _right_second_order(bench: Bench, run: Run, us: Sequence[Any], twice: Callable[..., Any]) -> Gradients:
    with in_float64():
        leaves = [jnp.asarray(exact(x)) if is_inexact(x) else x for x in run.arguments.leaves]
        wide = jax.jit(
            lambda leaves, us: twice(lambda x: _first_gradient(bench, x, run.dy, True), leaves, us)
        )
        return [exact(g) for g in wide(leaves, [np.asarray(u, np.float64) for u in us])]


def _working_second_order(bench: Bench, run: Run, us: Sequence[Any], twice: Callable[..., Any]) -> Gradients:
    narrow = jax.jit(lambda leaves, us: twice(lambda x: _first_gradient(bench, x, run.dy, False), leaves, us))
    return [exact(g) for g in narrow(list(run.arguments.leaves), us)]
