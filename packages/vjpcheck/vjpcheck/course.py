"""The order in which the checks run, cheapest first, and the search for the mistake where one fails."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from vjpcheck import intake, probes, structure, transforms
from vjpcheck.arguments import Arguments
from vjpcheck.attempt import Attempts, Budget, OutOfTime, first_line
from vjpcheck.bench import Bench, Measurement
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose import diagnose
from vjpcheck.doubts import doubts, stopped
from vjpcheck.finite import attested, differences
from vjpcheck.progress import Progress
from vjpcheck.reference import Trace
from vjpcheck.report import Finding, Mistake, Verdict
from vjpcheck.setting import set_up
from vjpcheck.subject import Subject


@dataclass(frozen=True)
class Options:
    """What the caller chose, checked.

    Args:
        order: 1, or 2 for the second derivative too.
        level: "quick", "standard" or "deep".
        transforms: the names of the transforms to try, of `transforms.NAMES`.
        seed: the seed of all that is drawn.
        seconds: the time after which no further part is begun, or None for no end.

    Raises:
        ValueError: where one of the first three is none of these.
    """

    order: int
    level: str
    transforms: tuple[str, ...]
    seed: int
    seconds: float | None

    def __post_init__(self) -> None:
        intake.require_choice("level", self.level, ("quick", "standard", "deep"))
        intake.require_choice("order", self.order, (1, 2))
        for name in self.transforms:
            intake.require_choice("transforms", name, transforms.NAMES)


def with_trace(
    subject: Subject, arguments: Arguments, traced: Trace, options: Options, p: Progress, budget: Budget
) -> None:
    """Run the checks of a subject that JAX can trace.

    Args:
        subject: the pair that is checked.
        arguments: the arguments given.
        traced: the trace of the primal at their shapes.
        options: what the caller chose.
        p: the report in the making, to which all is added.
        budget: the seconds of the check.

    Raises:
        TypeError: for a function without a rule of its own that JAX itself cannot differentiate.
        ValueError: for a surrogate whose outputs have other shapes or dtypes.
    """
    p.checks.append("structure")
    seen = structure.inspect_rule(subject, arguments, traced)
    p.findings += seen.findings
    p.mistakes += seen.mistakes
    if seen.fatal:
        return intake.require_derivative(subject, traced, p)
    if subject.surrogate is None and not intake.is_differentiable(traced):
        differences(subject, arguments, options.seed, p)
        return
    if any(m.name == Kind.WRONG_SHAPE for m in seen.mistakes):
        subject = replace(subject, lenient=True)
    rng, attempts = np.random.default_rng(options.seed), Attempts(budget)
    stand = set_up(subject, traced, budget)
    dys = stand.cotangents(rng)
    try:
        measured = stand.measure(arguments, dys)
    except jax.errors.UnexpectedTracerError:
        text = "a rule uses a traced value from outside: hand it over in the residuals"
        return p.fail("structure", text, Kind.LEAKED_TRACER)
    except Exception as error:  # JAX's own: a primitive that does not go with float64
        p.notes.append(f"JAX cannot run the reference ({_said(error)}): it is finite differences")
        return differences(subject, arguments, options.seed, p)
    first = Attempts()  # what was asked for first is run however long it takes
    failing = _at_the_inputs(stand, measured, seen, p, first)
    p.notes += first.notes()
    if failing is None:
        return differences(subject, arguments, options.seed, p)
    if not p.failed and options.level != "quick":
        failing = _sweep(stand, measured, rng, p, attempts)
    if not p.failed:
        names = transforms.NAMES if options.level == "deep" else options.transforms
        order = 2 if options.level == "deep" else options.order
        attempts.run("transforms", lambda: transforms.check(stand, arguments, dys, names, order, p))
    if p.failed and failing is not None and not p.mistakes and not stand.has_rules:
        stand, measured, probe, passed = failing
        attempts.run(
            "the search for the mistake", lambda: diagnose(stand, measured, options.seed, p, probe, passed)
        )
    p.notes += attempts.notes()


def _at_the_inputs(
    stand: Bench, m: Measurement, seen: structure.Structure, p: Progress, attempts: Attempts
) -> Any:
    """Judge everything at the inputs given, each check by itself; give what failed, None without numbers."""
    p.checks += ["forward", "repeatability", "linearity", "leaves"]
    p.findings += (forward := attempts.run("forward", lambda: stand.forward(m), []))
    if forward:
        p.mistakes.append(Mistake(Kind.FORWARD_DIFFERS, forward[0].text))
    if not attempts.run("repeatability", lambda: _repeats(stand, m), True):
        text = (
            "the same inputs give another gradient on a second run: the rule draws at random or keeps state"
        )
        p.findings.append(Finding("repeatability", Verdict.FAIL, text))
        p.mistakes.append(Mistake(Kind.NOT_REPEATABLE, text))
    p.findings += attempts.run("linearity", lambda: stand.linearity(m), [])
    leaves = attempts.run("leaves", lambda: attested(stand, m, stand.leaves(m), p))
    if leaves is None:
        return None
    p.leaves += leaves
    p.findings += doubts(stand, m, leaves)
    p.notes += attempts.run("stopped gradients", lambda: stopped(stand, m), [])
    passed = {leaf.name: leaf.verdict is Verdict.PASS for leaf in p.leaves}
    for name, mistake in seen.repairs:
        if mistake.name != Kind.MISSING_GRADIENT:
            if passed.get(name):
                p.mistakes.append(mistake)
        elif not passed.get(name, True):
            p.findings.append(Finding("structure", Verdict.FAIL, mistake.words, name))
            p.mistakes.append(mistake)
    return stand, m, "", None


def _repeats(stand: Bench, m: Measurement) -> bool:
    subject, arguments = stand.subject, m.arguments
    again = stand.run(arguments.leaves, m.dys)[1]
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(m.grads, again, strict=True)):
        return False
    return not subject.traceable or structure.same_twice(
        subject.rule(arguments), arguments.leaves, [d[0] for d in m.dys]
    )


def _sweep(
    stand: Bench, passed: Measurement, rng: np.random.Generator, p: Progress, attempts: Attempts
) -> Any:
    """Run the probes until one shows a mistake; one that cannot be run leaves a note."""
    arguments = passed.arguments
    p.checks.append("other inputs")
    for probe in probes.same_shape(arguments, rng):
        failing = attempts.run(probe.name, lambda probe=probe: _at_probe(stand, probe, passed.dys, p))
        if failing is not None:
            return *failing, (stand, passed)
    p.checks.append("other shapes")
    batch = probes.batch_size(arguments, stand.traced.shapes[stand.traced.outputs[0]].shape)
    fixed = probes.fixed_sizes(arguments, *stand.subject.written)
    if fixed:
        p.notes.append(f"sizes that the rules close over, not varied: {', '.join(map(str, sorted(fixed)))}")
    for alternatives in probes.other_shapes(arguments, batch, fixed, rng):
        for probe in alternatives:
            traced, _ = intake.traced_quietly(stand.subject, probe.arguments)
            if traced is None:
                continue
            try:
                stand.budget.tick()
                other = set_up(stand.subject, traced, stand.budget)
                failing = _at_probe(other, probe, other.cotangents(rng), p)
            except OutOfTime as over:
                attempts.failed.setdefault(probe.name, str(over))
                break
            except Exception as error:  # the rules' own, and no silent mistake: they may be made for a size
                p.notes.append(f"{probe.name}, which the function takes: the rules raise {_said(error)}")
                continue
            if failing is not None:
                return *failing, (stand, passed)
            break
    return None


def _at_probe(stand: Bench, probe: probes.Probe, dys: list[Any], p: Progress) -> Any:
    measured = stand.measure(probe.arguments, dys)
    return (stand, measured, probe.name) if _note_failure(stand, measured, probe.name, p) else None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _note_failure(stand: Bench, m: Measurement, probe: str, p: Progress) -> bool:
    found = stand.forward(m, probe)
    leaves = attested(stand, m, stand.leaves(m, probe), p, probe)
    failed = {leaf.name: leaf for leaf in leaves if leaf.verdict is Verdict.FAIL}
    for name, leaf in failed.items():
        text = f"{name} is off by {leaf.error:.1e} where {leaf.tolerance:.1e} is allowed"
        found.append(Finding("leaves", Verdict.FAIL, text, name, probe))
    p.findings += found
    p.leaves[:] = [failed.get(leaf.name, leaf) for leaf in p.leaves]
    return bool(found)
