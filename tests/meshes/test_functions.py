"""A user's functions on two devices with explicit axes: what is padded, jitted, looped, convolved inside."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn.function import Function, factors
from fnn.function.placed import among, shards_along
from fnn.readers import losses_and_readings, squared_norm
from tests.function.functions import draw

PARAMS = {
    "w": draw(1, 5, 4),
    "v": draw(2, 4, 3),
    "wide": draw(3, 7, 4),
    "window": draw(4, 3, 5, 4),
    "square": draw(5, 9, 1, 1),
}


def padded_features(p: Any, x: Any) -> Any:
    return jnp.tanh(jnp.pad(x, [(0, 0), (0, 0), (1, 1)]) @ p["wide"]).sum(1) @ p["v"]


def padded_tokens(p: Any, x: Any) -> Any:
    h = jnp.pad(x @ p["w"], [(0, 0), (1, 1), (0, 0)])
    return (jax.nn.gelu(h[:, 2:] - h[:, :-2]) @ p["v"]).sum(1)


def padded_with_params(p: Any, x: Any) -> Any:
    w = jnp.pad(p["w"], [(0, 2), (0, 0)], constant_values=1)
    x = jnp.pad(x, [(0, 0), (0, 0), (0, 2)], constant_values=0.5)
    return jax.nn.relu(x @ w).sum(1) @ p["v"]


def jitted(p: Any, x: Any) -> Any:
    def norm(h: Any) -> Any:
        return jax.nn.softmax(jnp.where(h > 0, h, jnp.expm1(h)), -1)

    return jax.jit(norm)(jax.nn.silu(x @ p["w"]).mean(1)) @ p["v"]


def looped(p: Any, x: Any) -> Any:
    total = lax.scan(lambda c, t: (c + jnp.sin(t), None), 0 * x[:, 0], jnp.moveaxis(x, 1, 0))[0]
    return jnp.tanh(total @ p["w"]) @ p["v"]


def convolved(p: Any, x: Any) -> Any:
    y = lax.conv_general_dilated(x, p["window"], (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))
    return jax.nn.relu(y).sum(1) @ p["v"]


def convolved_widely(p: Any, x: Any) -> Any:
    """A window of so many places that examples are convolved one by one."""
    y = lax.conv_general_dilated(
        jnp.tile(x, (1, 4, 1))[..., :1], jnp.tile(p["square"], (8, 1, 4)), (1,), "SAME",
        dimension_numbers=("NHC", "HIO", "NHC"),
    )  # fmt: skip
    return jnp.tanh(y).sum(1) @ p["v"]


FUNCTIONS = (
    padded_features,
    padded_tokens,
    padded_with_params,
    jitted,
    looped,
    convolved,
    convolved_widely,
)


def put(tree: Any, spec: P, devices: int = 2) -> Any:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("data",), axis_types=(AxisType.Explicit,))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(mesh, spec)), tree)


def close(got: Any, wanted: Any) -> None:
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*no derivative goes to")
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_function_is_that_of_one_device_and_its_rows_stay_where_they_are(f):
    x, label, loss = draw(7, 6, 3, 5), jnp.arange(6) % 3, fnn.softmax_cross_entropy(reduction="sum")
    net = Function(f)
    runs = fnn.value_and_grad(net, loss), losses_and_readings(net, loss, squared_norm)
    alone = PARAMS, x, label
    placed = put(PARAMS, P()), put(x, P("data")), put(label, P("data"))
    for run in runs:
        close(jax.jit(run)(*placed), jax.jit(run)(*alone))
    y = jax.jit(lambda params, x: fnn.apply(net, params, x))(*placed[:2])
    assert y.sharding.spec == P("data", None)
    norms = jax.jit(runs[1])(*placed)[1]
    assert all(leaf.sharding.spec == P("data") for leaf in jax.tree.leaves(norms["v"]))


def with_token(p: Any, x: Any) -> Any:
    """For one example the broadcast is none, so that its batch is padded."""
    own = jnp.broadcast_to(p["w"][None, :, 0], (x.shape[0], 5))
    return jnp.tanh((x.sum(1) + own) @ p["w"]).sum(1)


@pytest.mark.filterwarnings("ignore:.*no derivative goes to")
def test_a_batch_that_runs_among_more_examples_lies_as_it_did():
    x = draw(7, 1, 3, 5)
    run = jax.jit(lambda p, x: factors(with_token)(p, x, read=squared_norm))
    close(run(put(PARAMS, P(), 1), put(x, P("data"), 1)), run(PARAMS, x))


def test_a_batch_on_two_devices_is_padded_and_cut_on_both():
    x = np.arange(24.0).reshape(4, 6)
    there = put(x, P("data"))
    assert shards_along({"x": there, "n": 3}) == 2 and shards_along((x, 1.0)) == 1
    more = jax.jit(lambda x: among(x, 0, 2))(there)
    np.testing.assert_array_equal(more, np.concatenate([x, x[:1], x[:1]]))
    back = jax.jit(lambda x: among(x, 0, -2))(more)
    np.testing.assert_array_equal(back, x)
    assert more.sharding.spec == back.sharding.spec == P("data", None)
    odd = jax.jit(lambda x: among(x, 0, -1))(there)  # three rows are not divided by two
    np.testing.assert_array_equal(odd, x[:3])
