"""A dial, the slots in which dials stand, and the board of all slots at one operation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vjpcheck.attempt import Attempts
from vjpcheck.diagnose.backward import Named
from vjpcheck.diagnose.repeats import Key
from vjpcheck.interpret import Operation

Run = Callable[[Sequence[Any]], Sequence[Any]]  # from inputs to outputs
ABSENT = -1  # the place of a dial that stays 0


@dataclass(frozen=True)
class Dial:
    """One mistake at one operation, or at all its repetitions.

    Args: `fault`, the mistake; `where`, the line of the forward pass; `operation`, its name; `place`, its
    key; `repeated`, whether it is of all repetitions.
    """

    fault: Named
    where: str
    operation: str
    place: Key
    repeated: bool = False


class Slot(Protocol):
    """Mistakes of one form at one operation, and how they are made: a new form is one more class like this.

    The forward pass stays what it is, whatever is dialled; the way back is what the dials say.
    """

    @property
    def what(self) -> str:
        """What is noted where it cannot be tried."""
        ...

    @property
    def dials(self) -> Sequence[tuple[Key, Named]]:
        """The mistakes, each with what tells it from others at this operation, and is the same at another
        repetition of it.
        """
        ...

    def around(self, operation: Operation, run: Run, theta: Any, attempts: Attempts) -> Run:
        """Return the operation with its mistakes made as far as they are dialled.

        Args: `operation`, the operation; `run`, it, with the mistakes of the slots before; `theta`, how far
        each dial is turned, in the order of `dials`; `attempts`, what was tried and raised.
        """
        ...


@dataclass
class Board:
    """What may go wrong at one operation.

    Args: `slots`, each with the numbers of its dials: of all repetitions, and of this one.
    """

    slots: list[tuple[Slot, list[int], list[int]]] = field(default_factory=list)

    def run(
        self, operation: Operation, inputs: Sequence[Any], theta: Any, attempts: Attempts
    ) -> Sequence[Any]:
        """Run the operation, one slot around the other; one that raises is left out, and noted.

        Args: `operation`, the operation; `inputs`, its inputs; `theta`, how far all dials are turned;
        `attempts`, what was tried and raised.
        """
        run: Run = lambda xs: operation.run(*xs)  # noqa: E731
        for slot, shared, own in self.slots:
            turned = theta[np.asarray(shared, int)] + theta[np.asarray(own, int)]
            run = _or_else(slot, slot.around(operation, run, turned, attempts), run, operation, attempts)
        return run(inputs)


def _or_else(slot: Slot, run: Run, otherwise: Run, operation: Operation, attempts: Attempts) -> Run:
    def either(xs: Sequence[Any]) -> Sequence[Any]:
        found = attempts.run(f"{operation.name}: {slot.what}", lambda: run(xs))
        return otherwise(xs) if found is None else found

    return either
