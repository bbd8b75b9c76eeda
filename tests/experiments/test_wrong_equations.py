"""Every line that is called wrong is wrong, the right ones are right, and the checker says so."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.library.answer import Options
from experiments.questions import wrong_equations as wrong

SPOILED = {"a": 6, "b": 6, "c": 1, "d": 4, "e": 2}  # the last layers' gradients come first on the way back


@pytest.mark.parametrize("sizes", [((5, 4, 3, 1), 7), ((4, 4, 4, 4), 4)], ids=str)
def test_right_lines_give_the_gradients_of_autodiff(sizes):
    with jax.enable_x64(True):
        params, X, Y = jax.tree.map(lambda a: a.astype(jnp.float64), wrong.problem(*sizes, seed=0))
        truth = jax.grad(lambda params: wrong.forward_pass(params, X, Y)[0])(params)
        _, s = wrong.forward_pass(params, X, Y)
        for ours, theirs in zip(wrong.backward_pass(s), truth, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(s.dZ3, s.A3 - s.Y, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("letter", wrong.WRONG)
def test_wrong_lines_fit_where_all_sizes_are_equal_and_spoil_what_lies_below(letter):
    params, X, Y = wrong.problem((4, 4, 4, 4), 4, seed=0)
    right = wrong.backward_pass(wrong.forward_pass(params, X, Y)[1])
    found = wrong.backward_pass(wrong.forward_pass(params, X, Y)[1], letter)
    off = [float(abs(a - b).max() / abs(a).max()) > 0.05 for a, b in zip(right, found, strict=True)]
    assert sum(off) == SPOILED[letter]
    assert off == ([False] * 4 + [True, False] if letter == "c" else [i < SPOILED[letter] for i in range(6)])


NAMED = {
    "a": "another value",
    "b": "function for its derivative",
    "c": "cotangent for a value",
    "d": "function for its derivative",
    "e": "rule of the other operand",
}


@pytest.mark.slow  # (c) is asked about below
@pytest.mark.parametrize("letter", NAMED)
@pytest.mark.filterwarnings("ignore:core.Jaxpr is missing a DebugInfo")
def test_each_is_named_where_all_sizes_are_equal(letter):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        said = wrong.ask(*wrong.problem((4, 4, 4, 4), 4, seed=0), letter)
    assert said.mistake == NAMED[letter], str(said)
    assert said.mistakes[0].error < 1e-5 and said.mistakes[0].fresh < 1e-5


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:core.Jaxpr is missing a DebugInfo")
def test_checker_is_asked_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wrong, "WRONG", {"c": wrong.WRONG["c"]})
    found = wrong.main(Options(results=tmp_path))
    assert found["verdicts"]["right"] == ["PASS", "PASS"]
    assert found["verdicts"]["c"] == ["FAIL: wrong shape", "FAIL: cotangent for a value"]
    assert found["scalar verdicts"] == {"z - d": "PASS", "d - z": "FAIL: sign"}
    assert found["scalar"]["dw1"] == pytest.approx(0.023287, abs=1e-6)
    assert found["gradient at a logit of -120"] == {"long": "nan", "short": -1.0}
    assert "dW3 = dZ3 dA3^T / m, instead of dZ3 A2^T / m" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "wrong_equations" / "figures.json").read_text())["scalar"] == found["scalar"]
    )
    assert (tmp_path / "wrong_equations" / "wrong_equations.png").read_bytes().startswith(b"\x89PNG")
