"""Every value by its place, from the residuals: what the forward had there."""

from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import Bias, Dense, Dropout, LayerNorm, Remat, Repeat, Serial
from fnn.describe import activations
from tests.cases import CASES, SINE, Case, example
from tests.proof import assert_equal


@partial(jax.tree_util.register_dataclass, data_fields=["y"], meta_fields=["number"])
@dataclass(frozen=True)
class Record:
    """An output, among the extras of the layer that gave it."""

    y: Any
    number: int


@dataclass(frozen=True)
class Recorded(fnn.Leaf):
    """A layer that keeps its output in its extras."""

    layer: Any
    number: int

    def init(self, key, x):
        return self.layer.init(key, x)

    def forward(self, params, x, key):
        y, extras = self.layer.forward(params, x, key)
        return y, (extras, Record(y, self.number))

    def backward(self, params, x, y, extras, dy):
        raise NotImplementedError


def recorded(layer: Any, count: Any) -> Any:
    """Give the network with all its leaves recorded, numbered in their order."""
    if isinstance(layer, fnn.Composition):
        return layer.with_layers(*(recorded(inner, count) for inner in layer.layers))
    return Recorded(layer, next(count))


def places(place: str, layer: Any, params: Any, x: Any) -> list[str]:
    if not isinstance(layer, fnn.Composition):
        return [place]
    return [name for part in layer.parts(params, x) for name in places(place + part.place, *part[1:4])]


NAMES = """dense dropout mlp mlp-scanned mlp-scanned-dropout mlp-own-activations named named-in-chain
cheap-chain dense-norm-sine embedding-chain skip-relu skip-dropout parallel-sum parallel-concatenate
repeat-input-and-output
repeat-output-alone repeat-rebuilt repeat-dropout shared repeat-of-repeat shared-of-repeat
deep-nesting each-concatenate each-noise heads heads-pair repeat-of-each plan-named repeat-every-2""".split()


def leaves_run(drawn: Any) -> dict[str, Any]:
    """Give what the forward had everywhere, recorded as it ran."""
    net = drawn.net
    if any(isinstance(layer, Remat) for layer in getattr(net, "layers", ())):
        net = net.with_layers(*(f.layer if isinstance(f, Remat) else f for f in net.layers))
    if isinstance(net, Serial):
        net = net.with_plan(())
    if isinstance(net, Repeat) and net.every > 1:
        net = Repeat(net.layer, net.n)
    shapes = jax.eval_shape(lambda: (drawn.params, drawn.x))
    names = places("", net, *shapes)
    extras = recorded(net, count()).forward(drawn.params, drawn.x, drawn.key)[1]
    found = [
        leaf
        for leaf in jax.tree.leaves(extras, is_leaf=lambda v: isinstance(v, Record))
        if isinstance(leaf, Record)
    ]
    return {names[record.number]: record.y for record in found}


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "reversible" not in name and name != "recomputed"]
)
def test_they_are_what_the_forward_had(name):
    drawn = example(next(case for case in CASES if case.name == name))

    @jax.jit
    def run(drawn):
        _, residuals = fnn.forward(drawn.net, drawn.params, drawn.x, drawn.key)
        return activations(drawn.net, drawn.params, residuals), leaves_run(drawn)

    got, wanted = run(drawn)
    missing = wanted.keys() - got.keys()
    assert got.keys() <= wanted.keys()
    assert_equal(got, {place: wanted[place] for place in got})
    assert not missing or name in UNKNOWN, missing


UNKNOWN = {"dropout", "skip-dropout"}  # no backward reads the first input


@pytest.mark.parametrize("name", ["reversible", "repeat-reversible", "recomputed"])
def test_what_is_run_again_shows_its_values_too(name):
    drawn = example(next(case for case in CASES if case.name == name))
    y, residuals = fnn.forward(drawn.net, drawn.params, drawn.x, drawn.key)
    found = activations(drawn.net, drawn.params, residuals)
    shapes = jax.eval_shape(lambda: (drawn.params, drawn.x))
    assert list(found) == places("", drawn.net, *shapes)
    if name == "recomputed":
        assert_equal(found[".layers[2]"], y)
    else:  # the last g, added to the second half
        x2 = jnp.split(fnn.forward(drawn.net, drawn.params, drawn.x, drawn.key)[0], 2, -1)[1]
        last = [value for place, value in found.items() if ".g" in place][-1]
        assert jnp.shape(last)[-len(x2.shape) :] == x2.shape


PLACES = [
    '["first"]',
    '["hidden"][0]["activation"]',
    '["hidden"][0]["dense"]',
    '["activation"]',
    '["output"]',
]


def test_dead_units_and_saturation_are_seen_eagerly_and_under_jit():
    net = fnn.mlp([3, 5, 5, 2])
    x = jnp.ones((4, 3))
    params = fnn.init(net, jax.random.key(0), x)
    params["first"]["bias"] = params["first"]["bias"].at[2].set(-1e3)
    for way in (lambda f: f, jax.jit):
        found = way(lambda p: activations(net, p, fnn.forward(net, p, x)[1]))(params)
        dead = (found['["hidden"][0]["activation"]'] == 0).all(0)
        assert dead[2] and sorted(found) == sorted(PLACES)


def test_what_follows_from_nothing_kept_is_left_out():
    x = jnp.ones((4, 3))
    net = Serial(Bias(), Dropout(0.1), Dense(2))
    params = fnn.init(net, jax.random.key(0), x)
    y, residuals = fnn.forward(net, params, x, jax.random.key(1))
    found = activations(net, params, residuals)
    assert list(found) == [".layers[1]", ".layers[2]"]
    np.testing.assert_allclose(found[".layers[2]"], y)


def test_a_norm_gives_what_it_gave():
    drawn = example(Case("net", Serial(Dense(4), LayerNorm(), SINE), (5, 3)))
    y, residuals = fnn.forward(drawn.net, drawn.params, drawn.x)
    assert_equal(activations(drawn.net, drawn.params, residuals)[".layers[2]"], y)
