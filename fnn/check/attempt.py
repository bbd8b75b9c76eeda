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
    """The seconds of a check: nothing is begun after them, and the order does not depend on them."""

    seconds: float | None = None
    start: float = field(default_factory=time.perf_counter)

    def tick(self) -> None:
        """Raise OutOfTime where they are over."""
        if self.seconds is not None and time.perf_counter() - self.start > self.seconds:
            raise OutOfTime(f"the {self.seconds:g} s are over")


@dataclass
class Attempts:
    """What was tried and raised, each by a name, with the first error that it gave."""

    budget: Budget = field(default_factory=Budget)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, what: str, do: Callable[[], Any], otherwise: Any = None) -> Any:
        """Return what `do()` gives, or `otherwise` where it raises."""
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
        """Return the items that `make()` gives as a list, up to where making the next one raises."""
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
