"""Updating after the last use is gradient descent; updating too soon is something else."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from experiments.library.answer import Options
from experiments.questions import when_to_update as when


def test_after_the_last_use_is_gradient_descent_and_too_soon_is_not():
    with jax.enable_x64(True):
        net = fnn.Serial(*fnn.mlp([5, 4, 4, 3], fnn.tanh).layers)
        x, t = jax.random.normal(jax.random.key(0), (6, 5)), jnp.array([0, 1, 2, 0, 1, 2])
        params = fnn.init(net, jax.random.key(1), x)
        value, grads = fnn.value_and_grad(net, when.LOSS)(params, x, t)
        found, new, _ = when.step(net, params, x, t, 0.1, too_soon=False)
        assert found == value
        wanted = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), new, wanted)
        _, _, wrong = when.step(net, params, x, t, 0.1, too_soon=True)
        np.testing.assert_allclose(wrong[-1]["kernel"], grads[-1]["kernel"], rtol=1e-12)
        assert not np.allclose(wrong[0]["kernel"], grads[0]["kernel"], rtol=1e-3)


@pytest.mark.thorough
def test_script_says_what_holds(tmp_path, capsys):
    found = when.main(Options(results=tmp_path), width=16, steps=60, batch=16)
    off = found["relative error of each weight's gradient"]
    assert all(row[-1] == 0 and min(row[:-1]) > 0 for row in off.values())
    first = [row[0] for row in off.values()]
    assert first == sorted(first)  # the error grows with the rate
    live = found["live bytes over params"]
    assert max(live["after the last use"]) < max(live["at the end"]) - 0.4
    assert "Updated too soon" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "when_to_update" / "figures.json").read_text())["live bytes over params"]
        == live
    )
