"""Walking a network from its output to the first wrong layer."""

from dataclasses import dataclass

import jax
import pytest

import fnn
from fnn import check


@dataclass(frozen=True)
class Crooked(fnn.Leaf):
    """A dense layer whose weight gradient has the wrong sign."""

    dense: fnn.Dense = fnn.Dense(4)
    needs = frozenset(("input",))

    def init(self, key, x):
        return self.dense.init(key, x)

    def forward(self, params, x, key):
        return self.dense.forward(params, x, key)

    def backward(self, params, x, y, extras, dy):
        factors, dx = self.dense.backward(params, x, y, extras, dy)
        return {**factors, "kernel": fnn.factors.Outer(-factors["kernel"].x, factors["kernel"].dz)}, dx


def made(net):
    x = jax.random.normal(jax.random.key(0), (6, 5))
    return net, fnn.init(net, jax.random.key(1), x), x


def test_the_first_wrong_layer_is_found():
    net = fnn.Serial(fnn.Skip(fnn.Dense(5)), Crooked(), fnn.tanh)
    report = check.layers(*made(net), level="quick")
    assert report.mistake == "sign" and "layers[1]: Crooked" in report.where
    assert "1 layers after it are right" in report.notes


def test_a_right_network_passes():
    report = check.layers(*made(fnn.Serial(fnn.Dense(3), fnn.relu)), level="quick")
    assert report.verdict == "PASS", str(report)


def test_a_network_of_nobody():
    with pytest.raises(TypeError, match="library=fnn"):
        check.layers(object(), (), 0.0)
