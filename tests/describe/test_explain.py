"""The equations of every case: a boundary that a line reads is alive there, and freed after its last use."""

import re

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn.describe.explain import equation
from tests.cases import COMPOSITIONS, LAYERS, example
from tests.every import every_case


def lives(net, x):
    """Follow the notes line by line; give the boundaries alive after the forward."""
    alive, kept, after_forward = {"v0"}, set(), None
    lines = fnn.explain(net, x).lines
    for line in lines:
        if line.part == "backward" and after_forward is None:
            after_forward = set(alive)
        missing = line.boundaries(right=True) - alive
        assert not missing, f"{equation(line)} reads {missing}, which is not there"
        alive |= line.boundaries(right=False)
        for note in line.notes:
            if note.endswith("is free"):
                name = note.split()[0]
                assert name in alive, f"{name} is freed twice"
                alive.remove(name)
            elif re.fullmatch(r"keep v\d+", note):
                kept.add(note.split()[1])
    return kept, after_forward if after_forward is not None else alive, alive


@every_case
def test_what_is_read_is_alive_and_what_is_kept_is_freed(case):
    kept, after_forward, at_end = lives(case.net, case.input())
    assert kept <= after_forward | {"v0"}
    # of what lives after the forward and was not kept there is the output, and an input that nobody keeps
    assert len(after_forward - kept - {"v0"}) <= 1
    assert not (kept & at_end), f"{kept & at_end} kept and never freed"


@pytest.mark.parametrize("case", [*LAYERS, *COMPOSITIONS], ids=repr)
def test_kept_boundaries_are_those_of_the_residuals(case):
    drawn = example(case)
    text = str(fnn.explain(case.net, drawn.x))
    rows = fnn.summary(case.net, drawn.x).rows
    boundaries = sum(what in ("input", "output") for row in rows for what in row.kept)
    if not isinstance(case.net, fnn.Repeat) and "repeat" not in case.name and "shared" not in case.name:
        assert len(set(re.findall(r"keep (v\d+)", text))) == boundaries


def test_an_equation_for_every_param_and_in_latex():
    net = fnn.Serial(fnn.Dense(6), fnn.LayerNorm(), fnn.gelu_tanh, fnn.Dense(3, bias=False))
    explained = fnn.explain(net, jax.ShapeDtypeStruct((7, 5), jnp.float32))
    text = str(explained)
    for name in ("dw1", "db1", "dscale2", "db2", "dw4", "dv0"):
        assert f"  {name} = " in text
    assert "db4" not in text
    assert "(6, 3) = (7, 6)^T (7, 3)" in text
    markdown = explained.markdown()
    assert r"$\mathrm{d}\mathit{w}_{1} = \mathit{v}_{0}^\top \mathrm{d}\mathit{v}_{1}$" in markdown
    assert r"\mathrm{gelu\_tanh}'" in markdown and r"\textstyle\sum(" in markdown
    assert all(line.count("|") == 6 for line in markdown.splitlines())


def test_a_layer_of_ones_own_is_named():
    class Negate(fnn.Leaf):
        needs = frozenset()
        cheap = True

        def init(self, key, x):
            return ()

        def forward(self, params, x, key):
            return -x, ()

        def backward(self, params, x, y, extras, dy):
            return (), -dy

        def __repr__(self):
            return "Negate()"

    net = fnn.Serial(Negate(), fnn.Dense(2))
    x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    assert "v1 = Negate()(v0)" in str(fnn.explain(net, x))
    assert fnn.summary(net, x).params == 10
