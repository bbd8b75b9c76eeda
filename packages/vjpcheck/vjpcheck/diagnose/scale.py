"""What a wrong factor is called."""

from typing import Any

import numpy as np
from jax.extend.core import Literal

from vjpcheck.arguments import Arguments
from vjpcheck.catalogue import Kind
from vjpcheck.jaxprs import every
from vjpcheck.reference import Trace


def parallel(given: np.ndarray, right: np.ndarray) -> float | None:
    """Return k with given = k right in the least-squares sense, or None where there is nothing to fit.

    Args: `given`, a gradient; `right`, the reference.
    """
    square = float(np.real(np.vdot(right, right)))
    return float(np.real(np.vdot(right, given))) / square if square > 0 else None


TELLING = (Kind.SIGN, Kind.MEAN_FOR_SUM, Kind.SUM_FOR_MEAN)  # factors that say by themselves what they are


def name_scale(k: float, arguments: Arguments, traced: Trace) -> tuple[Kind, str]:
    """Name a factor: a sign, a size of some axis (a mean for a sum, or the reverse), or just a number.

    Args: `k`, the factor; `arguments`, the arguments; `traced`, the trace of the primal.
    """
    if _near(k, -1):
        return Kind.SIGN, "that of the opposite sign"
    lengths = sizes(arguments, traced)
    sign = "minus " if k < 0 else ""
    for n, what in lengths:
        if _near(abs(k), 1 / n):
            return (
                Kind.MEAN_FOR_SUM,
                f"{sign}the right one divided by {n}, {what}: a mean where a sum is meant",
            )
        if _near(abs(k), n):
            return Kind.SUM_FOR_MEAN, f"{sign}the right one times {n}, {what}: a sum where a mean is meant"
    for c in constants(traced.jaxpr.jaxpr):
        if _near(abs(k), 1 / c):
            return Kind.CONSTANT_LEFT_OUT, f"{sign}the right one without the constant {c:.6g}"
        if _near(abs(k), c):
            return Kind.CONSTANT_APPLIED_TWICE, f"{sign}the right one with the constant {c:.6g} once more"
    for n, what in lengths:
        for m, _ in lengths:
            if n != m and _near(abs(k), m / n) and abs(k) not in (0.5, 2.0):
                return (
                    Kind.MEAN_OVER_THE_WRONG_AXIS,
                    f"{sign}the right one times {m}/{n}: divided by {n}, {what}, not by {m}",
                )
    for n, what in lengths:
        if _near(abs(k), 1 / n**2) or _near(abs(k), n**2):
            name = Kind.MEAN_FOR_SUM if abs(k) < 1 else Kind.SUM_FOR_MEAN
            return name, f"{sign}off by the square of {n}, {what}"
        if _near(abs(k), n**0.5) or _near(abs(k), n**-0.5):
            return Kind.FACTOR, f"{sign}the right one times {'' if abs(k) > 1 else '1/'}sqrt({n}), {what}"
    return Kind.FACTOR, f"the right one times {k:.6g}"


def constants(jaxpr: Any) -> list[float]:
    """Return the constants that a forward pass multiplies or divides by."""
    found = []
    for q in every(jaxpr):
        if q.primitive.name in ("mul", "div"):
            values = [v.val for v in q.invars if isinstance(v, Literal) and np.ndim(v.val) == 0]
            found += [abs(float(np.real(v))) for v in values]
    return [c for c in dict.fromkeys(found) if c not in (0.0, 0.5, 1.0, 2.0)]


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * abs(b)


def sizes(arguments: Arguments, traced: Trace) -> list[tuple[int, str]]:
    """Return the sizes by which a mean divides, each with what it is the size of; the output's rows first.

    Args: `arguments`, the arguments; `traced`, the trace of the primal.
    """
    found: dict[int, str] = {}
    shapes = [("the output", s.shape) for s in traced.shapes]
    shapes += [(name, x.shape) for name, x in zip(arguments.names, arguments.leaves, strict=True)]
    for name, shape in shapes:
        for axis, n in enumerate(shape):
            found.setdefault(n, f"axis {axis} of {name}")
        found.setdefault(int(np.prod(shape)), f"the number of elements of {name}")
        for i in range(len(shape)):
            for j in range(i + 2, len(shape) + 1):
                found.setdefault(int(np.prod(shape[i:j])), f"axes {i} to {j - 1} of {name} together")
    return [(n, what) for n, what in found.items() if n > 2]
