"""No false alarm: integers stay valid, differences are asked, surrogates declared; a doubt has a reason."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import vjpcheck
from tests.check.rules import with_rules
from vjpcheck import Verdict, gradient, pair, probes
from vjpcheck.arguments import flatten

X = np.linspace(-1, 1, 6, dtype=np.float32)


def cross_entropy(params, x, y):
    z = x @ params["w"] + params["b"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1))


def backward_of_any_size(saved, dloss):
    params, x, y = saved
    p = jax.nn.softmax(x @ params["w"] + params["b"])
    dz = dloss * (p - jax.nn.one_hot(y, p.shape[1])) / len(x)
    return {"w": x.T @ dz, "b": dz.sum(0)}, dz @ params["w"].T, None


def test_labels_stay_in_range_in_every_probe():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(5, 5)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32)}
    x, y = rng.normal(size=(6, 5)).astype(np.float32), np.array([0, 1, 2, 3, 4, 1], np.int32)
    forward = lambda params, x, y: (cross_entropy(params, x, y), (params, x, y))  # noqa: E731
    right = pair(forward, backward_of_any_size, params, x, y)
    assert right.verdict is Verdict.PASS, str(right)
    arguments = flatten(cross_entropy, (params, x, y), (0, 1))
    assert probes.batch_size(arguments, ()) == 6
    shapes = [
        alternatives[0].arguments for alternatives in probes.other_shapes(arguments, 5, frozenset(), rng)
    ]
    assert all(int(a.leaves[3].max()) < a.leaves[1].shape[1] for a in shapes)


def triple(w):
    return jnp.where(w != 0, 3 * w, 0)


def test_a_rule_that_mends_autodiff_is_right():
    at = np.array([0, 1, 2], np.float32)
    right = with_rules(triple, lambda w: (triple(w), None), lambda _, dy: (3 * dy,))
    report = gradient(right, at)
    assert report.verdict is Verdict.PASS, str(report)
    assert any("differences agree with the rule" in note for note in report.notes)
    wrong = with_rules(triple, lambda w: (triple(w), None), lambda _, dy: (2 * dy,))
    assert gradient(wrong, at, level="quick").verdict is Verdict.FAIL


def root(x):
    """Solve y + y^3 = x by steps that end where the residual is small for the dtype."""
    small = jnp.finfo(x.dtype).eps ** 0.65
    off = lambda y: y**3 + y - x  # noqa: E731
    return lax.while_loop(lambda y: jnp.max(jnp.abs(off(y))) > small, lambda y: y - 0.2 * off(y), x)


def test_a_solver_is_judged_by_its_rule_in_float64():
    def with_slope(slope):
        return with_rules(root, lambda x: (root(x), root(x)), lambda y, dy: (dy * slope(y),))

    report = gradient(with_slope(lambda y: 1 / (1 + 3 * y**2)), X)
    assert "finite differences" in report.checks and report.verdict is Verdict.PASS, str(report)
    assert gradient(with_slope(lambda y: 1.0001 / (1 + 3 * y**2)), X).verdict is Verdict.FAIL
    assert gradient(with_slope(lambda y: 1 / (1 + 3.001 * y**2)), X).verdict is Verdict.FAIL


def test_a_function_that_stops_its_gradients_says_so():
    stopped = gradient(lambda x: x * lax.stop_gradient(jnp.sin(x)), X, level="quick")
    assert stopped.verdict is Verdict.PASS
    assert any(note.startswith("the function stops gradients at test_verdicts.py:") for note in stopped.notes)
    stable = gradient(lambda x: jax.nn.logsumexp(x) * jax.nn.softmax(x), X, level="quick")
    assert stable.verdict is Verdict.PASS and not stable.notes


def straight_through(factor):
    return with_rules(lambda x: jnp.round(x), lambda x: (jnp.round(x), None), lambda _, dy: (factor * dy,))


def clipped(at):
    return with_rules(lambda x: x, lambda x: (x, None), lambda _, dy: (jnp.clip(dy, -at, at),))


def test_a_surrogate_declares_the_backward_alone():
    assert gradient(straight_through(1), X, surrogate=lambda x: x).verdict is Verdict.PASS
    assert gradient(straight_through(3), X, surrogate=lambda x: x, level="quick").mistake == "factor"
    assert gradient(clipped(0.5), X, surrogate=clipped(0.5)).verdict is Verdict.PASS
    assert gradient(clipped(0.5), X, surrogate=clipped(0.6), level="quick").verdict is Verdict.FAIL
    shifted = with_rules(jnp.floor, lambda x: (jnp.floor(x) + 1, None), lambda _, dy: (dy,))
    assert gradient(shifted, X, surrogate=lambda x: x, level="quick").mistake == "forward differs"
    with pytest.raises(ValueError, match="expected a surrogate that returns what <lambda> does, float32"):
        gradient(straight_through(1), X, surrogate=lambda x: x.sum())
    with pytest.raises(TypeError, match="expected a function to check, got int"):
        gradient(straight_through(1), X, surrogate=3)  # pyright: ignore[reportArgumentType]


def test_a_doubt_has_a_reason():
    flat = gradient(straight_through(1), X, level="quick")
    assert flat.verdict is Verdict.INCONCLUSIVE and "the function is flat in x" in str(flat)
    assert "`surrogate=`" in str(flat)
    square = with_rules(
        lambda x: jnp.sqrt(x), lambda x: (jnp.sqrt(x), x), lambda x, dy: (dy / 2 / jnp.sqrt(x),)
    )
    undefined = gradient(square, X, level="quick")
    assert undefined.verdict is Verdict.INCONCLUSIVE
    assert "output 0 of the function itself is NaN in 3 of 6 places" in str(undefined)


def test_a_factor_that_is_an_argument_is_called_by_its_name():
    def backward(saved, dy):
        x, w, scale = saved
        return dy @ w.T, x.T @ dy * scale, (dy * (x @ w)).sum()

    def forward(x, w, scale):
        return x @ w * scale, (x, w, scale)

    args = X.reshape(2, 3), np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4), np.float32(0.5)
    report = pair(forward, backward, *args, level="quick")
    assert report.mistake == "constant left out" and "without the argument scale" in report.mistakes[0].words


def test_a_state_that_is_handed_back_is_no_regulariser():
    def forward(x, state):
        return 2 * x + 0 * state, state

    report = pair(forward, lambda state, dy: (2 * dy, state), X, np.float32(3), level="quick")
    assert report.mistake == "state for a gradient"


def test_it_is_said_which_of_several_gradients_a_name_explains():
    def backward(saved, dy):
        x, w = saved
        return dy @ w.T * jnp.exp(-(x**2)) + x**3, -x.T @ dy

    args = X.reshape(2, 3), np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)
    report = pair(lambda x, w: (x @ w, (x, w)), backward, *args, level="quick")
    sign = next(m for m in report.mistakes if m.name == "sign")
    assert sign.leaves == ("w",) and "explains w, not all that is wrong" in str(report)


def test_a_custom_jvp_without_a_rule():
    with pytest.raises(
        TypeError, match="expected a custom_jvp function with its rule, got none: call `f.defjvp"
    ):

        @jax.custom_jvp
        def f(x):
            return x

        gradient(f, X)


def test_what_was_not_begun_in_time_is_said():
    report = gradient(straight_through(1), X, surrogate=lambda x: x, seconds=1e-9)
    assert report.verdict is not Verdict.FAIL
    assert any("(the 1e-09 s are over)" in note and "not tried" in note for note in report.notes)
    with pytest.raises(ValueError, match="expected seconds to be a positive number"):
        gradient(straight_through(1), X, seconds=0)


FOLDED = """
import jax, jax.numpy as jnp, numpy as np
from vjpcheck import pair

