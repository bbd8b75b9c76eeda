"""Rows and columns give the same gradients, and the shapes that are written out are those of the arrays."""

import json

import jax
import jax.numpy as jnp
import pytest

import fnn
from experiments.library.answer import Options
from experiments.questions import rows_or_columns as rc


@pytest.mark.thorough
@pytest.mark.parametrize(("widths", "n"), [((5, 4, 4, 3), 7), ((3, 1), 1), ((2, 6, 5), 3)])
def test_gradients_are_equal_after_transposition(widths, n):
    with jax.enable_x64(True):
        found = rc.compare(widths, n, seed=1)
    assert len(found) == 2 * (len(widths) - 1) + 1
    assert max(max(pair) for pair in found.values()) < 1e-12


def test_columns_are_explained_by_the_four_equations_with_their_shapes():
    x = jax.ShapeDtypeStruct((5, 7), jnp.float32)
    said = " ".join(rc.by_name(fnn.explain(rc.network((5, 4, 3)), x)).split())
    assert "Z1 = W1 A0 + b1 (4, 7) = (4, 5) (5, 7) + (4, 1)" in said
    assert "dW2 = dZ2 A1^T / m (3, 4) = (3, 7) (4, 7)^T / m" in said
    assert "db2 = sum(dZ2) / m (3, 1) = sum((3, 7)) / m" in said
    assert "dZ1 = dA1 * tanh'(Z1) (4, 7) = (4, 7) * tanh'((4, 7))" in said
    assert "dA0 = W1^T dZ1 (5, 7) = (4, 5)^T (4, 7)" in said
    params = jax.eval_shape(lambda: fnn.init(rc.network((5, 4, 3)), jax.random.key(0), x))
    assert params[2]["W"].shape == (3, 4) and params[2]["bias"].shape == (3, 1)


def test_script_writes_what_it_prints(tmp_path, capsys):
    found = rc.main(Options(results=tmp_path), width=8, n=4)
    assert max(max(pair) for pair in found["largest difference"].values()) < 1e-12
    said = capsys.readouterr().out
    assert "dw3 = A2^T dZ3" in said and "dW3 = dZ3 A2^T / m" in said and "dA0 is 7 times dx" in said
    assert json.loads((tmp_path / "rows_or_columns" / "figures.json").read_text())["largest difference"]
