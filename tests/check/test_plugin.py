"""The pytest plugin, as a project uses it."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

TESTS = """
import jax, numpy as np, pytest

X = np.linspace(-1, 1, 6, dtype=np.float32)

def square(sign):
    f = jax.custom_vjp(lambda x: x**2)
    f.defvjp(lambda x: (x**2, x), lambda x, dy: (sign * 2 * x * dy,))
    return f

def test_right(gradcheck):
    assert gradcheck(square(1), X).verdict == "PASS"

@pytest.mark.gradcheck(transforms=("jit",))
def test_wrong(gradcheck):
    gradcheck(square(-1), X)

def test_pair(gradcheck):
    report = gradcheck.pair(lambda x: (2 * x, None), lambda _, dy: (2 * dy,), X)
    assert "other inputs" not in report.checks
"""


def run(path, *options):
    command = [sys.executable, "-m", "pytest", "-p", "pytest_fnn", "-p", "no:cacheprovider", "-q", *options]
    return subprocess.run(command, cwd=path, env=HERE, capture_output=True, text=True)


def test_fixture_marker_options_and_report(tmp_path):
    (tmp_path / "test_mine.py").write_text(TESTS)
    ran = run(tmp_path, "--gradcheck-level", "quick", "--gradcheck-json", "reports.json", "--strict-markers")
    assert "1 failed, 2 passed" in ran.stdout, ran.stdout + ran.stderr
    section = ran.stdout.split("test_wrong __")[1].split("short test summary")[0]
    assert "mistake  sign" in section and "Traceback" not in section and "def test_wrong" not in section
    reports = json.loads((tmp_path / "reports.json").read_text())
    assert [r["verdict"] for r in reports] == ["PASS", "FAIL", "PASS"]
    assert reports[1]["test"].endswith("::test_wrong") and reports[1]["mistake"] == "sign"


def test_the_plugin_is_light():
    code = "import sys, pytest_fnn; print([m for m in ('jax', 'numpy', 'fnn') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr
