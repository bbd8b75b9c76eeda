"""A gradient that is right but for a value of the forward pass: multiplied or divided by it once too
often.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from vjpcheck.arguments import exact, is_inexact
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.hypothesis import Evidence, Hypothesis
from vjpcheck.effort import in_float64
from vjpcheck.interpret import Operation, evaluate
from vjpcheck.reference import Trace
from vjpcheck.source import source


def hypotheses(e: Evidence, wrong: Sequence[int]) -> Iterator[Hypothesis]:
    """Return the values of the forward pass that stand between what was given and what is right.

    Args: `e`, what was given and what is right; `wrong`, the numbers of the wrong leaves.
    """
    if not any(_could_be(e, i) for i in wrong):
        return
    run, where = _values(e.bench.traced)
    values = run(e.measurement.arguments.leaves)
    for number, value in enumerate(values):
        for name, words, change in _CHANGES:
            fits = [i for i in wrong if _fits(value, e.right[i]) and e.matches(i, change(e.right[i], value))]
            if fits:
                names = ", ".join(e.bench.names[i] for i in fits)

                def predict(
                    e: Evidence, n: int = number, f: Callable[..., Any] = change, fits: list[int] = fits
                ) -> list[Any]:
                    value = run(e.measurement.arguments.leaves)[n]
                    return [f(r, value) if i in fits else r for i, r in enumerate(e.right)]

                yield Hypothesis(
                    name,
                    f"the gradient of {names} {words}",
                    predict,
                    where[number],
                    False,
                    less=3.1 - name.cost,
                )


_CHANGES: tuple[tuple[Kind, str, Callable[[np.ndarray, np.ndarray], np.ndarray]], ...] = (
    (Kind.ANOTHER_VALUE, "is multiplied by this value once too often", lambda r, v: r * v),
    (Kind.DERIVATIVE_MISSING, "lacks a factor of this value", lambda r, v: r / np.where(v == 0, np.nan, v)),
)


def _could_be(e: Evidence, i: int) -> bool:
    """Whether given / right is the same for both cotangents, so that no value of them is in it."""
    with np.errstate(all="ignore"):
        ratio = e.given[i] / e.right[i]
    close = np.isclose(ratio[0], ratio[1], rtol=1e-4)
    return bool(np.mean(close) > 0.9)


def _fits(value: np.ndarray, right: np.ndarray) -> bool:
    try:
        return np.broadcast_shapes(value.shape, right.shape[1:]) == right.shape[1:]
    except ValueError:
        return False


def _values(traced: Trace) -> tuple[Callable[[Sequence[Any]], list[np.ndarray]], list[str]]:
    """Return a function that runs the forward pass and keeps its arguments and every value of its outermost
    level, and their lines.
    """
    where: list[str] = []

    def run(leaves: Sequence[Any]) -> list[Any]:
        kept = [x for x in leaves if is_inexact(x)]
        where[:] = [""] * len(kept)

        def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
            outputs = operation.run(*inputs)
            if len(operation.place) == 1:
                floats = [y for y in outputs if is_inexact(y)]
                kept.extend(floats)
                where.extend(source(operation.equation) for _ in floats)
            return outputs

        evaluate(traced.jaxpr.jaxpr, traced.jaxpr.consts, list(leaves), step)
        return kept

    jitted = jax.jit(run)

    def call(leaves: Sequence[Any]) -> list[np.ndarray]:
        with in_float64():
            return [exact(v) for v in jitted(tuple(leaves))]

    return call, where
