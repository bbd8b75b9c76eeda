"""What the page on lives says of boundaries, live arrays and donated buffers holds."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from experiments.library.answer import Options
from experiments.questions import lives


def test_chains_keep_one_boundary_for_an_activation():
    assert lives.sides(fnn.relu) == ("A", "A")
    assert lives.sides(fnn.gelu) == ("Z", "Z")
    assert all(len(kept) == 1 for _, kept in (lives.sides(getattr(fnn, name)) for name in lives.ACTIVATIONS))


def test_values_are_named_and_end_in_the_output():
    net = fnn.Serial(*fnn.mlp([5, 4, 3]).layers, fnn.sigmoid)
    x = jnp.ones((2, 5))
    params = fnn.init(net, jax.random.key(0), x)
    named = lives.values(net, params, x)
    assert list(named) == ["A0", "Z1", "A1", "Z2", "A2"]
    assert jnp.array_equal(named["A2"], fnn.apply(net, params, x))
    np.testing.assert_allclose(named["Z2"], fnn.forward(fnn.Serial(*net.layers[:-1]), params[:-1], x)[0])


@pytest.mark.thorough
def test_policies_differ_as_the_page_says(tmp_path):
    found = lives.main(Options(results=tmp_path), depth=4, width=8, n=256)
    unit, live = found["bytes of a boundary"], found["live bytes"]
    a, b, c = (np.array(live[p]) / unit for p in "abc")
    assert len(found["moments"]) == len(a) == 9
    assert (a[:4] == b[:4]).all()  # the forward is the same
    assert a.max() < b.max()  # freeing as one goes lowers the peak
    assert (np.diff(a[3:7]) < -0.5).all() and (np.diff(b[4:8]) >= 0).all()
    assert (c[:4] == c[0]).all() and c[-1] > 2  # the buffers are there from first to last
    same, all_of_them = found["residuals at the same address"]
    assert same == all_of_them > 0
    buffers = found["compiler's buffers"]
    assert buffers["a"]["reused"] == buffers["b"]["reused"] == 0
    assert buffers["c"]["reused"] >= 3 * unit
    assert buffers["c"]["outputs"] < buffers["b"]["outputs"]
    assert json.loads((tmp_path / "lives" / "figures.json").read_text())["live bytes"] == live
