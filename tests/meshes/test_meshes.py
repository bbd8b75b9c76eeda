"""Meshes of eight devices, in a process of their own: the others run on two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Eight devices share the cores with whatever else runs. After 40 seconds in which not all of them came to a
# collective, XLA ends the process, and the test that was running is red.
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=1200"


def on_eight_devices(marks: str) -> None:
    """Run the tests of this folder that want eight devices."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", "-x", "-q", "-m", marks]
    files = sorted(map(str, HERE.glob("on_eight_*.py")))
    flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {PATIENT}"}
    environment = os.environ | flags | {"FNN_TEST_DEVICES": "8", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, *files], cwd=HERE.parents[1], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.thorough
def test_a_slice_of_the_table():
    on_eight_devices("not slow")


@pytest.mark.slow
def test_the_whole_table():
    on_eight_devices("slow")
