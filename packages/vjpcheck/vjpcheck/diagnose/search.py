"""From hypotheses to the shortest list of mistakes that explains every wrong leaf, here and on fresh
inputs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vjpcheck.attempt import Attempts
from vjpcheck.diagnose.hypothesis import Evidence, Hypothesis
from vjpcheck.report import Mistake


@dataclass(frozen=True)
class Match:
    """A hypothesis and the wrong leaves that it explains; `strays` counts right leaves that it would make
    wrong.

    Args: `hypothesis`, the mistake; `explains`, the numbers of those leaves; `strays`, how many right leaves
    it makes wrong; `error`, the largest distance of what it explains, relative.
    """

    hypothesis: Hypothesis
    explains: frozenset[int]
    strays: int
    error: float


def match(hypothesis: Hypothesis, e: Evidence, wrong: Sequence[int]) -> Match | None:
    """Compare a hypothesis with what was given; None where it explains no leaf.

    Args: `hypothesis`, the mistake; `e`, what was given and what is right; `wrong`, the numbers of the wrong
    leaves.
    """
    return next(iter(matched(hypothesis, hypothesis.predict(e), e, wrong)), None)


def matched(
    hypothesis: Hypothesis, predicted: Sequence[np.ndarray], e: Evidence, wrong: Sequence[int]
) -> list[Match]:
    """Compare what a hypothesis predicts with what was given; return one match, or none.

    Args: `hypothesis`, the mistake; `predicted`, its gradients; `e`, what was given and what is right;
    `wrong`, the numbers of the wrong leaves.
    """
    explains = {i for i in wrong if e.matches(i, predicted[i])}
    if not explains:
        return []
    strays = sum(not e.matches(i, predicted[i]) for i in range(len(e.given)) if i not in explains)
    return [
        Match(hypothesis, frozenset(explains), strays, max(e.distance(i, predicted[i]) for i in explains))
    ]


def cover(
    matches: Iterable[Match],
    wrong: Sequence[int],
    names: Sequence[str],
    trials: Sequence[Evidence],
    attempts: Attempts,
) -> tuple[list[Mistake], bool]:
    """Choose, again and again, the match that explains most of what is left, the plainest first; give
    whether that explains all.

    `names` are those of all leaves. Every one is tried again on the `trials`, fresh inputs first.

    Args: `matches`, what explains a leaf; `wrong`, the numbers of the wrong leaves; `names`, those of all
    leaves; `trials`, evidence of other inputs, fresh ones first; `attempts`, what was tried and raised.
    """
    left, chosen, sources = set(wrong), [], []
    ranked = list(matches)
    while left and ranked:
        ranked.sort(key=lambda m: (-len(m.explains & left), m.strays > 0, m.hypothesis.cost))
        best = ranked.pop(0)
        if not best.explains & left:
            break
        if chosen and best.strays:
            continue  # what is left over is not to be explained at the cost of what is right
        h = best.hypothesis
        able = [trial for trial in trials if h.anywhere or trial.bench is trials[0].bench]
        again = [
            attempts.run(f"{h.name} on other inputs", partial(match, h, trial, sorted(best.explains)))
            for trial in able
        ]
        if any(a is None or not best.explains <= a.explains for a in again):
            continue
        fresh = again[0].error if again else float("nan")
        explained = tuple(names[i] for i in sorted(best.explains))
        chosen.append(Mistake(h.name, h.words, h.where, explained, best.error, fresh))
        sources.append(h)
        left -= best.explains
    plain = [c for c, h in zip(chosen, sources, strict=True) if h.anywhere]  # a fact about one gradient
    return chosen if 2 * len(left) <= len(wrong) else plain, not left
