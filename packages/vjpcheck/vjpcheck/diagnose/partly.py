"""Mistakes made on some of the paths only: a factor left out on the way through a mean, not beside it."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from vjpcheck.diagnose.dials import DROP, Panel
from vjpcheck.diagnose.hypothesis import Arrays, Evidence, Hypothesis
from vjpcheck.diagnose.search import Match, matched

PAIRS = 200  # of a mistake and a path, each of which costs a run
_PLAIN = 3.35  # a mistake that costs more is not looked for on single paths


def partial_explanations(
    panel: Panel, at_one: Sequence[Arrays], e: Evidence, wrong: Sequence[int]
) -> Iterator[Match]:
    """Return every mistake that explains a wrong leaf if it is made on the paths through one operation alone,
    or on all others.

    Args: `panel`, all dials; `at_one`, the gradients with each dial at 1; `e`, what was given and what is
    right; `wrong`, the numbers of the wrong leaves.
    """
    ordinary = [n for n, d in enumerate(panel.dials) if d.fault.name != DROP and d.fault.cost <= _PLAIN]
    faults = sorted(_distinct(ordinary, at_one, e), key=lambda n: panel.dials[n].fault.cost)
    drops = _distinct([n for n, d in enumerate(panel.dials) if d.fault.name == DROP], at_one, e)
    pairs = ((f, d) for f in faults for d in drops if panel.dials[f].place != panel.dials[d].place)
    for f, d in itertools.islice(pairs, PAIRS):
        panel.budget.tick()
        both = panel.gradients([f, d], e)
        for through in (True, False):
            predicted = _on_one_path(at_one[f], at_one[d], both, e.right, through)
            dial, path = panel.dials[f], panel.dials[d]
            words = f"{dial.operation}: {dial.fault.words}, {'only' if through else 'but not'} on the path"
            words += f" through {path.operation}" + (f" at {path.where}" if path.where else "")
            predict = _predict(panel, f, d, through)
            h = Hypothesis(dial.fault.name, words, predict, dial.where, False, less=dial.fault.less + 0.9)
            yield from matched(h, predicted, e, wrong)


def _on_one_path(fault: Arrays, drop: Arrays, both: Arrays, right: Arrays, through: bool) -> Arrays:
    parts = zip(fault, drop, both, right, strict=True)
    return [d + f - b if through else b + r - d for f, d, b, r in parts]


def _predict(panel: Panel, f: int, d: int, through: bool):  # noqa: ANN202
    def predict(e: Evidence) -> Arrays:
        fault, drop, both = (panel.gradients(n, e) for n in (f, d, [f, d]))
        return _on_one_path(fault, drop, both, e.right, through)

    return predict


def _distinct(numbers: Sequence[int], at_one: Sequence[Arrays], e: Evidence) -> list[int]:
    """Leave out what does nothing, and what does the same as another."""
    size = max(float(np.max(np.abs(r), initial=0.0)) for r in e.right) or 1.0
    seen: dict[bytes, int] = {}
    for n in numbers:
        apart = np.concatenate([(g - r).ravel() for g, r in zip(at_one[n], e.right, strict=True)]) / size
        if not np.all(np.isfinite(apart)) or np.max(np.abs(apart), initial=0.0) < 1e-12:
            continue
        seen.setdefault(np.round(apart, 9).tobytes(), n)
    return list(seen.values())
