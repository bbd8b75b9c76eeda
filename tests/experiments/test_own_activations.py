"""Right pairs are right, wrong ones are wrong, and the checker tells them apart."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.library.answer import Options
from experiments.questions import own_activations as own

Z = np.linspace(-3, 3, 41)


@pytest.mark.parametrize("name", own.RIGHT)
def test_right_pairs_are_right_and_wrong_ones_are_not(name):
    with jax.enable_x64(True):
        z = jnp.asarray(Z)
        for pair, good in ((own.RIGHT[name], True), (own.WRONG[name][1], False)):
            slope = pair.df(pair.f(z) if pair.of == "output" else z)
            truth = jax.vmap(jax.grad(pair.f))(z)
            assert bool(jnp.allclose(slope, truth, rtol=1e-9, atol=1e-12)) is good


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:core.Jaxpr is missing a DebugInfo")
def test_script_says_which_pairs_are_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(
        own,
        "WRONG",
        {"sine": own.WRONG["sine"]} | {n: ("same", a) for n, a in own.RIGHT.items() if n != "sine"},
    )
    ask = own.ask
    monkeypatch.setattr(own, "ask", lambda activation, seed: ask(activation, seed, level="quick"))
    found = own.main(Options(results=tmp_path), steps=3)
    assert found["verdicts"]["sine, right"] == "PASS"
    assert found["verdicts"]["sine, -cos(z), the sign"] == "FAIL: sign"
    assert sum(v == "PASS" for v in found["verdicts"].values()) == 7
    assert json.loads((tmp_path / "own_activations" / "figures.json").read_text())["held-out accuracy"]
