"""What went wrong, in words: hypotheses that reproduce the wrong gradient, here and on fresh inputs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vjpcheck import probes
from vjpcheck.attempt import Attempts
from vjpcheck.bench import Bench, Measurement
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose import beside, cotangents, leaves, masks, multiples
from vjpcheck.diagnose.dials import Panel
from vjpcheck.diagnose.hypothesis import Evidence, Hypothesis, evidence
from vjpcheck.diagnose.locate import begins, describe
from vjpcheck.diagnose.partly import partial_explanations
from vjpcheck.diagnose.search import Match, cover, match
from vjpcheck.diagnose.turning import explanations, turned
from vjpcheck.progress import Progress
from vjpcheck.report import Mistake

_PLAIN = 2.0  # below this cost a hypothesis is so plain that no operation needs to be looked at


def diagnose(
    bench: Bench,
    measured: Measurement,
    seed: int,
    p: Progress,
    probe: str = "",
    passed: tuple[Bench, Measurement] | None = None,
) -> None:
    """Add to `p` the mistakes that explain what was given, or else where it is wrong.

    `passed` is a bench and a measurement on it for which the rule was right: a mistake must explain that as
    well. Where none does, and the `probe` that shows it is a range of inputs, it is named after that. A part
    of the search that raises is noted, and what the others found stays.

    Args: `bench`, the subject and the reference, compiled; `measured`, what was measured; `seed`, of the
    trials; `p`, the report in the making, to which findings are added; `probe`, the name of the probe, or
    nothing for the inputs given; `passed`, a bench and a measurement for which the rule was right, or None.
    """
    e = evidence(bench, measured)
    wrong = [i for i in range(len(e.given)) if not e.matches(i, e.right[i])]
    if not wrong:
        text = "the same rule in float64 gives the right gradient: its own rounding is what is off"
        p.mistakes.append(Mistake(Kind.LOW_PRECISION, text))
        return
    if not all(np.all(np.isfinite(e.given[i])) for i in wrong):
        p.mistakes.append(
            Mistake(Kind.NOT_FINITE, "the gradient overflows or is NaN where the right one is finite")
        )
        return
    if probe == "batch of one":  # too much is equal there for a name to mean anything
        p.details += [f"right at the inputs given, wrong for a {probe}", *describe(e, wrong)]
        return
    search = _Search(e, wrong, _trials(e, seed, p, passed), p)
    found = search.run(probe)
    if not found and probe in _RANGES:
        found = [Mistake(_RANGES[probe], f"right at the inputs given, wrong for {probe}")]
    elif probe:
        p.details.append(f"right at the inputs given, wrong for {probe}")
    p.mistakes += found
    if not found:
        p.details += describe(e, wrong)
    p.notes += search.attempts.notes()


def _trials(e: Evidence, seed: int, p: Progress, passed: tuple[Bench, Measurement] | None) -> list[Evidence]:
    """Return fresh inputs, and those for which the rule was right."""
    rng = np.random.default_rng((seed, 1))
    others = probes.fresh(e.measurement.arguments, rng).arguments
    attempts = Attempts()
    drawn = attempts.run(
        "fresh inputs", lambda: evidence(e.bench, e.bench.measure(others, e.bench.cotangents(rng)))
    )
    p.notes += attempts.notes()
    return [*([] if drawn is None else [drawn]), *([evidence(*passed)] if passed is not None else [])]


class _Search:
    """The stages of the search, plainest first, and what they found so far."""

    def __init__(self, e: Evidence, wrong: list[int], trials: list[Evidence], p: Progress):
        self.e, self.wrong, self.trials, self.p = e, wrong, trials, p
        self.attempts, self.matches, self.panels = Attempts(e.bench.budget), [], []

    def run(self, probe: str) -> list[Mistake]:
        """Go on until all that is wrong is explained; give what explains most of it."""
        e, wrong = self.e, self.wrong
        for what, hypotheses in _plain(e, wrong):
            for h in self.attempts.gather(what, hypotheses):
                found = self.attempts.run(what, lambda h=h: match(h, e, wrong))
                self.matches += [found] if found is not None else []
        found, complete = self.cover([m for m in self.matches if m.hypothesis.cost < _PLAIN])
        if complete:
            return found
        panel, at_one = self._panel("the operations one by one", formulas=False)
        never = float("inf")
        stages: list[tuple[str, float, Callable[[], Any]]] = [
            ("formulas of activations", 3.4, lambda: explanations(*self._panel("formulas", True), e, wrong)),
            ("masks", never, lambda: masks.explanations(e, wrong)),
            ("cotangents as operands", never, lambda: beside.explanations(e, wrong)),
        ]
        if at_one is not None:
            stages.insert(0, ("paths and factors", 0.0, lambda: explanations(panel, at_one, e, wrong)))
            stages.append(("single paths", never, lambda: partial_explanations(panel, at_one, e, wrong)))
        for what, cheapest, stage in stages:
            if complete and self.highest(found) <= cheapest:
                continue  # nothing plainer can come of it
            self.matches += self.attempts.gather(what, stage)
            found, complete = self.cover(self.matches)
        for made in self.panels:
            self.attempts.failed |= made.attempts.failed
        if at_one is not None and not found and probe not in _RANGES:
            self.p.where = self.attempts.run("where it begins", lambda: begins(panel, e, wrong), "")
        return found

    def _panel(self, what: str, formulas: bool) -> tuple[Any, Any]:
        panel = self.attempts.run(what, lambda: Panel(self.e.bench.traced, self.e.bench.budget, formulas))
        at_one = panel and self.attempts.run(what, lambda: turned(panel, self.e))
        if panel is not None:
            self.panels.append(panel)
        return panel, at_one

    def highest(self, found: list[Mistake]) -> float:
        """Return the cost of the least plain of the mistakes found."""
        costs = {(m.hypothesis.name, m.hypothesis.words): m.hypothesis.cost for m in self.matches}
        return max(costs[m.name, m.words] for m in found)

    def cover(self, matches: list[Match]) -> tuple[list[Mistake], bool]:
        """Choose among the matches; see `search.cover`."""
        attempts = Attempts()  # what was found is tried on the other inputs, however late it is
        found = cover(matches, self.wrong, self.e.bench.names, self.trials, attempts)
        self.attempts.failed |= attempts.failed
        return found


def _plain(e: Evidence, wrong: list[int]) -> Iterator[tuple[str, Callable[[], Iterator[Hypothesis]]]]:
    yield "forms of the cotangent", lambda: cotangents.hypotheses(e)
    yield "other than linear", lambda: cotangents.nonlinear(e, wrong)
    yield "each gradient by itself", lambda: leaves.hypotheses(e, wrong)
    yield "values of the forward pass", lambda: multiples.hypotheses(e, wrong)


_RANGES = {
    "inputs x 0.001": Kind.WRONG_AT_SMALL_INPUTS,
    "inputs x 30": Kind.WRONG_AT_LARGE_INPUTS,
    "inputs x 1000": Kind.WRONG_AT_LARGE_INPUTS,
    "inputs x 1e-3 to 1e3": Kind.WRONG_AT_LARGE_OR_SMALL_INPUTS,
    "inputs zero": Kind.WRONG_AT_ZERO,
    "first row zero": Kind.WRONG_AT_ZERO,
}
