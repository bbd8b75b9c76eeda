"""Whether a gradient is right: its error beside the error that autodiff itself makes at this precision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.progress import Progress
from vjpcheck.report import Finding, Leaf, Verdict

SAFETY = 8  # how much worse than autodiff a hand-written rule may round
CAP = 0.05  # beyond this the working precision says nothing about the leaf


@dataclass(frozen=True)
class Margin:
    """What is allowed of the gradient of one leaf.

    Args:
        tolerance: the absolute error that is allowed in every element.
        slack: what is allowed in addition where a kink leaves a choice; a number, or an array like the
            gradient.
    """

    tolerance: float
    slack: np.ndarray | float = 0.0


def margin(
    right: np.ndarray, others: Sequence[np.ndarray], dtype: Any, slack: np.ndarray | float = 0.0
) -> Margin:
    """Derive what is allowed from gradients that differ from the right one by rounding alone.

    8 max(|other - right|, 8 eps |right|), in the largest element, and the smallest normal number.

    Args:
        right: the right gradient, in float64 or complex128.
        others: gradients of the same shape, rounded in other ways.
        dtype: the dtype of the leaf, whose eps is meant.
        slack: the slack of the margin, as for `Margin`.
    """
    info = jnp.finfo(dtype)
    size = _largest(right)
    floor = min(SAFETY * float(info.eps), CAP / SAFETY) * size
    with np.errstate(invalid="ignore", over="ignore"):
        noise = max((_largest(other - right) for other in others), default=0.0)
    return Margin(SAFETY * max(noise, floor, float(info.tiny)), slack)


def exact_margin(right: np.ndarray, dtype: Any, floor: float, slack: np.ndarray | float = 0.0) -> Margin:
    """Return what is allowed of a rule that itself runs in float64: the rounding of its constants.

    Args:
        right: the right gradient, in float64 or complex128.
        dtype: the dtype of the leaf, which its constants were rounded to.
        floor: the least tolerance, absolute.
        slack: the slack of the margin, as for `Margin`.
    """
    info = jnp.finfo(dtype)
    eps = float(info.eps)
    relative = SAFETY * SAFETY * eps if SAFETY * SAFETY * eps < CAP else 2 * eps
    return Margin(max(relative * _largest(right), floor, float(info.tiny)), slack)


def judge(
    name: str, got: np.ndarray, right: np.ndarray, allowed: Margin, dtype: Any, probe: str = ""
) -> Leaf:
    """Compare one gradient with its reference; see `Leaf` for the numbers.

    Args:
        name: the name of the leaf.
        got: the gradient to judge, in float64 or complex128.
        right: the right one, of the same shape.
        allowed: what is allowed between the two.
        dtype: the dtype of the leaf.
        probe: what was special about the inputs, or "" for those given.
    """
    size = _largest(right)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(got - right)
        excess = np.where(np.isfinite(right), np.fmax(distance - allowed.slack, 0.0), 0.0)
        excess = np.where(np.isfinite(right) & np.isnan(distance), np.nan, excess)
    error, tolerance = _largest(excess), allowed.tolerance
    cap = max(CAP, 16 * float(jnp.finfo(dtype).eps)) * size
    if not np.isfinite(tolerance) or not np.all(np.isfinite(right)):
        verdict = Verdict.INCONCLUSIVE
    elif not error <= tolerance:
        verdict = (
            Verdict.FAIL if tolerance <= max(size, 8 * float(jnp.finfo(dtype).tiny)) else Verdict.INCONCLUSIVE
        )
    else:
        verdict = (
            Verdict.PASS if tolerance <= max(cap, 8 * float(jnp.finfo(dtype).tiny)) else Verdict.INCONCLUSIVE
        )
    unit = size if size > 0 else 1.0
    return Leaf(name, verdict, error / unit, tolerance / unit, *_ratio_and_angle(got, right), probe)


def worst(leaves: Sequence[Leaf]) -> Leaf:
    """Return the leaf of the worst verdict, and of the largest error among those."""
    order = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
    return max(leaves, key=lambda leaf: (order.index(leaf.verdict), np.nan_to_num(leaf.error, nan=np.inf)))


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0.0)) if not np.isnan(x).any() else float("nan")


def _ratio_and_angle(got: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        a, b = np.linalg.norm(got.ravel()), np.linalg.norm(right.ravel())
        if a == 0 or b == 0:
            return (1.0 if a == b else float(np.divide(a, b))), 0.0
        cosine = float(np.clip(np.real(np.vdot(got, right)) / (a * b), -1, 1))
        return float(np.copysign(a / b, cosine)), float(np.degrees(np.arccos(cosine)))


def name_slopes(p: Progress) -> None:
    """Say which slopes are wrong, and by what, where all of them are so by one factor.

    Args:
        p: the report in the making, whose leaves are judged.
    """
    wrong = [leaf for leaf in p.leaves if leaf.verdict is Verdict.FAIL]
    for leaf in wrong:
        text = f"{leaf.name} has slopes off by {leaf.error:.1e} where {leaf.tolerance:.1e} is allowed"
        p.findings.append(Finding("finite differences", Verdict.FAIL, text, leaf.name))
    if not wrong or any(leaf.angle for leaf in wrong):
        return
    names, k = ", ".join(leaf.name for leaf in wrong), wrong[0].ratio
    near = lambda to: all(abs(leaf.ratio - to) < max(1e-4, leaf.tolerance) for leaf in wrong)  # noqa: E731
    if near(-1):
        name, text = Kind.SIGN, f"the slopes of {names} have the opposite sign in every direction tried"
    elif all(leaf.ratio == 0 for leaf in wrong):
        name, text = Kind.ZERO_GRADIENT, f"the gradient of {names} is zero, its slopes are not"
    elif near(k) and not near(1):
        name, text = Kind.FACTOR, f"the slopes of {names} are {k:.4g} times the right ones"
    else:
        return
    p.fail("finite differences", text, name)
