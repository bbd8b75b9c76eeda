"""Signals that ask a run to end: it does so after the step under way."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

import jax

WATCHED = signal.SIGTERM, signal.SIGINT


class Stopping:
    """Within `with`, SIGTERM and SIGINT are noted, instead of ending the process; a second SIGINT ends it.

    Only the main thread of a process is sent signals; elsewhere nothing is noted.

    Args:
        on: False to leave signals alone.

    >>> with Stopping(True) as stopping:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stopping.reached(5)
    True
    """

    def __init__(self, on: bool) -> None:
        self._on = on and threading.current_thread() is threading.main_thread()
        self._got: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        if self._on:
            self._before = {number: signal.signal(number, self._note) for number in WATCHED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._got == signal.SIGINT:
            raise KeyboardInterrupt
        self._got = number

    def reached(self, step: int) -> bool:
        """Return whether to end after this step; processes agree on one. Args: `step`, its number."""
        if jax.process_count() == 1:
            return self._got is not None
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        return bool(reached_preemption_sync_point(step))  # SIGTERM, of whichever process

    def leave(self) -> NoReturn:
        """Leave the process with the status that a shell gives one that a signal ended: 143 or 130."""
        sys.exit(128 + (self._got or signal.SIGTERM))
