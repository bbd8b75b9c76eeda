"""A dial, and the board of all dials at one operation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vjpcheck.diagnose.backward import Fault
from vjpcheck.diagnose.mistaken import Mistaken
from vjpcheck.diagnose.operate import RegionFaults
from vjpcheck.diagnose.regions import Region
from vjpcheck.diagnose.repeats import Key
from vjpcheck.diagnose.statistic import Statistic


@dataclass(frozen=True)
class Dial:
    """One mistake at one operation, or at all its repetitions.

    Args: `fault`, the mistake; `where`, the line of the forward pass; `operation`, its name; `place`, its
    key; `repeated`, whether it is of all repetitions.
    """

    fault: Fault
    where: str
    operation: str
    place: Key
    repeated: bool = False


@dataclass
class Board:
    """What may go wrong at one operation, and the dials for it: of all repetitions, and of this one.

    Args: `rules`, wrong derivatives; `mistakes`, operands read wrongly; `values`, constants, and what they
    are altered to; `regions`, activations, their mistakes and how many; `statistic`, what is stretched here,
    or None; `statistic_rules`, its mistakes; `shared`, the dials of all repetitions; `own`, the dials of this
    one.
    """

    rules: Sequence[Fault] = ()
    mistakes: Sequence[Mistaken] = ()
    values: Sequence[tuple[int, Any]] = ()  # literals, and what they are in the altered function
    regions: Sequence[tuple[Region, RegionFaults, int]] = ()  # and how many dials each has
    statistic: Statistic | None = None
    statistic_rules: Sequence[Fault] = ()
    shared: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)

    def settings(self, theta: Any) -> Callable[[int], Any]:
        """Return a function that takes the next so many dials."""
        t = theta[np.asarray(self.shared, int)] + theta[np.asarray(self.own, int)]
        taken = [0]

        def take(n: int) -> Any:
            taken[0] += n
            return t[taken[0] - n : taken[0]]

        return take
