"""Where a wrong gradient begins, when nothing reproduces it: the operation, the leaf, the rows and
columns.
"""

from collections.abc import Sequence

import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.dials import Panel
from vjpcheck.diagnose.hypothesis import Evidence


def begins(panel: Panel, e: Evidence, wrong: Sequence[int]) -> str:
    """Return the last operation of the forward pass whose cotangents reach all wrong leaves and no right
    one.

    Args: `panel`, all dials; `e`, what was given and what is right; `wrong`, the numbers of the wrong leaves.
    """
    best = ""
    for number, dial in enumerate(panel.dials):
        if dial.fault.name != Kind.TERM_DROPPED or not dial.where:
            continue
        panel.budget.tick()
        without = panel.gradients(number, e)
        reached = [
            i for i, (a, b) in enumerate(zip(without, e.right, strict=True)) if not np.allclose(a, b, 1e-9, 0)
        ]
        if reached == list(wrong):
            best = f"{dial.operation} at {dial.where}"
    return best


def describe(e: Evidence, wrong: Sequence[int]) -> list[str]:
    """Describe the worst leaf: where its largest error is, and which of its slices are wrong.

    Args: `e`, what was given and what is right; `wrong`, the numbers of the wrong leaves.
    """
    i = max(wrong, key=lambda i: e.distance(i, e.right[i]))
    error = np.abs(e.given[i] - e.right[i]).max(0)
    at = np.unravel_index(int(np.argmax(error)), error.shape)
    place = f"[{', '.join(map(str, at))}]" if error.ndim else ""
    given, right = (x[0][at] for x in (e.given[i], e.right[i]))
    lines = [f"{e.bench.names[i]} is worst at {place or 'its value'}: {given:.6g} where {right:.6g} is right"]
    off = error > e.tolerance * max(np.max(np.abs(e.right[i])), 1e-300)
    for axis in range(error.ndim):
        hit = np.flatnonzero(off.any(tuple(a for a in range(error.ndim) if a != axis)))
        if 0 < len(hit) < error.shape[axis]:
            shown = ", ".join(map(str, hit[:8])) + (", ..." if len(hit) > 8 else "")
            lines.append(
                f"along axis {axis} of {e.bench.names[i]} only {shown} of {error.shape[axis]} are wrong"
            )
    return lines
