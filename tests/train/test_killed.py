"""Runs that are killed at random moments, in a checkpoint too, and go on: nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def begun(folder: Path) -> subprocess.Popen[str]:
    """Start the run, or go on with it, and return when its loop begins."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.train.killed", str(folder)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == "begun\n", run.communicate()[1]
    return run


def ended(run: subprocess.Popen[str]) -> str:
    """Wait for the end of the run, and return the hash of its state."""
    output, errors = run.communicate()
    assert run.returncode == 0, errors
    return output.strip()


def killed_and_resumed(kills: int, seed: int, folder: Path) -> None:
    start = begun(folder / "whole")
    begin = time.monotonic()
    wanted = ended(start)
    seconds, random = time.monotonic() - begin, np.random.default_rng(seed)
    statuses = []
    for i in range(kills):
        run = begun(folder / f"killed-{statuses.count(0)}")
        time.sleep(random.uniform(0, seconds / 3))
        run.send_signal([signal.SIGKILL, signal.SIGTERM][i % 2])
        output, errors = run.communicate()
        statuses.append(run.returncode)  # 0 where the run was over before: the next one begins anew
        # before the loop listens, and when it is over, a SIGTERM ends the process as it does any other
        ends = 0, -signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM
        assert run.returncode in ends, f"kill {i}: {run.returncode}, {errors}"
        if run.returncode == 0:
            assert output.strip() == wanted
    assert any(statuses)
    assert ended(begun(folder / f"killed-{statuses.count(0)}")) == wanted


def test_three_kills_lose_nothing(tmp_path):
    killed_and_resumed(3, 0, tmp_path)


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(tmp_path):
    killed_and_resumed(100, 1, tmp_path)
