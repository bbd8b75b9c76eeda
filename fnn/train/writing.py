"""Writing checkpoints by orbax: in the background, sealed before they get their name, the last ones kept."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import jax

from fnn.train.folder import Lock, kept, path_of, seal, steps, unfinished
from fnn.train.restore import orbax, quiet, read, together

_PATIENCE = 10  # seconds for a thread of a write that failed


class Writer:
    """What writes to a folder, and holds it.

    Args:
        folder: the folder.
        keep: how many of the last checkpoints are kept.
        best: the name of the metric by which the best is kept too, as for `Checkpoints`.

    Raises:
        InputError: where another run holds the folder.
    """

    def __init__(self, folder: Path, keep: int, best: str | None) -> None:
        self.ocp = orbax()
        self.folder, self.keep, self.best = folder, keep, best
        self.writing: int | None = None
        self.metrics: dict[int, Mapping[str, float] | None] = {}  # of the checkpoints that are this run's
        with ExitStack() as stack:
            if jax.process_index() == 0:
                stack.callback(Lock(folder).release)
            stack.enter_context(quiet())
            self.unfinished = unfinished(folder)
            for step in steps(folder):
                with suppress(Exception):  # what cannot be read is not deleted, and `restore` says why
                    self.metrics[step] = read(path_of(folder, step), about=None)["about"]["metrics"]
            self._manager = self._managed()
            self._open = stack.pop_all()

    def _managed(self) -> Any:
        options = self.ocp.CheckpointManagerOptions(
            step_prefix="step",
            preservation_policy=self,
            async_options=self.ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        return self.ocp.CheckpointManager(self.folder, options=options)

    def write(
        self,
        step: int,
        trees: Mapping[str, Any],
        texts: Mapping[str, Any],
        metrics: Mapping[str, float] | None,
    ) -> None:
        """Begin to write a checkpoint, when the one before it is written.

        Args:
            step: its step.
            trees: arrays by their paths, for each item.
            texts: what is written as JSON, for each item.
            metrics: its metrics, or None.

        Raises:
            OSError: where this one or the one before it could not be written.
        """
        args = {name: self.ocp.args.StandardSave(tree) for name, tree in trees.items()}
        args |= {name: self.ocp.args.JsonSave(text) for name, text in texts.items()}
        self.wait()
        self.metrics[step], self.writing = metrics, step
        try:
            self._manager.save(step, args=self.ocp.args.Composite(**args), force=True)
        except Exception as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Return when all is written. Raises: OSError, where that failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error
        self.writing = None

    def set_aside(self, damaged: Sequence[int]) -> None:
        """Make room: rename what is damaged, and delete what was not written to its end.

        Args:
            damaged: the steps of what is damaged.
        """
        if not damaged and not self.unfinished:
            return
        if jax.process_index() == 0:
            for path in [path_of(self.folder, step) for step in damaged]:
                path.rename(path.with_name(f"damaged_{path.name}_{path.stat().st_mtime_ns}"))
            for path in self.unfinished:
                rmtree(path, ignore_errors=True)
        together("fnn: damaged checkpoints are set aside")
        for step in damaged:
            self.metrics.pop(step, None)
        self.unfinished = []
        self._manager.reload()

    def close(self) -> None:
        """Wait, stop orbax's threads, and let go of the folder. Raises: OSError, as `wait`."""
        with self._open:
            try:
                self.wait()
            finally:
                self._stop()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Tell orbax which checkpoints to keep: what is not known to be a run's is left alone.

        Args:
            checkpoints: what orbax found, each with its step.
            context: not used.
        """
        known = kept(self.metrics, self.keep, self.best)
        return [info.step in known or info.step not in self.metrics for info in checkpoints]

    def _seal(self) -> None:
        """Seal the checkpoint that orbax has written, before it gets its name."""
        assert self.writing is not None
        [path] = unfinished(self.folder, self.writing)
        seal(path)

    def _failed(self, error: Exception) -> OSError:
        """Forget the checkpoint that could not be written, and make room."""
        step, self.writing = self.writing, None
        self._stop()
        if step is not None:
            self.metrics.pop(step, None)
            for path in unfinished(self.folder, step):
                rmtree(path, ignore_errors=True)
        self._manager = self._managed()
        last = max(self.metrics, default=None)
        stays = (
            "there is none before it" if last is None else f"step_{last} and those before it are as they were"
        )
        why = next(iter(str(error).splitlines()), type(error).__name__)
        return OSError(f"{self.folder}/step_{step} could not be written: {stays}; {why}")

    def _stop(self) -> None:
        """End orbax's threads: one that failed may leave others at work, and `close` raises what it left."""
        for _ in range(3):
            with suppress(Exception):
                self._manager.close()
                break
        for thread in threading.enumerate():
            if type(thread).__module__.startswith("orbax."):
                threading.Thread.join(thread, timeout=_PATIENCE)
