"""What went wrong, in words: hypotheses that reproduce the wrong gradient, here and on fresh inputs."""

from collections.abc import Iterator

import numpy as np

from fnn.check import probes
from fnn.check.bench import Bench, Measurement
from fnn.check.diagnose import cotangents, leaves, multiples
from fnn.check.diagnose.dials import Panel
from fnn.check.diagnose.hypothesis import Evidence, Hypothesis, evidence
from fnn.check.diagnose.locate import begins, describe
from fnn.check.diagnose.partly import partial_explanations
from fnn.check.diagnose.search import cover, match
from fnn.check.diagnose.turning import explanations, turned
from fnn.check.progress import Progress
from fnn.check.report import Mistake

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
    well. Where none does, and the `probe` that shows it is a range of inputs, it is named after that.
    """
    e = evidence(bench, measured)
    wrong = [i for i in range(len(e.given)) if not e.matches(i, e.right[i])]
    if not wrong:
        text = "the same rule in float64 gives the right gradient: its own rounding is what is off"
        p.mistakes.append(Mistake("low precision", text))
        return
    if not all(np.all(np.isfinite(e.given[i])) for i in wrong):
        p.mistakes.append(
            Mistake("not finite", "the gradient overflows or is NaN where the right one is finite")
        )
        return
    if probe == "batch of one":  # too much is equal there for a name to mean anything
        p.details += [f"right at the inputs given, wrong for a {probe}", *describe(e, wrong)]
        return
    rng = np.random.default_rng((seed, 1))
    others = probes.fresh(measured.arguments, rng).arguments
    trials = [evidence(bench, bench.measure(others, bench.cotangents(rng)))]
    trials += [evidence(*passed)] if passed is not None else []
    matches = [m for h in _plain(e, wrong) if (m := match(h, e, wrong))]
    found, complete = cover([m for m in matches if m.hypothesis.cost < _PLAIN], wrong, trials)
    if not complete:
        panel = Panel(bench.traced)
        at_one = turned(panel, e)
        matches += explanations(panel, at_one, e, wrong)
        found, complete = cover(matches, wrong, trials)
        if not complete:
            matches += partial_explanations(panel, at_one, e, wrong)
            found, complete = cover(matches, wrong, trials)
        if not found and probe not in _RANGES:
            p.where = begins(panel, e, wrong)
    if not found and probe in _RANGES:
        found = [Mistake(_RANGES[probe], f"right at the inputs given, wrong for {probe}")]
    elif probe:
        p.details.append(f"right at the inputs given, wrong for {probe}")
    p.mistakes += found
    if not found:
        p.details += describe(e, wrong)


def _plain(e: Evidence, wrong: list[int]) -> Iterator[Hypothesis]:
    yield from cotangents.hypotheses(e)
    bent = cotangents.nonlinear(e, wrong)
    if bent is not None:
        yield bent
    yield from leaves.hypotheses(e, wrong)
    yield from multiples.hypotheses(e, wrong)


_RANGES = {
    "inputs x 0.001": "wrong at small inputs",
    "inputs x 30": "wrong at large inputs",
    "inputs x 1000": "wrong at large inputs",
    "inputs x 1e-3 to 1e3": "wrong at large or small inputs",
    "inputs zero": "wrong at zero",
    "first row zero": "wrong at zero",
}
