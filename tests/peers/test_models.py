"""Models of Haiku and Penzai under fnn's readers, against a gradient for each example.

They are not among fnn's test packages: `make peers` runs these in an environment of their own.
"""

# pyright: reportMissingImports=false

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.function.functions import draw
from tests.function.models import compare, shaken


def test_haiku():
    hk: Any = pytest.importorskip("haiku")

    def forward(x: Any) -> Any:
        x = hk.Conv2D(3, 3)(x)
        x = hk.LayerNorm(-1, True, True)(jnp.tanh(x))
        return hk.Linear(2)(x.reshape(x.shape[0], -1))

    model = hk.without_apply_rng(hk.transform(forward))
    x = draw(0, 3, 5, 5, 2)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        params = model.init(jax.random.key(0), x)
    compare(model.apply, shaken(params), x)


def test_haiku_attention_and_recurrence():
    hk: Any = pytest.importorskip("haiku")

    def forward(x: Any) -> Any:
        x = x + hk.MultiHeadAttention(2, 2, w_init=hk.initializers.VarianceScaling(), model_size=4)(x, x, x)
        y, _ = hk.dynamic_unroll(hk.GRU(4), x, jnp.zeros((x.shape[0], 4)), time_major=False)
        return hk.Linear(2)(y[:, -1])

    model = hk.without_apply_rng(hk.transform(forward))
    x = draw(0, 3, 3, 4)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        params = model.init(jax.random.key(0), x)
    compare(model.apply, shaken(params), x)


def test_penzai():
    pytest.importorskip("penzai")
    from penzai import pz

    keys = iter(jax.random.split(jax.random.key(0), 4))

    def affine(name: str, inputs: dict[str, int], outputs: dict[str, int]) -> Any:
        return pz.nn.Affine.from_config(name, next(keys), inputs, outputs, dtype=jnp.float64)

    model = pz.nn.Sequential(
        [
            affine("up", {"embedding": 4}, {"heads": 2, "features": 3}),
            pz.nn.Elementwise(jnp.tanh),
            pz.nn.LayerNorm.from_config("norm", {"features": 3}, dtype=jnp.float64),
            affine("down", {"heads": 2, "features": 3}, {"embedding": 4}),
        ]
    )
    x = draw(0, 3, 2, 4)
    unbound, params = pz.unbind_params(model, freeze=True)

    def apply(params: Any, x: Any) -> Any:
        named = pz.nx.wrap(x).tag("batch", "tokens", "embedding")
        return pz.bind_variables(unbound, params)(named).unwrap("batch", "tokens", "embedding")

    compare(apply, shaken(params), x)
