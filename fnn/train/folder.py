"""A folder of checkpoints: who holds it, which are there, whether one is whole, and which are kept."""

import json
import math
import os
import re
import socket
import weakref
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from fnn.errors import InputError

LOCK, SUMS = ".lock", "files.json"
_MIB = 2**20
_STEP, _UNFINISHED = re.compile(r"step_(\d+)"), re.compile(r"step_(\d+)\.orbax-checkpoint-tmp.*")


def made(who: str, folder: Any) -> Path:
    """Return the absolute path of a folder, which is made where there is none.

    Args:
        who: the name of the function that asks, for the error message.
        folder: the path.

    Raises:
        InputError: where it is no path of a folder, or there is a file.
    """
    if not isinstance(folder, (str, os.PathLike)) or "://" in os.fspath(folder):
        raise InputError(who, "the path of a local folder", repr(folder), another(Path("runs/first")))
    path = Path(os.path.abspath(folder))
    if path.exists() and not path.is_dir():
        raise InputError(who, "a folder", f"{path}, which is a file", another(path))
    path.mkdir(parents=True, exist_ok=True)
    return path


def another(path: Path) -> str:
    """Return the call that begins a run in a folder that is not there yet, for an error message.

    Args:
        path: the path of a folder, or of what is in its place, to which a number is added.
    """
    names = (f"{path.name}_{i}" for i in count(2))
    free = path if not path.exists() else next(p for p in map(path.with_name, names) if not p.exists())
    return f"fnn.train.Checkpoints({str(free)!r}, net, x)"


class Lock:
    """A folder that one run holds, until it lets go or its process ends.

    On Windows, which has no `flock`, and on file systems that refuse it, it does not exclude others.

    Args:
        folder: the folder.

    Raises:
        InputError: where another run holds it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:
            self._file = None
            return
        self._file = file = (folder / LOCK).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder, own = file.read().strip(), _process()
            got, fix = f"{folder}, which {holder or 'another run'} holds", another(folder)
            if holder == own:
                got, fix = f"{folder}, which this process has open and not closed", "checkpoints.close()"
            self.release()
            raise InputError("Checkpoints", "a folder that no other run holds", got, fix) from None
        except OSError:  # a file system without locks
            self.release()
            return
        file.truncate(0)
        file.write(_process())
        file.flush()
        own = weakref.ref(self)  # a forked worker must not hold the folder after its parent has died
        os.register_at_fork(after_in_child=lambda: (lock := own()) and lock.release())

    def release(self) -> None:
        """Let go of the folder."""
        if self._file is not None:
            self._file.close()
        self._file = None


def _process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def path_of(folder: Path, step: int) -> Path:
    """Return the path of a checkpoint.

    Args:
        folder: the folder.
        step: its step.
    """
    return folder / f"step_{step}"


def steps(folder: Path) -> list[int]:
    """Return the steps of a folder's checkpoints, whole or not, in ascending order."""
    found = [_STEP.fullmatch(path.name) for path in folder.iterdir()]
    return sorted(int(match[1]) for match in found if match)


def unfinished(folder: Path, step: int | None = None) -> list[Path]:
    """Return what writes that did not come to their end have left.

    Args:
        folder: the folder.
        step: the step of the checkpoint; None for all.
    """
    found = [(path, _UNFINISHED.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    return [path for path, match in found if match and step in (None, int(match[1]))]


def seal(path: Path) -> None:
    """Write down the size and the CRC-32 of every file in the folders of a checkpoint."""
    sums = {name: list(_sum(path / name)) for name in _files(path)}
    (path / SUMS).write_text(json.dumps(sums, indent=0))


def flaw(path: Path) -> str | None:
    """Return why a checkpoint is not what was written, None where it is."""
    try:
        sums = json.loads((path / SUMS).read_text())
        for name, (size, check) in sums.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if (path / name).stat().st_size != size:
                return f"{name} has {(path / name).stat().st_size} bytes of {size}"
            if _sum(path / name)[1] != check:
                return f"{name} has changed"
    except FileNotFoundError:
        return f"{SUMS} is missing"
    except (ValueError, TypeError, AttributeError):
        return f"{SUMS} is not readable"
    return None


def none_whole(who: str, folder: Path, damaged: Sequence[int], call: str) -> InputError:
    """Return the error for a folder where no checkpoint that was asked for is whole.

    Args:
        who: the name of the function.
        folder: the folder.
        damaged: the steps of those that are not.
        call: the right call, with `{}` for the option `step`.
    """
    got = f"{', '.join(path_of(folder, step).name for step in damaged)} in {folder}, damaged"
    return InputError(who, "a whole checkpoint", got, _of_last(folder, call))


def missing(who: str, folder: Path, step: int, call: str) -> InputError:
    """Return the error for a step that a folder has not.

    Args:
        who: the name of the function.
        folder: the folder.
        step: the step.
        call: the right call, with `{}` for the option `step`.
    """
    got = f"step={step} in {folder}"
    return InputError(who, f"a step of {steps(folder)}", got, _of_last(folder, call))


def _of_last(folder: Path, call: str) -> str:
    """Return the call for the last step that is whole; where there is none, that of a run that begins."""
    found = (step for step in reversed(steps(folder)) if flaw(path_of(folder, step)) is None)
    last = next(found, None)
    if last is not None:
        return call.format(f", step={last}")
    return another(folder) if steps(folder) else f"fnn.train.Checkpoints({str(folder)!r}, net, x)"


def _files(path: Path) -> list[str]:
    found = [p for folder in path.iterdir() if folder.is_dir() for p in folder.rglob("*") if p.is_file()]
    return sorted(p.relative_to(path).as_posix() for p in found if p.name != "commit_success.txt")


def _sum(path: Path) -> tuple[int, int]:
    size = check = 0
    with path.open("rb") as file:
        while chunk := file.read(_MIB):
            size, check = size + len(chunk), crc32(chunk, check)
    return size, check


def score(metrics: Mapping[str, float] | None, best: str) -> float | None:
    """Return a number that is lowest for the best checkpoint; None where there is none that is finite.

    Args:
        metrics: the metrics of a checkpoint.
        best: the name of one, with "-" before it where the highest is best.
    """
    value = (metrics or {}).get(best.removeprefix("-"))
    if value is None or not math.isfinite(value):
        return None
    return -value if best.startswith("-") else value


def kept(metrics: Mapping[int, Mapping[str, float] | None], keep: int, best: str | None) -> set[int]:
    """Return the steps of the checkpoints that are kept.

    Args:
        metrics: the metrics of each checkpoint, or None.
        keep: how many of the last are kept.
        best: the name of the metric by which the best is kept too, as for `score`; None for none.
    """
    found = set(sorted(metrics)[-keep:])
    if best is not None:
        scores = {step: score(own, best) for step, own in metrics.items()}
        ranked = sorted((value, -step) for step, value in scores.items() if value is not None)
        found |= {-step for _, step in ranked[:1]}
    return found
