"""Where the records of a run go: lines of JSON, TensorBoard, a line on the terminal."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn.errors import InputError

Log = Callable[[dict[str, Any]], None]  # called with each record


def numbers(metrics: Any) -> dict[str, Any]:
    """Return metrics as Python numbers and lists, by name; those of a tree by their path.

    Args:
        metrics: a pytree of arrays, a dict at the top.

    >>> numbers({"loss": np.float32(0.5), "norms": {"bias": np.ones(2)}})
    {'loss': 0.5, 'norms/bias': [1.0, 1.0]}
    """
    found = {}
    for path, leaf in jax.tree.leaves_with_path(metrics):
        name = "/".join(str(key).strip("[].'\"") for key in path)
        found[name] = np.asarray(leaf).tolist()
    return found


def json_lines(path: str | Path) -> Log:
    """Return a log that appends each record to a file, as a line of JSON; what stands there stays.

    A number that is not finite is written as a string, "nan" or "inf", which every reader of JSON accepts. Of
    a step that was taken twice, by a run that was resumed, the last line holds.

    Args:
        path: the file; its folder is made where there is none.

    Raises:
        InputError: where the path is a folder.

    >>> import tempfile
    >>> log = json_lines(Path(tempfile.mkdtemp()) / "log.jsonl")
    >>> log({"step": 1, "loss": 0.5})
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            "json_lines", "a file", f"the folder {path}", 'fnn.train.json_lines("run/log.jsonl")'
        )
    path.parent.mkdir(parents=True, exist_ok=True)

    def log(record: dict[str, Any]) -> None:
        with path.open("a") as file:
            file.write(json.dumps(_plain(record), allow_nan=False) + "\n")

    return log


def tensorboard(folder: str | Path) -> Log:
    """Return a log that writes numbers for TensorBoard, by the library tensorboardX.

    Args:
        folder: the folder of the run's events.

    Raises:
        InputError: where the library is not installed.

    >>> log = tensorboard("runs/one")  # doctest: +SKIP
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError:
        fix = 'fnn.train.json_lines("run/log.jsonl")'
        raise InputError("tensorboard", "the library tensorboardX", "none installed", fix) from None
    writer = SummaryWriter(str(folder))

    def log(record: dict[str, Any]) -> None:
        for name, value in record.items():
            if name != "step" and isinstance(value, (int, float)):
                writer.add_scalar(name, value, record["step"])
        writer.flush()

    return log


class Line:
    """A line on the terminal with steps, rate, time left and metrics, by the library rich.

    Args:
        steps: the number of steps in all, None if unknown.
        on: False to show nothing; of several processes the first alone shows it.

    Raises:
        InputError: where the library is not installed.
    """

    def __init__(self, steps: int | None, on: bool) -> None:
        self._steps, self._progress = steps, None
        if not on or jax.process_index() != 0:
            return
        try:
            from rich import progress
        except ImportError:
            fix = "fnn.train.fit(step, state, batches, progress=False)"
            raise InputError("fit", "the library rich, for progress", "none installed", fix) from None
        columns = (
            progress.BarColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.description}"),
        )
        self._progress = progress.Progress(progress.MofNCompleteColumn(), *columns)

    @contextmanager
    def begun(self, done: int) -> Iterator[None]:
        """Show the line within `with`. Args: `done`, the number of steps before this run."""
        if self._progress is None:
            yield
            return
        self._done, self._start = done, time.monotonic()
        self._task = self._progress.add_task("", total=self._steps, completed=done)
        with self._progress:
            yield

    def show(self, step: int, record: dict[str, Any]) -> None:
        """Bring the line up to date.

        Args:
            step: the number of the step.
            record: its metrics, of which the first four numbers are shown.
        """
        if self._progress is not None:
            rate = (step - self._done) / max(time.monotonic() - self._start, 1e-9)
            few = [f"{name} {value:.4g}" for name, value in record.items() if isinstance(value, float)][:4]
            text = ", ".join([f"{rate:.1f} steps/s", *few])
            self._progress.update(self._task, completed=step, description=text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(own) for own in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
