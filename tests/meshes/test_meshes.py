"""Meshes of eight devices, in a process of their own: the others run on two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def on_eight_devices(marks: str) -> None:
    """Run the tests of this folder that want eight devices."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", "-x", "-q", "-m", marks]
    files = sorted(map(str, HERE.glob("on_eight_*.py")))
    environment = os.environ | {"FNN_TEST_DEVICES": "8", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, *files], cwd=HERE.parents[1], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.thorough
def test_a_slice_of_the_table():
    on_eight_devices("not slow")


@pytest.mark.slow
def test_the_whole_table():
    on_eight_devices("slow")
