"""What goes wrong in one place of the checker costs that place alone: it is noted, and the rest stays."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class OutOfTime(Exception):
    """The seconds that a check was given are over."""


@dataclass(frozen=True)
class Budget:
    """The seconds of a check: nothing is begun after them, and the order does not depend on them.

    Args:
        seconds: how long the check may take, or None for no end.
        start: when it began, by `time.perf_counter`.
    """

    seconds: float | None = None
    start: float = field(default_factory=time.perf_counter)

    def tick(self) -> None:
        """Raise OutOfTime where they are over."""
        if self.seconds is not None and time.perf_counter() - self.start > self.seconds:
            raise OutOfTime(f"the {self.seconds:g} s are over")


@dataclass
class Attempts:
    """What was tried and raised, each by a name, with the first error that it gave.

    Args:
        budget: the seconds of the check; what would begin after them is not tried.
        failed: the first line of each error, by the name of what was tried.
    """

    budget: Budget = field(default_factory=Budget)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, what: str, do: Callable[[], Any], otherwise: Any = None) -> Any:
        """Try something, and note the error where it raises.

        Args:
            what: the name to note it by.
            do: a function without arguments.
            otherwise: what to return where `do` raises, or the seconds are over.

        Returns:
            what `do` returned, or `otherwise`.
        """
        try:
            self.budget.tick()
            return do()
        except OutOfTime as over:
            self.failed.setdefault(what, str(over))
            return otherwise
        except Exception as error:  # anything: it is noted
            self.failed.setdefault(what, f"{type(error).__name__}: {first_line(error)}")
            return otherwise

    def gather(self, what: str, make: Callable[[], Iterable[Any]]) -> list[Any]:
        """List items up to where making the next one raises, and note that error.

        Args:
            what: the name to note it by.
            make: a function without arguments that returns an iterable of the items.

        Returns:
            a list of the items made.
        """
        found: list[Any] = []
        self.run(what, lambda: [found.append(item) for item in make()])
        return found

    def notes(self) -> list[str]:
        """Return one note for each kind of error, with what could not be tried."""
        kinds: dict[str, list[str]] = {}
        for what, error in self.failed.items():
            kinds.setdefault(error, []).append(what)
        return [f"not tried: {_listed(what)} ({error})" for error, what in kinds.items()]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
