"""The template: one device, eight, and two processes train alike; it goes on where it stopped."""

import gzip
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.library.data import DataError
from experiments.library.text import CONTEXT, from_text

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of idx files, and a text."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for part, n in (("train", 512), ("t10k", 64)):
        label = random.integers(0, 10, n).astype(np.uint8)
        images = (random.random((n, 5, 5)) * 64 + 16 * label[:, None, None]).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", label)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{name}.gz").write_bytes(gzip.compress(head + array.tobytes()))
    text = folder / "text.txt"
    text.write_text("to be or not to be, that is the question: " * 40)
    return {"images": folder, "text": text}


def command(data: Path, folder: Path, *more: str) -> list[str]:
    options = ["--data", str(data), "--folder", str(folder), "--batch", "64", "--every", "5", *more]
    return [sys.executable, "-W", "ignore", "-m", "experiments.training.template", *options]


def started(devices: int, *args: Any) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(*args), cwd=ROOT, env=environment, **pipes)


def finished(*runs: subprocess.Popen[str]) -> None:
    for run in runs:
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors[-3000:]


def losses(folder: Path) -> dict[int, float]:
    """Return the loss by step, of the last record of each."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {record["step"]: record["loss"] for record in records if "loss" in record}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize("kind", ["images", "text"])
def test_one_device_and_eight_have_the_same_curve(data, kind, tmp_path):
    finished(started(1, data[kind], tmp_path / "one", "--steps", "15"))
    finished(started(8, data[kind], tmp_path / "eight", "--steps", "15", "--rules", "fsdp"))
    one, eight = losses(tmp_path / "one"), losses(tmp_path / "eight")
    assert list(one) == list(eight) == [5, 10, 15] and one[15] < one[5]
    assert np.allclose([*one.values()], [*eight.values()], rtol=1e-4)  # float32, added up in other orders


def test_two_processes_have_the_same_curve_and_it_goes_on(data, tmp_path):
    finished(started(4, data["images"], tmp_path / "one", "--steps", "15"))
    for steps in ("10", "15"):  # the second goes on
        address = ("--address", f"localhost:{free_port()}")
        both = [("--steps", steps, "--processes", "2", "--process", str(i), *address) for i in range(2)]
        finished(*[started(4, data["images"], tmp_path / "two", *options) for options in both])
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(two) == [5, 10, 15] and np.allclose([*one.values()], [*two.values()], rtol=1e-4)


def test_a_text_is_read_as_windows(tmp_path, data):
    text = from_text(data["text"])
    whole = data["text"].read_text()
    assert text.x.shape[1] == CONTEXT and len(text.x) + len(text.x_test) == len(whole) - CONTEXT
    assert "".join(text.characters[i] for i in (*text.x[7], text.t[7])) == whole[7 : 8 + CONTEXT]
    for wrong in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="expected a text"):
            from_text(wrong)
