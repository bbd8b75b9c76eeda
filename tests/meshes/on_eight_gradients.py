"""Gradients on meshes: right, and in the places of their params."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import fnn
from fnn import Dense, Embedding, LayerNorm, Repeat, RMSNorm, Serial, Skip
from tests.cases import CASES, Case
from tests.meshes.layouts import (
    LAYOUTS,
    assert_on_mesh,
    put,
    put_params,
    scaled_example,
    spread,
)

QUICK = {
    ("mlp", "data"),
    ("embedding-chain", "all"),
    ("parallel-concatenate", "all"),
    ("plan", "fsdp-out"),
    ("repeat-rebuilt", "all"),
    ("reversible", "column"),
    ("gated", "row"),
}
MESHES = [AxisType.Explicit, AxisType.Auto]


def pairs() -> list[Any]:
    """List every case in every layout on both kinds of mesh; all but a few are slow."""
    found = []
    for case in CASES:
        for layout in LAYOUTS:
            for kind in MESHES:
                quick = (case.name, layout.name) in QUICK and kind == AxisType.Explicit
                marks = () if quick else pytest.mark.slow
                found.append(pytest.param(case, layout, kind, marks=marks, id=f"{case}-{layout}-{kind.name}"))
    return found


def explicit(data: Any) -> Any:
    y, residuals = fnn.forward(data.net, data.params, data.x, data.key)
    grads, dx = fnn.backward(data.net, data.params, residuals, data.dy)
    return y, grads, None if dx.dtype == jax.dtypes.float0 else dx


def compiled(f: Any) -> Any:
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


def assert_placed_like(grads: Any, params: Any) -> None:
    assert jax.tree.map(lambda leaf: jax.typeof(leaf), grads) == jax.tree.map(
        lambda leaf: jax.typeof(leaf), params
    )


@pytest.mark.parametrize("case, layout, kind", pairs())
def test_gradients_are_those_of_one_device_and_lie_where_their_params_lie(case, layout, kind):
    data = scaled_example(case)
    placed = spread(case, data, layout, layout.on(kind))

    def through_apply(data: Any) -> Any:
        def f(params: Any) -> Any:
            return jnp.sum(fnn.apply(data.net, params, data.x, data.key) * data.dy)

        return jax.grad(f)(data.params)

    wanted = explicit(data)
    got, by_apply = compiled(lambda data: (explicit(data), through_apply(data)))(placed)
    assert_on_mesh(got, wanted)
    assert_on_mesh(by_apply, wanted[1])
    assert_placed_like(got[1], placed.params)
    assert_placed_like(by_apply, placed.params)
    if got[2] is not None and kind == AxisType.Explicit:
        assert jax.typeof(got[2]).sharding == jax.typeof(placed.x).sharding


CHAIN = Case(
    "chain", Serial(Dense(5), fnn.gelu, Repeat(Skip(Serial(RMSNorm(), Dense(5))), 2), Dense(4)), (7, 5)
)
TOKENS = Case("tokens", Serial(Embedding(6, 2), LayerNorm(), Dense(2)), (3, 4), integer=True)
SQUARES = fnn.readers.zip_readers(fnn.readers.squared_norm, fnn.readers.variance, fnn.readers.gradient)
HEAD = fnn.LinearCrossEntropy(64, chunk=3)


def step_of(net: Any, loss: Any, clip: float | None) -> Any:
    init, step = fnn.train.update_in_backward(net, loss, optax.adam(1e-2), clip=clip)
    return lambda params, x, t: step(params, init(params, x), x, t)


PROGRAMS = {
    "value_and_grad": fnn.value_and_grad,
    "readers": lambda net, loss: fnn.readers.losses_and_readings(net, loss, SQUARES),
    "clipped": lambda net, loss: fnn.privacy.clipped_gradient(net, loss, 1.0),
    "microbatches": lambda net, loss: fnn.privacy.clipped_gradient(net, loss, 1.0, microbatch=12),
    "update": lambda net, loss: step_of(net, loss, None),
    "clipped update": lambda net, loss: step_of(net, loss, 0.5),
    "gram": lambda net, loss: fnn.readers.losses_and_readings(net, loss, fnn.readers.gram),
    "stored": lambda net, loss: fnn.value_and_grad(fnn.memory.stored(net, fnn.memory.Rounded()), loss),
    "kronecker": lambda net, loss: fnn.curvature.kronecker_factors(net, loss, bias="joint"),
    "ggn": fnn.curvature.ggn_diagonal,
}
QUICK_PROGRAMS = {
    ("value_and_grad", "head", "data"),
    ("readers", "loss", "all"),
    ("microbatches", "loss", "data"),
    ("clipped update", "loss", "fsdp"),
}


def programs() -> list[Any]:
    found = []
    for name in PROGRAMS:
        for loss in ("loss", "head", "tied"):
            if loss != "loss" and name in ("kronecker", "ggn"):
                continue
            for layout in LAYOUTS:
                for kind in MESHES:
                    quick = (name, loss, layout.name) in QUICK_PROGRAMS and kind == AxisType.Explicit
                    marks = () if quick else pytest.mark.slow
                    found.append(pytest.param(name, loss, layout, kind, marks=marks))
    return found


@pytest.mark.parametrize("name, which, layout, kind", programs())
def test_everything_that_reads_factors_does_so_on_meshes(name, which, layout, kind):
    case = TOKENS if which == "tied" else CHAIN
    if name == "microbatches":
        case = TOKENS if which == "tied" else Case("chain", CHAIN.net, (6, 5))  # 24 and 48 examples
    data, random, mesh = scaled_example(case), np.random.default_rng(0), layout.on(kind)
    tied = fnn.LinearCrossEntropy(48, tied=(0, "embedding"), chunk=3)
    loss = {"loss": fnn.softmax_cross_entropy(), "head": HEAD, "tied": tied}[which]
    y = jax.eval_shape(lambda: fnn.forward(data.net, data.params, data.x)[0])
    target = jnp.asarray(random.integers(0, 32, y.shape[:-1]), jnp.int32)
    params = data.params
    if loss.has_params:
        own = jax.eval_shape(lambda: loss.init(jax.random.key(0), y))
        own = jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape) / 2), own)
        params = params, own
    run = PROGRAMS[name](data.net, loss)
    rows = P(layout.rows)
    placed = put_params(params, layout, mesh), put(data.x, mesh, rows), put(target, mesh, rows)
    assert_on_mesh(compiled(run)(*placed), compiled(run)(params, data.x, target), 1e-11)


def test_params_that_lie_on_no_mesh_take_gradients_of_rows_that_do():
    data, layout = scaled_example(CHAIN), LAYOUTS[0]
    mesh = layout.on(AxisType.Explicit)
    target = jnp.zeros(data.x.shape[0], jnp.int32)
    run = fnn.value_and_grad(data.net, fnn.softmax_cross_entropy())
    got = compiled(run)(data.params, put(data.x, mesh, P("data")), put(target, mesh, P("data")))
    assert_on_mesh(got, compiled(run)(data.params, data.x, target))
