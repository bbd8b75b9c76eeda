"""Exact comparisons hold on other processors, too: XLA is told to leave out instructions of this one."""

import os
import subprocess
import sys

import pytest

EXACT = (  # the files that compare floats to the last bit
    "compose/test_in_place.py compose/test_remat.py layers/test_values.py losses/test_head.py "
    "losses/test_losses.py losses/test_loss_targets.py memory test_errors.py test_factors.py test_feedback.py"
).split()


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX2", "AVX", "SSE4_2"])
def test_with_fewer_instructions_and_one_worker(instructions):
    environment = os.environ | {"XLA_FLAGS": f"--xla_cpu_max_isa={instructions}"}
    run = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-n",
        "1",
        *(f"tests/{name}" for name in EXACT),
    ]
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
