"""A subject set up beside its reference, at the shapes of a trace."""

from vjpcheck.attempt import Budget
from vjpcheck.bench import Bench
from vjpcheck.reference import Trace, reference, trace
from vjpcheck.subject import Subject


def set_up(subject: Subject, traced: Trace, budget: Budget) -> Bench:
    """Set a subject up at the shapes of its trace.

    Args:
        subject: the pair that is checked.
        traced: the trace of the primal.
        budget: the seconds of the check.

    Raises:
        ValueError: for a surrogate whose outputs have other shapes or dtypes.
    """
    run = subject.compiled(traced.arguments)
    if subject.surrogate is None:
        return Bench(subject, traced, reference(traced), run, budget)
    declared = trace(subject.surrogate, traced.arguments, ruled=True)
    if declared.shapes != traced.shapes:
        raise ValueError(
            f"expected a surrogate that returns what {subject.name} does, {_listed(traced)}, "
            f"got {_listed(declared)}"
        )
    return Bench(subject, declared, reference(declared), run, budget, reference(traced))


def _listed(traced: Trace) -> str:
    return ", ".join(f"{s.dtype}[{','.join(map(str, s.shape))}]" for s in traced.shapes)
