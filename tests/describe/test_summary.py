"""The table of layers: its figures against the arrays themselves (kept bytes: see test_proof)."""

import jax
import jax.numpy as jnp

import fnn

NET = fnn.Serial(
    fnn.Dense(6),
    fnn.Repeat(fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.gated(4), fnn.Dense(6))), 3),
    fnn.Dropout(0.1),
    fnn.Dense(2),
)


def test_params_flops_and_places():
    x = jax.ShapeDtypeStruct((5, 7, 3), jnp.float32)
    summary = fnn.summary(NET, x, jax.random.key(0))
    params = fnn.init(NET, jax.random.key(0), x)
    assert summary.params == sum(leaf.size for leaf in jax.tree.leaves(params))
    rows = 5 * 7
    assert summary.flops == 2 * rows * (3 * 6 + 3 * (6 * 8 + 4 * 6) + 6 * 2)
    assert summary.rows[1].place == ".layers[1].layer.layer.layers[0]"
    assert eval(f"NET{summary.rows[1].place}") == fnn.RMSNorm()
    assert [row.times for row in summary.rows] == [1, 3, 3, 3, 3, 1, 1]


def test_shared_params_count_once_and_their_flops_every_time():
    net = fnn.Repeat(fnn.Dense(4), 3, shared=True)
    summary = fnn.summary(net, jax.ShapeDtypeStruct((5, 4), jnp.float32))
    assert summary.params == 20
    assert summary.flops == 3 * 2 * 5 * 4 * 4


def test_it_prints_a_table():
    text = str(fnn.summary(NET, jax.ShapeDtypeStruct((5, 3), jnp.float32)))
    first, rule, *_, last = text.splitlines()
    assert first.split() == ["layer", "output", "params", "flops", "keeps", "bytes"]
    assert set(rule) == {"-"}
    assert last.startswith("total")
    assert "Dense(6) x 3" in text
