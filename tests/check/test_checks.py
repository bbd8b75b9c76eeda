"""Each check by itself: structure, algebra, finite differences, transforms, second order, strict settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpcheck
from tests.check.corpus import RIGHT as RIGHT_CASES
from tests.check.rules import with_rules
from vjpcheck import GradientError, Verdict, gradient, pair

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def square_with(backward):
    return with_rules(lambda x: x**2, lambda x: (x**2, x), backward)


RIGHT = square_with(lambda x, dy: (2 * x * dy,))


def test_a_report_reads_well_and_turns_into_json():
    report = gradient(square_with(lambda x, dy: (-2 * x * dy,)), X)
    text = str(report)
    assert text.startswith("FAIL") and "mistake  sign" in text and "allowed" in text
    given = json.loads(json.dumps(report.to_json()))
    assert given["verdict"] == "FAIL" and given["mistake"] == "sign" and given["leaves"][0]["name"] == "x"
    with pytest.raises(GradientError) as caught:
        report.raise_if_failed()
    assert str(caught.value) == text and caught.value.report is report


def test_a_right_rule_passes_whatever_jax_is_set_to():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        f = square_with(lambda x, dy: (2 * x * dy,))
        assert gradient(f, X).verdict is Verdict.PASS
        wrong = gradient(square_with(lambda x, dy: (x * dy,)), X, level="quick")
    assert wrong.mistake == "factor"


def test_what_jax_accepts_in_silence():
    def another_dtype(x, dy):
        return ((2 * x * dy).astype(jnp.bfloat16),)

    assert gradient(square_with(another_dtype), X, level="quick").mistake == "wrong dtype"
    assert gradient(square_with(lambda x, dy: (None,)), X, level="quick").mistake == "missing gradient"
    off = with_rules(lambda x: x**2, lambda x: (1.001 * x**2, x), lambda x, dy: (2 * x * dy,))
    assert gradient(off, X, level="quick").mistake == "forward differs"


def test_trees_that_do_not_match():
    report = gradient(square_with(lambda x, dy: (dy, dy)), X)
    assert report.mistake == "wrong tree" and "expected a tuple of 1 cotangents" in str(report)


def test_a_rule_that_closes_over_a_traced_value():
    kept = []

    def forward(x):
        kept.append(x)
        return x**2, None

    def backward(_, dy):
        return (2 * kept[0] * dy,)

    f = with_rules(lambda x: x**2, forward, backward)
    assert gradient(f, X).mistake == "leaked tracer"


def test_a_residual_that_is_changed():
    def backward(saved, dy):
        x = saved.pop()
        return (2 * x * dy,)

    report = pair(lambda x: (x**2, [x]), backward, X, level="quick")
    assert report.mistake == "residual changed"


def test_a_size_that_a_rule_closes_over_is_not_varied():
    def square_mean(x):
        return jnp.mean(x**2), x

    def made_for(n):
        return square_mean, lambda x, dy: (dy * 2 * x / n,)

    right, literal = pair(*made_for(4), X[:, 0]), pair(square_mean, lambda x, dy: (dy * 2 * x / 4,), X[:, 0])
    assert right.verdict is Verdict.PASS
    assert "sizes that the rules close over, not varied: 4" in right.notes
    assert gradient(square_with(lambda x, dy: (2 * x * dy,)), X).notes == ()
    assert literal.verdict is Verdict.FAIL
    assert any("right at the inputs given" in text for text in literal.details)


def test_arguments_held_fixed():
    f = with_rules(
        lambda n, x: x**n,
        lambda n, x: (x**n, x),
        lambda n, x, dy: (n * x ** (n - 1) * dy,),
        nondiff_argnums=(0,),
    )
    assert gradient(f, 3, X).verdict is Verdict.PASS
    g = with_rules(lambda x, y: x * y, lambda x, y: (x * y, (x, y)), lambda r, dy: (dy * r[1], None))
    assert gradient(g, X, X, wrt=0).verdict is Verdict.PASS
    assert gradient(g, X, X, level="quick").mistake == "missing gradient"


def test_a_rule_met_on_the_way():
    wrong = square_with(lambda x, dy: (x * dy,))
    report = gradient(lambda x: jnp.sum(wrong(jnp.sin(x))), X, level="quick")
    assert report.mistake == "factor"


def test_another_reference():
    def halved(x):
        return 0.5 * x**2

    report = gradient(RIGHT, X, reference=halved, level="quick")
    assert report.mistake == "forward differs"


def test_numpy_alone():
    def forward(x):
        return np.sin(np.asarray(x)), np.asarray(x)

    right = pair(forward, lambda x, dy: (np.cos(x) * dy,), X)
    assert right.verdict is Verdict.PASS and "finite differences" in right.checks
    wrong = pair(forward, lambda x, dy: (-np.cos(x) * dy,), X)
    assert wrong.verdict is Verdict.FAIL and wrong.mistake == "sign"


def test_an_ill_conditioned_leaf_is_never_passed():
    case = next(c for c in RIGHT_CASES if c.kind == "right bias before norm")
    report = gradient(case.function, *case.make(jax.random.key(0), 0), level="quick")
    assert report.verdict is Verdict.INCONCLUSIVE
    with pytest.raises(GradientError):
        report.raise_if_failed(inconclusive=True)


def test_transforms_of_a_right_rule():
    names = ("jit", "vmap", "scan", "checkpoint", "devices")
    report = gradient(RIGHT, X, level="quick", transforms=names, order=2)
    assert report.verdict is Verdict.PASS, str(report)
    assert {"jit", "vmap", "scan", "checkpoint", "second order"} <= set(report.checks)


def test_second_order():
    def frozen(x, dy):
        return (2 * jax.lax.stop_gradient(x) * dy,)

    assert gradient(square_with(frozen), X, level="quick").verdict is Verdict.PASS
    assert gradient(square_with(frozen), X, level="quick", order=2).mistake == "second order wrong"


def test_a_gradient_that_vmap_breaks():
    def backward(x, dy):
        return (2 * x * dy * (1 + 0.1 * (jnp.ndim(dy) != 2) + 0.1 * _batched(dy)),)

    report = gradient(square_with(backward), X, level="quick", transforms=("vmap",))
    assert report.verdict is Verdict.FAIL


def _batched(x):
    """Whether a value is traced by vmap: what a kernel that knows no batch axis may turn on."""
    return float("Batch" in type(x).__name__)


COMMAND = [sys.executable, "-m", "vjpcheck"]
HERE = {**os.environ, "PYTHONPATH": str(Path(vjpcheck.__file__).parents[1])}


def test_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import jax\n"
        "@jax.custom_vjp\n"
        "def f(x, w):\n    return x @ w\n"
        "f.defvjp(lambda x, w: (x @ w, (x, w)), lambda r, dy: (dy @ r[1].T, -r[0].T @ dy))\n"
    )
    given = [*COMMAND, "mine:f", "f32[6,5], f32[5,4]", "--level", "quick"]
    ran = subprocess.run(given, cwd=tmp_path, env=HERE, capture_output=True, text=True)
    assert ran.returncode == 1 and "mistake  sign: the gradient of w" in ran.stdout, ran.stderr
    ran = subprocess.run(
        [*COMMAND, "mine:g", "f32[6]"], cwd=tmp_path, env=HERE, capture_output=True, text=True
    )
    assert ran.returncode == 3 and "expected mine to have 'g'" in ran.stderr and "Traceback" not in ran.stderr


def test_arguments_from_a_shape_string():
    from vjpcheck.__main__ import arguments

    x, index, flags, scalar = arguments("f32[6,5], i32[7]<4, bool[3], bf16[]")
    assert (x.shape, index.shape, flags.dtype, scalar.dtype) == ((6, 5), (7,), bool, jnp.bfloat16)
    assert int(index.max()) < 4
    with pytest.raises(ValueError, match="expected arguments like"):
        arguments("float[3]")
