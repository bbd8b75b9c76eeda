"""Deep networks: norms are those of the gradients, and kinds differ as the page says."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from experiments.library.answer import Options
from experiments.questions import deep


def test_norms_are_those_of_the_gradients():
    net = deep.network(3, 8, fnn.tanh, deep.INITS["He"], "skip and norm")
    x, t = jax.random.normal(jax.random.key(0), (4, 64)), jnp.array([0, 1, 2, 3])
    found = deep.gradient_norms(net, x, t, seed=5)
    params = fnn.init(net, jax.random.key(5), x)
    _, grads = fnn.value_and_grad(net, fnn.softmax_cross_entropy())(params, x, t)
    w = next(leaf for leaf in jax.tree.leaves(grads[1]) if leaf.ndim == 3)
    np.testing.assert_allclose(found, jnp.sqrt(jnp.square(w).sum((1, 2))), rtol=1e-5)


@pytest.mark.thorough
def test_script_writes_what_it_prints(tmp_path, monkeypatch):
    monkeypatch.setattr(deep, "ACTIVATIONS", {"sigmoid": fnn.sigmoid})
    monkeypatch.setattr(
        deep, "INITS", {k: deep.INITS[k] for k in ("normal 0.01", "Glorot", "He", "orthogonal")}
    )
    found = deep.main(Options(results=tmp_path), depth=12, width=8, steps=20)
    first, last = found["norm of dW, first and last layer"]["plain, sigmoid, normal 0.01"]
    assert first < 1e-12 * last  # nothing arrives
    first, last = found["norm of dW, first and last layer"]["skip, sigmoid, normal 0.01"]
    assert first > 0.1 * last  # a skip is a way past
    assert set(found["seconds to compile"]["scanned"]) == {1, 4, 12}
    assert len(found["loss at each rate"]["plain, tanh, orthogonal"]) == len(found["rates"])
    assert json.loads((tmp_path / "deep" / "figures.json").read_text())["rates"] == found["rates"]
