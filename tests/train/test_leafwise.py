"""Optimizers that look across params are refused, by shapes alone."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn
from fnn import Dense, Serial

LOSS = fnn.half_squared_error()


def masked(names: Any) -> Any:
    """Give a mask that goes by the names of the params."""

    def mask(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: jax.tree_util.keystr(path[-1:]) in names, params
        )

    return mask


@pytest.mark.parametrize(
    ("optimizer", "got"),
    [
        (optax.chain(optax.clip_by_global_norm(1e9), optax.adam(0.1)), r"another update of params"),
        (optax.apply_if_finite(optax.sgd(0.1), 3), r"another update of params"),
        (
            optax.adamw(0.1, weight_decay=0.5, mask=masked(["['kernel']"])),
            r"another update of params\[0\]\['kernel'\]",
        ),
        (optax.noisy_sgd(0.1, key=0), "another update of params"),
        (optax.partition({"a": optax.sgd(0.1)}, ({"kernel": "a", "bias": "a"},)), None),
    ],
    ids=["global norm", "finite", "mask by names", "noise", "labels"],
)
def test_an_optimizer_that_looks_across_params_is_refused(optimizer, got):
    net, x = Serial(Dense(3)), jax.ShapeDtypeStruct((7, 5), jnp.float64)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    init, _ = fnn.train.update_in_backward(net, LOSS, optimizer)
    match = f"updates each param beside the others as it does alone, got.*{got}"
    with pytest.raises(fnn.InputError, match=match if got else "can update a param alone.*got ValueError"):
        jax.eval_shape(lambda params: init(params, x), params)
