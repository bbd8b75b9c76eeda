"""Why a leaf could not be judged, or was judged by less than its slope: what its reader can do about it."""

from collections.abc import Iterator, Sequence

import numpy as np

from vjpcheck.bench import Bench, Measurement
from vjpcheck.finite import by_differences
from vjpcheck.report import Finding, Leaf, Verdict
from vjpcheck.source import source
from vjpcheck.stops import stops


def doubts(stand: Bench, m: Measurement, leaves: Sequence[Leaf]) -> Iterator[Finding]:
    """Say which outputs of the function are NaN, and of every leaf that is INCONCLUSIVE why it is.

    Args:
        stand: the subject beside its reference.
        m: what was measured there.
        leaves: the judgement of every active leaf, in their order.

    Returns:
        the findings, all of them INCONCLUSIVE.
    """
    for i, y in enumerate(m.right_outputs):
        if count := int(np.isnan(y).sum()):
            text = f"output {i} of the function itself is NaN in {count} of {y.size} places"
            yield Finding("forward", Verdict.INCONCLUSIVE, text)
    for right, dtype, leaf in zip(m.right, stand.dtypes, leaves, strict=True):
        if leaf.verdict is Verdict.INCONCLUSIVE:
            yield Finding("leaves", Verdict.INCONCLUSIVE, _why(right, np.dtype(dtype), leaf), leaf.name)


def stopped(stand: Bench, m: Measurement) -> list[str]:
    """Say of which leaves a `stop_gradient` in the function makes the right gradient another than the slope.

    Args:
        stand: the subject beside its reference.
        m: what was measured there.

    Returns:
        a note, or none.
    """
    found = [] if stand.subject.surrogate is not None else list(stops(stand.traced.jaxpr.jaxpr))
    if not found:
        return []
    told = by_differences(stand, m, range(len(m.right)), m.right)
    names = [name for name, (verdict,) in zip(stand.names, told, strict=True) if verdict is Verdict.FAIL]
    if not names:
        return []
    where = ", ".join(dict.fromkeys(filter(None, map(source, found))))
    text = f"the function stops gradients{' at ' + where if where else ''}: what is right for "
    return [text + f"{', '.join(names)} is what it declares so, not the slope of what it computes"]


def _why(right: np.ndarray, dtype: np.dtype, leaf: Leaf) -> str:
    if not np.all(np.isfinite(right)):
        return f"the right gradient of {leaf.name} is not finite at the inputs given"
    if not np.any(right):
        return (
            f"the function is flat in {leaf.name} at the inputs given, and the rule gives a slope: "
            "if the backward is meant to be another function's, name that by `surrogate=`"
        )
    return (
        f"rounding in {dtype} alone moves the gradient of {leaf.name} by up to {leaf.tolerance:.1e} of it: "
        "check it in a wider dtype, or at other inputs"
    )