def forward(x, w):
    return jnp.tanh(x @ w) ** 2, (x, w)

def backward(r, dy):
    x, w = r
    dz = dy * 2 * jnp.tanh(x @ w)
    return dz @ w.T, x.T @ dz

x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
report = pair(forward, backward, x, x.T, level="quick")
print(report.mistake, report.mistakes[0].where)
"""


@pytest.mark.parametrize("folder", ["mine", "jax/nn"])
def test_the_folder_of_a_file_decides_nothing(tmp_path, folder):
    path = tmp_path / folder / "here.py"
    path.parent.mkdir(parents=True)
    path.write_text(FOLDED)
    env = {**os.environ, "PYTHONPATH": str(Path(vjpcheck.__file__).parents[1])}
    ran = subprocess.run([sys.executable, path], env=env, capture_output=True, text=True)
    assert ran.stdout.startswith("derivative missing here.py:6  return jnp.tanh(x @ w) ** 2"), ran.stderr


def attention(x):
    return jax.nn.softmax(x * np.float32(3.3)) @ jnp.arange(12.0).reshape(4, 3)


def kept(x):
    """Keep the logarithm of the sum, as flash attention does: at logits of 1000 it rounds the scores away."""
    z = x * np.float32(3.3)
    lse = jax.nn.logsumexp(z, -1, keepdims=True)
    return jnp.exp(z - lse) @ jnp.arange(12.0).reshape(4, 3), (x, lse)


def made_again(saved, dy, mean=1.0):
    x, lse = saved
    p = jnp.exp(x / np.float32(1 / 3.3) - lse)  # the same scale, rounded another way
    dp = dy @ jnp.arange(12.0).reshape(4, 3).T
    return (p * (dp - mean * (dp * p).sum(-1, keepdims=True)) * np.float32(3.3),)


@pytest.mark.thorough
def test_saturated_attention_is_right_however_it_rounds():
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    assert pair(kept, made_again, x, reference=attention).verdict is Verdict.PASS
    wrong = pair(kept, lambda saved, dy: made_again(saved, dy, 0.0), x, reference=attention, level="quick")
    assert wrong.verdict is Verdict.FAIL


def test_a_surrogate_may_be_a_custom_gradient_with_arguments_of_its_own():
    @jax.custom_gradient
    def limited(x, low, high):
        return x, lambda dy: (jnp.clip(dy, low, high), 0.0, 0.0)

    def within(low):
        return lambda x: limited(x, low, 0.5)

    assert gradient(within(-0.5), X, surrogate=within(-0.5), level="quick").verdict is Verdict.PASS
    assert gradient(within(-0.5), X, surrogate=within(-0.1), level="quick").verdict is Verdict.FAIL
