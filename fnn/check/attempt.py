"""What goes wrong in one place of the checker costs that place alone: it is noted, and the rest stays."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


def first_line(error: BaseException) -> str:
    """Give the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass
class Attempts:
    """What was tried and raised, each by a name, with the first error that it gave."""

    failed: dict[str, str] = field(default_factory=dict)

    def run(self, what: str, do: Callable[[], Any], otherwise: Any = None) -> Any:
        """Give what `do()` gives, or `otherwise` where it raises."""
        try:
            return do()
        except Exception as error:  # anything: it is noted
            self.failed.setdefault(what, f"{type(error).__name__}: {first_line(error)}")
            return otherwise

    def gather(self, what: str, make: Callable[[], Iterable[Any]]) -> list[Any]:
        """Give the items that `make()` gives as a list, up to where making the next one raises."""
        found: list[Any] = []
        self.run(what, lambda: [found.append(item) for item in make()])
        return found

    def notes(self) -> list[str]:
        """Give one note for each kind of error, with what could not be tried."""
        kinds: dict[str, list[str]] = {}
        for what, error in self.failed.items():
            kinds.setdefault(error, []).append(what)
        return [f"not tried: {_listed(what)} ({error})" for error, what in kinds.items()]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
