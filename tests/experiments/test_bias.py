"""The bias beside the weights and inside are one network, and the carried one must not be updated."""

import json

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.library.answer import Options
from experiments.questions import bias


def test_gradients_are_equal():
    with jax.enable_x64(True):
        found = bias.compare((5, 7, 4, 3), 11, seed=3)
    assert len(found) == 4 and max(found.values()) < 1e-12


def test_augmented_layer_gives_per_example_norms_with_the_bias_included():
    net, x, dy = bias.Augmented(3), jnp.ones((2, 4)), jnp.arange(6.0).reshape(2, 3)
    params = fnn.init(net, jax.random.key(0), x)
    _, residuals = fnn.forward(net, params, x)
    factors, dx = fnn.backward(net, params, residuals, dy, read=fnn.readers.as_factors)
    assert (
        isinstance(factors["kernel"], fnn.factors.Outer)
        and factors["kernel"].x.shape == (2, 5)
        and dx.shape == (2, 4)
    )
    np.testing.assert_allclose(fnn.readers.gradient(factors["kernel"], params["kernel"])[-1], dy.sum(0))


def test_an_update_of_the_one_spoils_it():
    told = bias.carried(steps=30, rate=0.1, seed=0)
    assert told["never made: the one, first and last example"] == [1.0, 1.0]
    assert told["undone: loss"] == told["never made: loss"]
    assert told["undone: the one, first and last example"] == [1.0, 1.0]
    assert told["made: loss"][0] == told["never made: loss"][0]
    first, last = told["made: the one, first and last example"]
    assert first != 1.0 and last != 1.0 and first != last


def test_script_writes_what_it_prints(tmp_path, capsys):
    found = bias.main(Options(results=tmp_path), widths=(4, 8), n=4)
    assert "One product for dW and db pays at" in capsys.readouterr().out
    assert set(found["time inside over beside"]) == {4, 8}
    assert json.loads((tmp_path / "bias" / "figures.json").read_text())["largest difference"]
