"""What a loop keeps of its run: the state, the steps under way, the records, the best evaluation."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf, isfinite
from typing import Any, NamedTuple

import jax

from fnn.errors import InputError, describe
from fnn.train.checkpoint import Checkpoints
from fnn.train.fault import NotFiniteError, fault
from fnn.train.logs import Log, numbers
from fnn.train.step import Step

AHEAD = 8  # steps that may be under way before the loop waits for the first of them


class Underway(NamedTuple):
    """A step that was begun, and of which nothing has been read.

    Args:
        step: its number, from 1.
        batch: its batch.
        position: where the data stood before it.
        metrics: its metrics, which may not be there yet.
    """

    step: int
    batch: Any
    position: Any
    metrics: dict[str, Any]


@dataclass
class Run:
    """A run that is under way.

    Args:
        step: the step function.
        state: the last state, as far as steps were begun.
        checkpoints: where it is saved, or None.
        logs: functions of a record.
        log_every: the number of steps between records.
        best: the number of an evaluation to watch, behind "-" where higher is better; None for "loss", where
            there is one.
        show: `show(step, numbers)` brings the terminal up to date.
        done: the number of steps that were begun, those before the run included.
        position: where the data stand behind the last step.
        underway: the steps of which nothing has been read yet.
        evaluations: the evaluations so far.
        since: the number of evaluations since the best one.
        least: the number of the best one, negative where higher is better.
    """

    step: Callable[[Any, Any], tuple[Any, dict[str, Any]]]
    state: Any
    checkpoints: Checkpoints | None
    logs: Sequence[Log]
    log_every: int
    best: str | None
    show: Callable[[int, dict[str, Any]], None]
    done: int = 0
    position: Any = 0
    underway: deque[Underway] = field(default_factory=deque)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    since: int = 0
    least: float = inf

    def begin(self, batches: Any, resume: bool) -> tuple[Iterator[Any], int]:
        """Restore the last checkpoint, if there is one.

        Args:
            batches: the batches.
            resume: whether that is wanted.

        Returns:
            the iterator over the batches that are left, and the number of those taken where it has no
            `get_state`.

        Raises:
            InputError: where there is a checkpoint, and nobody wants to resume.
        """
        iterator, taken = iter(batches), 0
        restored = None if self.checkpoints is None else self.checkpoints.restore(self.state)
        if restored is not None and not resume:
            got = f"step {restored.step:,} in {self.checkpoints and self.checkpoints.folder}"
            fix = "fnn.train.fit(step, state, batches, checkpoints=checkpoints, resume=True)"
            raise InputError("fit", "a folder without a run, or resume=True", got, fix)
        if restored is not None:
            self.state, self.done, self.position = restored.state, restored.step, restored.position
            if can_tell(iterator) and not isinstance(restored.position, int | None):
                iterator.set_state(restored.position)  # pyright: ignore[reportAttributeAccessIssue]
            else:
                taken = _taken(restored)
                iterator = islice(iterator, taken, None)
        return iterator, taken

    def take(self, batch: Any, before: Any, after: Any) -> dict[str, Any]:
        """Begin a step, read those that have ended, and return the metrics of this one.

        Args:
            batch: the batch, on the devices.
            before: where the data stood before it.
            after: where they stand behind it.
        """
        self.state, metrics = self.step(self.state, batch)
        self.done, self.position = self.done + 1, after
        self.underway.append(Underway(self.done, batch, before, metrics))
        while len(self.underway) > AHEAD or (self.underway and _ready(self.underway[0].metrics)):
            self._read(self.underway.popleft())
        return metrics

    def settle(self) -> None:
        """Wait for the steps under way, and read them."""
        while self.underway:
            self._read(self.underway.popleft())

    def _read(self, one: Underway) -> None:
        finite = one.metrics.get("finite", one.metrics.get("loss"))
        fine = finite is None or bool(finite if finite.dtype == bool else jax.numpy.isfinite(finite).all())
        if not fine and (not isinstance(self.step, Step) or self.step.nonfinite == "stop"):
            self._stop_at(one)
        if one.step % self.log_every == 0:
            record = {"step": one.step, **numbers(one.metrics)}
            self.show(one.step, record)
            self._log(record)

    def _stop_at(self, one: Underway) -> None:
        """Raise, where the step stopped or its loss is not finite; a loss scale may go on."""
        if not isinstance(self.step, Step):
            raise NotFiniteError(one.step, "the loss")
        if not bool(self.state.halted):
            return
        state = self.state._replace(halted=jax.numpy.array(False))  # as it was before that step
        what = fault(self.step, state, one.batch) or "the loss or the gradient, as compiled,"
        if self.checkpoints is not None:
            self.checkpoints.save(one.step - 1, state, one.position)
            self.checkpoints.wait()
        raise NotFiniteError(one.step, what)

    def evaluate(self, evaluation: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Evaluate the state, and log the numbers. Args: `evaluation`, a function of the state."""
        self.settle()
        found = numbers(evaluation(self.state))
        name = (self.best or "loss").removeprefix("-")
        if self.best is not None and name not in found:
            fix = (
                f"fnn.train.fit(step, state, batches, evaluate=evaluate, best={next(iter(found), 'loss')!r})"
            )
            raise InputError("fit", f"an evaluation with {name!r}", describe(found), fix)
        score = found.get(name, inf)
        score = -score if (self.best or "").startswith("-") else score
        self.since = 0 if score < self.least else self.since + 1
        self.least = min(self.least, score) if isfinite(score) else self.least
        self.evaluations.append({"step": self.done, **found})
        self._log({"step": self.done, **{f"evaluation/{key}": value for key, value in found.items()}})
        return found

    def save(self) -> None:
        """Save the state; what was evaluated at this step is kept beside it."""
        if self.checkpoints is None:
            return
        self.settle()
        last = self.evaluations[-1] if self.evaluations else {"step": None}
        found = {k: v for k, v in last.items() if isinstance(v, float)} if last["step"] == self.done else None
        best = (self.checkpoints.best or "").removeprefix("-")
        self.checkpoints.save(
            self.done, self.state, self.position, found if not best or best in (found or {}) else None
        )

    def _log(self, record: dict[str, Any]) -> None:
        if jax.process_index() == 0:
            for log in self.logs:
                log(record)


def _taken(restored: Any) -> int:
    """Return how many batches had been taken, for batches that cannot be told where to stand.

    Raises:
        InputError: where only an iterator that is like the saved one could tell.
    """
    position = restored.position
    if position is None:  # saved by hand, perhaps: as many batches as steps
        return restored.step
    if isinstance(position, Mapping) and isinstance(position.get("position"), int):
        return position["position"]
    if isinstance(position, int):
        return position
    wanted = "batches of the kind that the run was saved with, with `get_state` and `set_state`"
    fix = "fnn.train.fit(step, state, batches, checkpoints=checkpoints, resume=True)"
    raise InputError("fit", wanted, f"others, for the position {position!r}", fix)


def can_tell(iterator: Any) -> bool:
    """Return whether an iterator tells where it stands, as grain's and `Batches` do."""
    return hasattr(iterator, "get_state") and hasattr(iterator, "set_state")


def _ready(metrics: Any) -> bool:
    def one(leaf: Any) -> bool:
        return not isinstance(leaf, jax.Array) or leaf.is_ready()  # pyright: ignore[reportAttributeAccessIssue]

    return all(map(one, jax.tree.leaves(metrics)))
