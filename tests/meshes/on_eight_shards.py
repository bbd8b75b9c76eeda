"""Gradients within `shard_map`: those of params that every device has are the sums over the devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import fnn
from fnn import Dense, Remat, Repeat, RMSNorm, Serial, Skip
from tests.meshes.layouts import assert_on_mesh

BLOCK = Skip(Serial(RMSNorm(), Dense(5), fnn.relu))
NET = Serial(Dense(5), fnn.gelu, Repeat(BLOCK, 2, every=2), Remat(Dense(4)))
LOSS = fnn.softmax_cross_entropy(reduction="sum")
HEAD = fnn.LinearCrossEntropy(7, chunk=1, reduction="sum")
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((16, 6))
TARGET = RANDOM.integers(0, 4, 16).astype(np.int32)


def params_of(loss: Any) -> Any:
    params = fnn.init(NET, jax.random.key(0), X)
    return (params, loss.init(jax.random.key(1), jnp.zeros((1, 4)))) if loss.has_params else params


def sharded(run: Any, check: bool = True) -> Any:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    specs = P(), P("data"), P("data")
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check))


def updated(loss: Any, **options: Any) -> Any:
    init, step = fnn.train.update_in_backward(NET, loss, optax.sgd(0.1), **options)
    return lambda params, x, t: step(params, init(params, x), x, t)[0]


GRADIENTS = {
    "value_and_grad": (LOSS, lambda p, x, t: fnn.value_and_grad(NET, LOSS)(p, x, t)[1]),
    "apply": (LOSS, lambda p, x, t: jax.grad(lambda p: LOSS(fnn.apply(NET, p, x), t))(p)),
    "head": (HEAD, lambda p, x, t: fnn.value_and_grad(NET, HEAD)(p, x, t)[1]),
    "called head": (HEAD, lambda p, x, t: jax.grad(lambda p: HEAD(p[1], fnn.apply(NET, p[0], x), t))(p)),
    "clipped": (LOSS, lambda p, x, t: fnn.privacy.clipped_gradient(NET, LOSS, 1.0)(p, x, t).gradient),
    "microbatches": (
        LOSS,
        lambda p, x, t: fnn.privacy.clipped_gradient(NET, LOSS, 1.0, microbatch=2)(p, x, t).gradient,
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_added_up_over_the_devices(name):
    loss, run = GRADIENTS[name]
    params = params_of(loss)
    assert_on_mesh(sharded(run)(params, X, TARGET), jax.jit(run)(params, X, TARGET))


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("loss, clip", [(LOSS, None), (LOSS, 0.5), (HEAD, None)])
def test_updates_are_by_the_sum_over_the_devices(loss, clip, check):
    params, run = params_of(loss), updated(loss, clip=clip, reduce="data")
    assert_on_mesh(sharded(run, check)(params, X, TARGET), jax.jit(run)(params, X, TARGET))


def test_updates_ask_for_the_axes_where_nobody_checks_what_varies():
    params = params_of(LOSS)
    with pytest.raises(fnn.InputError, match=r"reduce=\('data',\)"):
        sharded(updated(LOSS), check=False)(params, X, TARGET)
    with pytest.raises(fnn.InputError, match="got reduce='rows'"):
        sharded(updated(LOSS, reduce="rows"), check=False)(params, X, TARGET)
