"""Where a function has a kink or equal maxima, several gradients are right: how far they lie apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpcheck.measurement import Measurement
from vjpcheck.reference import Arrays, Reference


def breaks_a_sum(i: int, m: Measurement, exact: np.ndarray, sides: Sequence[Arrays]) -> bool:
    """Whether a sum differs on which all sides of the kinks agree.

    Each of several equal maxima may get a share, but no more than one share in all.

    Args:
        i: the place of the leaf among the active ones.
        m: what was measured.
        exact: what the rule gives for the leaf in float64, one gradient for each cotangent, (5, ...).
        sides: the right gradients of all leaves by side, as `sides` returns them.
    """
    value = m.value(i)
    for weight in (np.ones_like(value), value):
        total = lambda g, w=weight: (np.asarray(g[:2]) * w).reshape(2, -1).sum(1)  # noqa: E731
        room = 1e-9 * (np.abs(m.right[i]) * np.abs(weight)).sum() + 1e-12
        agreed = all(np.all(np.abs(total(s[i]) - total(m.right[i])) <= room) for s in sides)
        if agreed and np.any(np.abs(total(exact) - total(m.right[i])) > 1e4 * room):
            return True
    return False


def sides(reference: Reference, m: Measurement, made_up: bool) -> list[Arrays]:
    """Return the gradients with one side taken at every kink, then the other.

    Args:
        reference: the right gradients.
        m: what was measured, whose arguments and first two cotangents are taken.
        made_up: whether a probe made the ties, as all are at zero: then each of those tied may get the whole
            cotangent.

    Returns:
        two lists of the gradients of each leaf, (2, ...).
    """
    others = 2 if made_up else 1
    return [reference.tied(m.arguments.leaves, m.pair, side)[1] for side in (0, others)]


def slack(m: Measurement, sides: Sequence[Arrays]) -> list[Any]:
    """Return how far each gradient may be from the right one for its choice of sides.

    Args:
        m: what was measured.
        sides: what `sides` returned, or nothing where there are no kinks.

    Returns:
        for each leaf an array (2, ...), or 0.0 without kinks.
    """
    if not sides:
        return [0.0] * len(m.right)
    return [2 * np.maximum(np.abs(a - r), np.abs(b - r)) for a, b, r in zip(*sides, m.right, strict=True)]
