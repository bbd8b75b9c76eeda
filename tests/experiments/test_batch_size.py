"""The vmapped experiment is the same as a run of its own for each batch size and rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from experiments.library.answer import Options
from experiments.questions import batch_size as sizes


@pytest.mark.thorough
def test_a_run_among_many_is_a_run_of_its_own():
    with jax.enable_x64(True):
        net = fnn.mlp([6, 5, 3])
        x = jax.random.normal(jax.random.key(3), (24, 6))
        t = jnp.arange(24) % 3
        found = sizes.learn(net, x, t, (4, 12, 24), (0.1, 0.5), epochs=2, tick=4, seed=0)
        params, keys = fnn.init(net, jax.random.key(0), x), jax.random.split(jax.random.key(1), 2)
        for key in keys:
            for rows in jax.random.permutation(key, 24).reshape(2, 12):
                _, grads = fnn.value_and_grad(net, sizes.LOSS)(params, x[rows], t[rows])
                params = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
        wanted = sizes.LOSS(fnn.apply(net, params, x), t)
        np.testing.assert_allclose(found[1, 1, -1], wanted, rtol=1e-12)
        assert found.shape == (3, 2, 3)


def test_script_writes_what_it_prints(tmp_path):
    found = sizes.main(Options(results=tmp_path), epochs=2, batches=(128, 256, 1280))
    assert set(found["best rate"]) == {128, 256, 1280}
    assert (tmp_path / "batch_size" / "batch_size.png").is_file()
