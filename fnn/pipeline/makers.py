"""The schedules of the literature: GPipe, 1F1B, and that without most of its bubble."""

from fnn.errors import check_size
from fnn.pipeline.schedule import Op, Schedule


def gpipe(stages: int, microbatches: int) -> Schedule:
    """Return the schedule that runs all microbatches forwards, and then all backwards.

    Args:
        stages: the number of stages, p.
        microbatches: the number of microbatches, m.

    Returns:
        a `Schedule` with a bubble of (p - 1) / (m + p - 1) and m microbatches in flight.

    Raises:
        InputError: where a number is below 1.

    Source: Huang et al. 2019, GPipe, arXiv 1811.06965.

    >>> print(gpipe(2, 2))
    F0  F1  .   .   BW0 BW1
    .   F0  F1  BW0 BW1 .
    """
    _check("gpipe", stages, microbatches)
    numbers = range(microbatches)
    ops = (*(Op("F", m) for m in numbers), *(Op("BW", m) for m in numbers))
    return Schedule((ops,) * stages)


def one_f_one_b(stages: int, microbatches: int) -> Schedule:
    """Return the schedule that runs a microbatch backwards as soon as it can, between two forwards.

    Args:
        stages: the number of stages, p.
        microbatches: the number of microbatches, m.

    Returns:
        a `Schedule` with GPipe's bubble, and no more than p microbatches in flight.

    Raises:
        InputError: where a number is below 1.

    Source: Harlap et al. 2018, PipeDream, arXiv 1806.03377; with one update for all microbatches: Narayanan
    et al. 2021, arXiv 2006.09503.

    >>> print(one_f_one_b(2, 3))
    F0  F1  .   BW0 F2  BW1 .   BW2
    .   F0  BW0 F1  BW1 F2  BW2 .
    """
    _check("one_f_one_b", stages, microbatches)
    return Schedule(tuple(_in_turn(stage, stages, microbatches, whole=True) for stage in range(stages)))


def zero_bubble(stages: int, microbatches: int) -> Schedule:
    """Return the schedule of 1F1B with the weights' gradients put off to where a stage would wait: ZB-H1.

    Args:
        stages: the number of stages, p.
        microbatches: the number of microbatches, m.

    Returns:
        a `Schedule`. With m >= p a stage waits (p - 1) (f + b - w), for the costs of F, B and W; by 1F1B
        (p - 1) (f + b + w). It holds no more than p microbatches: residuals of some, factors of others.

    Raises:
        InputError: where a number is below 1.

    Source: Qi et al. 2023, arXiv 2401.10241, section 2.2.

    >>> print(zero_bubble(2, 3))
    F0 F1 .  B0 W0 F2 B1 W1 B2 W2
    .  F0 B0 F1 B1 W0 F2 B2 W1 W2
    """
    _check("zero_bubble", stages, microbatches)
    return Schedule(tuple(_in_turn(stage, stages, microbatches, whole=False) for stage in range(stages)))


def _in_turn(stage: int, stages: int, microbatches: int, whole: bool) -> tuple[Op, ...]:
    """Return a stage's operations: after some forwards, backward and forward in turn.

    Where a backward is not whole, its W waits for as many further B as there are stages before this one, none
    of which then waits for a W.
    """
    ahead = min(stages - stage, microbatches)  # forwards before the first backward
    ops = [Op("F", m) for m in range(ahead)]
    for m in range(microbatches):
        ops.append(Op("BW" if whole else "B", m))
        ops += [Op("W", m - stage)] if not whole and m >= stage else []
        ops += [Op("F", ahead + m)] if ahead + m < microbatches else []
    rest = range(max(microbatches - stage, 0), microbatches)
    return (*ops, *(() if whole else (Op("W", m) for m in rest)))


def _check(who: str, stages: int, microbatches: int) -> None:
    fix = f"fnn.pipeline.{who}(stages=4, microbatches=8)"
    check_size(who, "stages", stages, fix)
    check_size(who, "microbatches", microbatches, fix)
