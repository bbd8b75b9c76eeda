"""Rows and columns give the same gradients, and the shapes that are written out are those of the arrays."""

import json

import jax
import pytest

import rows_or_columns as rc
from answer import Options


@pytest.mark.parametrize(("widths", "n"), [((5, 4, 4, 3), 7), ((3, 1), 1), ((2, 6, 5), 3)])
def test_gradients_are_equal_after_transposition(widths, n):
    with jax.enable_x64(True):
        assert max(rc.compare(widths, n, seed=1).values()) < 1e-12


def test_equations_are_written_with_their_shapes():
    said = rc.equations((5, 4, 3), 7)
    assert said.count("\n") == 4 + 8 + 1
    said = " ".join(said.split())
    assert "dW2 = dZ2 A1^T / m (3, 4) = (3, 7) (4, 7)^T / 7" in said
    assert "dZ1 = dA1 * tanh'(Z1) (4, 7) = (4, 7) * (4, 7)" in said
    assert "dA0 = W1^T dZ1" in said


def test_script_writes_what_it_prints(tmp_path, capsys):
    found = rc.main(Options(results=tmp_path), width=8, n=4)
    assert max(found["largest difference"].values()) < 1e-12
    said = capsys.readouterr().out
    assert "dw5 = v4^T dv5" in said and "dW3 = dZ3 A2^T / m" in said
    assert json.loads((tmp_path / "rows_or_columns" / "figures.json").read_text())["largest difference"]
