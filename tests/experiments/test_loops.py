"""Loops, matrices, recursions and fnn give the same gradients."""

import json

import jax
import numpy as np
import pytest

from experiments.library.answer import Options
from experiments.questions import loops


@pytest.mark.parametrize(("width", "n"), [(3, 1), (5, 2), (7, 4)])
def test_every_form_gives_the_gradients_of_the_loops(width, n):
    with jax.enable_x64(True):
        found = loops.differences(width, n, seed=1)
    assert len(found) == 5 and max(found.values()) < 1e-12


def test_loops_give_the_gradients_of_autodiff():
    with jax.enable_x64(True):
        net, params, own, x, t = loops.problem(5, 1, seed=2)
        truth = jax.grad(lambda p: loops.LOSS(loops.fnn.forward(net, p, x)[0], t))(params)
        assert loops.largest_difference(loops.loops(own, x[0], t[0]), loops.plain(truth)) < 1e-12


def test_a_difference_is_seen():
    _, _, own, x, t = loops.problem(5, 2, seed=2)
    grads = loops.matrices(own, x, t)
    grads[0][0][0, 0] += 1e-3 * np.abs(grads[0][0]).max()
    assert loops.largest_difference(grads, loops.recursion(own, x, t)) > 5e-4


def test_script_writes_what_it_prints(tmp_path, capsys):
    found = loops.main(Options(results=tmp_path), widths=(4, 8), n=4)
    same = found["largest difference from the loops"]
    assert set(same) == {4, 8} and max(max(forms.values()) for forms in same.values()) < 1e-12
    said = capsys.readouterr().out
    assert "about 300x" in said and "fnn compiled, batch" in said
    written = json.loads((tmp_path / "loops" / "figures.json").read_text())
    assert set(written["times faster than loops"]) == {"4", "8"}
    assert (tmp_path / "loops" / "loops.png").read_bytes().startswith(b"\x89PNG")
