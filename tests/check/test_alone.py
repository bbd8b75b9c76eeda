"""The checker stands alone: without fnn it, its command and its plugin tell a right rule from a wrong one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vjpcheck

RULES = """
import jax

def square(sign):
    f = jax.custom_vjp(lambda x: x**2)
    f.defvjp(lambda x: (x**2, x), lambda x, dy: (sign * 2 * x * dy,))
    return f

right, wrong = square(1), square(-1)
"""

CALLS = """
import sys, rules, vjpcheck
try:
    import fnn
except ImportError as error:
    print(error)
for rule in (rules.right, rules.wrong):
    report = vjpcheck.gradient(rule, rules.jax.numpy.arange(3.0), level="quick")
    print(report.verdict, report.mistake)
others = {"optax", "jaxtyping", "beartype", "pytest"}
print(sorted(others & set(sys.modules)), [name for name in sys.modules if name.startswith("fnn.")])
"""

TESTS = """
import jax, pytest, rules

@pytest.mark.gradcheck(level="quick")
@pytest.mark.parametrize("rule", [rules.right, rules.wrong], ids=["right", "wrong"])
def test_rule(gradcheck, rule):
    gradcheck(rule, jax.numpy.arange(3.0))
"""


@pytest.fixture
def alone(tmp_path):
    """Run Python in a folder with these rules, where `import fnn` fails."""
    (tmp_path / "fnn.py").write_text('raise ImportError("there is no fnn")\n')
    for name, text in {"rules": RULES, "calls": CALLS, "test_rules": TESTS}.items():
        (tmp_path / f"{name}.py").write_text(text)
    path = os.pathsep.join((str(tmp_path), str(Path(vjpcheck.__file__).parents[1])))
    env = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*options):
        return subprocess.run(
            [sys.executable, *options], cwd=tmp_path, env=env, capture_output=True, text=True
        )

    return run


def test_its_functions_do(alone):
    ran = alone("calls.py")
    assert ran.stdout.splitlines() == ["there is no fnn", "PASS ", "FAIL sign", "[] []"], ran.stderr


@pytest.mark.parametrize(("name", "status"), [("right", 0), ("wrong", 1)])
def test_its_command_does(alone, name, status):
    ran = alone("-m", "vjpcheck", f"rules:{name}", "f32[3]", "--level", "quick")
    assert ran.returncode == status and ("mistake  sign" in ran.stdout) == bool(status), ran.stderr


def test_its_plugin_does(alone):
    ran = alone("-m", "pytest", "-p", "pytest_vjpcheck", "-p", "no:cacheprovider", "-q", "--strict-markers")
    assert "1 failed, 1 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "mistake  sign" in ran.stdout and "FAILED test_rules.py::test_rule[wrong]" in ran.stdout


def test_fnn_without_it_says_what_to_install():
    code = "import sys; sys.modules['vjpcheck'] = None\nimport fnn\nimport fnn.check"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.splitlines()[-1] == (
        "ImportError: fnn.check: expected the package vjpcheck, got none: try `pip install 'fnn[check]'`"
    )
    assert "line 3" in ran.stderr and "line 2" not in ran.stderr  # fnn itself goes without


def test_fnn_check_has_all_of_it():
    from fnn import check

    assert {name: vars(check)[name] for name in vjpcheck.__all__} == {
        name: vars(vjpcheck)[name] for name in vjpcheck.__all__
    }


def test_the_command_is_that_of_fnn_check_too():
    command = [sys.executable, "-m", "fnn.check", "math:nothing", "f32[3]"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 3 and "expected math to have 'nothing'" in ran.stderr, ran.stderr
