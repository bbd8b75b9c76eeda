"""The pytest plugin, as a project uses it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import vjpcheck

HERE = {**os.environ, "PYTHONPATH": str(Path(vjpcheck.__file__).parents[1])}

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
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "pytest_vjpcheck",
        "-p",
        "no:cacheprovider",
        "-q",
        *options,
    ]
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
    code = "import sys, pytest_vjpcheck; print([m for m in ('jax', 'numpy', 'vjpcheck') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr


STRANGERS = """
import pytest

class GradientError(Exception):
    pass

def test_of_another_library():
    raise GradientError("not ours")
"""


def test_an_error_of_another_library_keeps_its_traceback(tmp_path):
    (tmp_path / "test_theirs.py").write_text(STRANGERS)
    ran = run(tmp_path)
    assert "def test_of_another_library" in ran.stdout and "not ours" in ran.stdout, ran.stdout + ran.stderr


UNSURE = """
import jax, jax.numpy as jnp, numpy as np, pytest

f = jax.custom_vjp(lambda x: jnp.round(x))
f.defvjp(lambda x: (jnp.round(x), None), lambda _, dy: (dy,))
X = np.linspace(-1, 1, 6, dtype=np.float32)

def test_flat(gradcheck):
    gradcheck(f, X, level="quick")

@pytest.mark.gradcheck(level="quick", inconclusive="fail")
def test_strict(gradcheck):
    gradcheck(f, X)

@pytest.mark.gradcheck(level="quick", inconclusive="fail", surrogate=lambda x: x)
def test_declared(gradcheck):
    gradcheck(f, X)
"""


def test_what_cannot_be_judged_is_warned_of_or_fails(tmp_path):
    (tmp_path / "test_mine.py").write_text(UNSURE)
    ran = run(tmp_path)
    assert "1 failed, 2 passed, 1 warning" in ran.stdout, ran.stdout + ran.stderr
    assert "PytestWarning: INCONCLUSIVE" in ran.stdout and "the function is flat in x" in ran.stdout


def test_the_plugin_asks_of_pytest_only_what_every_pytest_has():
    import pytest_vjpcheck

    options = getattr(pytest_vjpcheck.pytest_runtest_makereport, "pytest_impl")  # noqa: B009
    assert options["hookwrapper"] and not options.get("wrapper")
