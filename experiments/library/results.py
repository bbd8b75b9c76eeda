"""How an experiment's results reach the disk: all of them or none, and never half a file."""

import json
import os
import platform
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax


class ResultsError(OSError):
    """The folder for the results is not one that can be written to."""


def writable(folder: Path) -> Path:
    """Make the folder, and try it out before an experiment counts on it. Raises ResultsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, {})
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise ResultsError(
            f"{folder}: expected a folder to write results to ({reason}): try `--results DIR`"
        ) from error
    return folder


def write(folder: Path, files: dict[str, bytes]) -> str:
    """Write the files into `folder`: every one is whole before the first moves in. Tell what they replace."""
    replaced = any((folder / name).exists() for name in files)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as beside:
        for name, content in files.items():
            (Path(beside) / name).write_bytes(content)
        for name in files:
            os.replace(Path(beside) / name, folder / name)
    return " (in place of the earlier ones)" if replaced else ""


def as_json(results: dict[str, Any]) -> bytes:
    """Give JSON with a line for each result."""
    lines = (
        f"  {json.dumps(name)}: {json.dumps(value, default=os.fspath)}" for name, value in results.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Tell where the results were measured: the device, the CPU cores, the versions."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    return {"device": jax.devices()[0].device_kind, "cpu cores": os.cpu_count(), "versions": versions}
