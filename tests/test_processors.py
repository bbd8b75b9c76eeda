"""Exact comparisons hold on other processors, too: XLA is told to leave out instructions of this one."""

import os
import subprocess
import sys

import pytest

EXACT = (  # the files that compare floats to the last bit
    "tests/compose/test_in_place.py tests/compose/test_remat.py tests/layers/test_values.py tests/losses/test_head.py "
    "tests/losses/test_losses.py tests/losses/test_loss_targets.py tests/memory tests/test_errors.py "
    "tests/test_factors.py tests/test_feedback.py"
).split()


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX2", "AVX", "SSE4_2"])
def test_with_fewer_instructions_and_one_worker(instructions):
    environment = os.environ | {"XLA_FLAGS": f"--xla_cpu_max_isa={instructions}"}
    run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "1", *EXACT]
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
