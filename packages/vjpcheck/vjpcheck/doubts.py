"""Why a leaf could not be judged: what its reader can do about it."""

from collections.abc import Iterator, Sequence

import numpy as np

from vjpcheck.bench import Bench, Measurement
from vjpcheck.report import Finding, Leaf, Verdict


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
