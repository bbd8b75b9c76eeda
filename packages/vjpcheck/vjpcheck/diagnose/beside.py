"""A cotangent for the value that has its name: as an operand of a rule, or as what a function is applied to.

`dW = dz dA^T` for `dz A^T`, `dA = dz dA^T` (the rule for the weights) for `W^T dz`, `dz = sigmoid(dA)` for
`dA sigmoid'(z)`. Of a loss the cotangents are those for a cotangent of 1, whatever is multiplied in the end.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.hypothesis import Arrays, Evidence, Hypothesis, apart, mixed
from vjpcheck.diagnose.scale import parallel
from vjpcheck.diagnose.search import Match, matched
from vjpcheck.diagnose.sites import Stage
from vjpcheck.effort import in_float64

NEAREST = 12  # cotangents of later values that one operand may be mistaken for


def explanations(e: Evidence, wrong: Sequence[int]) -> Iterator[Match]:
    """Return every cotangent that stands where a value should, and every function applied to a cotangent.

    Args: `e`, what was given and what is right; `wrong`, the numbers of the wrong leaves.
    """
    with in_float64():
        stage = Stage(e.bench.traced)
    yield from _applied(stage, e, wrong)
    given = stage.cotangents(e)
    for n, site in enumerate(stage.sites):
        e.bench.budget.tick()
        nothing = stage.gradients(e, n, [np.zeros((1, *site.shape))] * len(given))
        later = [v for v, value in enumerate(stage.values) if value.place >= site.place[0]]
        for v in [v for v in later if stage.values[v].shape == site.shape][:NEAREST]:
            yield from _operand(stage, e, wrong, n, v, nothing, [g[v] for g in given])


def _operand(
    stage: Stage, e: Evidence, wrong: Sequence[int], n: int, v: int, nothing: Arrays, arrays: list[Any]
) -> Iterator[Match]:
    """Fit given = nothing + k (with the cotangent - nothing), for a k that the forward pass has."""
    full = stage.gradients(e, n, arrays)
    k = parallel(apart(e.given, nothing, wrong), apart(full, nothing, wrong))
    if k is None or not any(abs(abs(k) - s) <= 1e-5 * s for s in stage.scales):
        return
    site, value = stage.sites[n], stage.values[v]

    def predict(e: Evidence) -> Arrays:
        zero = stage.gradients(e, n, [np.zeros((1, *site.shape))] * stage.runs(e))
        one = stage.gradients(e, n, [g[v] for g in stage.cotangents(e)])
        return mixed(zero, one, k)

    cotangent = f"the cotangent of {value.text}"
    if site.position == site.target:
        name = Kind.RULE_OF_THE_OTHER_OPERAND
        words = f"{site.name}: the cotangent of operand {site.target} is made by the rule for the other one"
        words += f", from {cotangent}"
    else:
        name, words = Kind.COTANGENT_FOR_A_VALUE, f"{site.name}: {cotangent} takes the place of operand "
        words += f"{site.position}"
    h = Hypothesis(name, words, predict, site.where, False)
    yield from matched(h, mixed(nothing, full, k), e, wrong)


def _applied(stage: Stage, e: Evidence, wrong: Sequence[int]) -> Iterator[Match]:
    """Return the functions that are applied to the cotangent, where it is to be multiplied by their slope."""
    for n, (_, region, where) in enumerate(stage.regions):
        for scale in stage.scales:
            predict = lambda e, n=n, s=scale: stage.applied(e, n, s)  # noqa: E731
            what = region.equations[-1].primitive.name
            words = "the function is applied to the cotangent, which its derivative is to be multiplied by"
            h = Hypothesis(Kind.FUNCTION_FOR_ITS_DERIVATIVE, f"{what}: {words}", predict, where, False)
            found = matched(h, predict(e), e, wrong)
            yield from found
            if found:
                break
