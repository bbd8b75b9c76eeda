"""Where params, states and activations lie on a mesh, and what is refused."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn.compose.constrained import Constrained, constrain
from fnn.train.axes import param_axes
from fnn.train.shardings import shardings, shardings_like
from fnn.train.state import State
from tests.cases import CASES, Case, example

BLOCK = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.gated(8), fnn.Dense(4, bias=False)))
MLP = fnn.mlp([4, 8, 6])
DATA, FSDP = AbstractMesh((2,), ("data",)), AbstractMesh((2, 4), ("data", "fsdp"))
MODEL, BOTH = AbstractMesh((2, 2), ("data", "model")), AbstractMesh((2, 2), ("fsdp", "tensor"))


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def shapes(net: Any, *shape: int, integer: bool = False) -> Any:
    x = jax.ShapeDtypeStruct(shape, jnp.int32 if integer else jnp.float32)
    return jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))


def specs(found: Any) -> Any:
    """Return the partitions of shardings, without the axes that lie on every device at the end."""

    def one(sharding: Any) -> Any:
        own = list(sharding.spec)
        while own and own[-1] is None:
            own.pop()
        return P(*own)

    return jax.tree.map(one, found)


# The names of axes.


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_axis_of_every_param_has_a_name(case):
    params = example(case).params
    found = param_axes(case.net, params, case.input(jnp.float64))
    wanted = {
        "kernel": ("in", "out"), "bias": ("out",), "scale": ("out",), "embedding": ("vocabulary", "out"),
    }  # fmt: skip

    def check(path: Any, param: Any, axes: Any) -> None:
        own = wanted[path[-1].key]
        assert axes == ("layers",) * (param.ndim - len(own)) + own

    jax.tree.map_with_path(check, params, found)


FOLLOWS = ["mlp-scanned", "embedding-chain", "shared-of-repeat", "deep-nesting", "plan", "reversible-tokens"]


@pytest.mark.parametrize("name", FOLLOWS)
def test_the_input_follows_from_the_params(name):
    case = case_of(name)
    params = example(case).params
    assert param_axes(case.net, params) == param_axes(case.net, params, case.input(jnp.float64))


def test_an_input_that_does_not_follow_is_asked_for():
    case = case_of("each-sum")
    with pytest.raises(fnn.InputError, match="expected x, an input or its shape.*try .*x=x"):
        param_axes(case.net, example(case).params)


def test_axes_that_nobody_names():
    def apply(params: Any, x: Any) -> Any:
        return jnp.tanh(x @ params["w"])

    net = fnn.Serial(
        fnn.function.Function(apply, init=lambda key, x: {"w": jnp.ones((4, 4), jnp.float32)}), fnn.Dense(2)
    )
    net = fnn.Repeat(fnn.Serial(net, fnn.Dense(4)), 3)
    found = param_axes(net, shapes(net, 2, 4), jnp.ones((2, 4), jnp.float32))
    assert found[0] == {"w": ("layers", None, None)} and found[1]["kernel"] == ("layers", "in", "out")


@pytest.mark.parametrize("net", [fnn.Serial(), fnn.relu, fnn.Skip(fnn.relu)], ids=repr)
def test_no_params_have_no_axes_and_no_shardings(net):
    params = shapes(net, 2, 4)
    assert jax.tree.leaves(param_axes(net, params)) == []
    assert jax.tree.leaves(shardings(net, params, DATA)) == []


def test_heads_and_tied_heads_are_named():
    net, head = fnn.Dense(4), fnn.LinearCrossEntropy(16)
    of_head = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.ones((2, 4))))
    found = param_axes(net, (shapes(net, 2, 4), of_head), loss=head)
    assert found[1] == {"kernel": ("in", "vocabulary"), "bias": ("vocabulary",)}
    found = shardings(net, (shapes(net, 2, 4), of_head), MODEL, "tensor", loss=head)
    assert specs(found)[1] == {"kernel": P(None, "model"), "bias": P("model")}
    tied, net = fnn.LinearCrossEntropy(16, tied=("embedding",)), fnn.Embedding(16, 4)
    pair = shapes(net, 2, integer=True), {"bias": jax.ShapeDtypeStruct((16,), "float32")}
    found = param_axes(net, pair, loss=tied)
    assert found == ({"embedding": ("vocabulary", "out")}, {"bias": ("vocabulary",)})


def test_params_of_a_head_ask_for_the_head():
    net, head = fnn.Serial(first=fnn.Dense(4), last=fnn.Dense(4)), fnn.LinearCrossEntropy(16)
    pair = shapes(net, 2, 4), jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.ones((2, 4))))
    x = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    with pytest.raises(fnn.InputError, match="or of it and the loss, with the loss.*try .*loss=loss"):
        shardings(net, pair, MODEL, "tensor", x)
    with pytest.raises(fnn.InputError, match="and a loss of which some are"):
        shardings(net, pair, MODEL, "tensor")
    two = head + 0.5 * fnn.LinearCrossEntropy(8, bias=False)
    pair = pair[0], jax.eval_shape(lambda: two.init(jax.random.key(0), jnp.ones((2, 4))))
    found = specs(shardings(net, pair, BOTH, "fsdp+tensor", x, loss=two))[1]
    assert found == ({"kernel": P("fsdp", "tensor"), "bias": P("tensor")}, {"kernel": P("fsdp", "tensor")})


def test_a_layer_that_names_too_few_axes_is_refused():
    @dataclass(frozen=True)
    class Named(type(fnn.Dense(2))):
        axes = {"kernel": ("in",)}

    net = fnn.Serial(Named(2), fnn.relu)
    with pytest.raises(fnn.InputError, match=r"axes with a name for each of the 2 axes of kernel"):
        param_axes(net, shapes(net, 2, 4))


# Rules.


def test_rules_by_name():
    found = shardings(MLP, shapes(MLP, 2, 4), MODEL, {"out": "model", "in": ("data", "model")})
    assert specs(found) == {
        "first": {"kernel": P(("data", "model")), "bias": P("model")},  # of two uses the first
        "output": {"kernel": P(("data", "model")), "bias": P("model")},
    }
    found = shardings(MLP, shapes(MLP, 2, 4), FSDP, {"out": "fsdp", "in": None})
    assert specs(found)["first"] == {"kernel": P(None, "fsdp"), "bias": P("fsdp")}
    assert specs(found)["output"] == {"kernel": P(), "bias": P()}  # 4 does not divide 6


def test_an_axis_takes_those_of_several_that_divide_it():
    net = fnn.Dense(6, bias=False)
    found = shardings(net, shapes(net, 2, 4), FSDP, {"out": ("fsdp", "data")})
    assert specs(found) == {"kernel": P(None, "data")}


@pytest.mark.parametrize("pattern", ["['first']*", '["first"]*', "*first*kernel*", "['first']['?ernel']"])
def test_rules_over_places(pattern):
    rules = [(pattern, {"out": "model"}), ("*", {"in": "data"})]
    found = specs(shardings(MLP, shapes(MLP, 2, 4), MODEL, rules))
    assert found["first"]["kernel"] == P(None, "model") and found["output"]["kernel"] == P("data")


REFUSED = {
    "a mesh axis": ({"out": "mdl"}, "axes of the mesh: data, model, got 'mdl'"),
    "one of two": ({"out": ("model", "pipe")}, "axes of the mesh: data, model, got 'pipe'"),
    "a name": ({"features": "model"}, "names of axes that params have: out, in, got 'features'"),
    "a pattern": ([("*attention*", {"out": "model"})], r"patterns that fit a param: \['first'\]\['bias'\]"),
    "no pair": ([{"out": "model"}], "rules: a mapping by names of axes"),
    "a preset": ("zero", "data, fsdp, tensor, fsdp.tensor, got 'zero'"),
    "no axis for it": ("fsdp+tensor", "a mesh with an axis 'fsdp' or 'data'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rules_that_are_refused(name):
    rules, text = REFUSED[name]
    mesh = AbstractMesh((2,), ("model",)) if name == "no axis for it" else MODEL
    with pytest.raises(fnn.InputError, match=text):
        shardings(MLP, shapes(MLP, 2, 4), mesh, rules)


# Presets.


def test_data_leaves_all_params_on_every_device_without_a_warning():
    found = shardings(MLP, shapes(MLP, 2, 4), DATA, "data", large=1)
    assert set(jax.tree.leaves(specs(found))) == {P()}


def test_fsdp_takes_the_largest_axis_that_is_divided_and_is_none_of_a_stack():
    net = fnn.Serial(fnn.Repeat(BLOCK, 8), fnn.Dense(6))
    found = specs(shardings(net, shapes(net, 2, 4), FSDP))
    block, last = found
    assert block[0] == {"scale": P(None, "fsdp")}
    assert block[1] == {"kernel": P(None, None, "fsdp")} and block[3] == {"kernel": P(None, "fsdp")}
    assert last == {"kernel": P("fsdp"), "bias": P()}
    assert specs(shardings(net, shapes(net, 2, 4), DATA))[1]["bias"] == P("data")


def axis_of(spec: P) -> str:
    return {P(): "-", P("model"): "in", P(None, "model"): "out"}[spec]


def kernels(net: Any, *shape: int) -> list[str]:
    found = specs(shardings(net, shapes(net, *shape), MODEL, "tensor"))
    leaves = jax.tree.leaves_with_path(found)
    stacks = [P(*spec[1:]) if spec and spec[0] is None and len(spec) > 2 else spec for _, spec in leaves]
    return [axis_of(spec) for (path, _), spec in zip(leaves, stacks, strict=True) if path[-1].key == "kernel"]


def test_tensor_alternates_along_a_chain():
    assert kernels(fnn.mlp([4, 8, 8, 4]), 2, 4) == ["out", "in", "out"]
    found = specs(shardings(MLP, shapes(MLP, 2, 4), MODEL, "tensor"))
    assert found["first"]["bias"] == P("model") and found["output"]["bias"] == P()


def test_tensor_begins_anew_behind_a_skip_and_alike_in_branches():
    dense = fnn.Dense
    assert kernels(fnn.Serial(BLOCK, BLOCK), 2, 4) == ["out", "in"] * 2
    assert kernels(fnn.Serial(fnn.Skip(dense(4)), dense(4)), 2, 4) == ["out", "out"]
    assert kernels(fnn.Serial(dense(4), BLOCK, dense(4)), 2, 4) == ["in", "out", "in", "out"]
    stream = fnn.Serial(dense(8), fnn.gelu, dense(4), fnn.RMSNorm(), fnn.Repeat(fnn.Serial(BLOCK, BLOCK), 2))
    assert kernels(stream, 2, 4)[:2] == ["out", "in"]
    assert kernels(fnn.Serial(dense(4), fnn.RMSNorm(), stream.layers[-1]), 2, 4)[0] == "in"
    branches = fnn.Parallel(fnn.Serial(dense(8), fnn.silu), dense(8))
    assert kernels(fnn.Serial(branches, dense(4)), 2, 4) == ["out", "out", "in"]
    heads = fnn.Heads({"a": dense(4), "b": fnn.Serial(dense(4), dense(2))})
    assert kernels(fnn.Serial(dense(8), heads), 2, 4) == ["out", "in", "in", "out"]


def test_tensor_in_loops():
    assert specs(shardings(fnn.Repeat(BLOCK, 3), shapes(fnn.Repeat(BLOCK, 3), 2, 4), MODEL, "tensor")) == (
        {"scale": P()},
        {"kernel": P(None, None, "model")},
        (),
        {"kernel": P(None, "model")},
    )
    net = fnn.Serial(fnn.Repeat(fnn.Dense(4), 3), fnn.Dense(4))  # what the loop carries stays whole
    assert kernels(net, 2, 4)[1] == "out"


def test_tensor_shards_what_a_norm_or_bias_reads_where_its_input_is():
    net = fnn.Serial(fnn.Dense(8, bias=False), fnn.Bias(), fnn.LayerNorm(bias=False), fnn.Dense(4))
    found = specs(shardings(net, shapes(net, 2, 4), MODEL, "tensor"))
    assert found[1] == {"bias": P("model")} and found[2] == {"scale": P("model")}


def test_tensor_takes_embeddings_by_vocabulary_and_leaves_out_what_is_not_divided():
    net = fnn.Serial(fnn.Embedding(6, 4), fnn.Dense(3), fnn.Dense(4))
    found = specs(shardings(net, shapes(net, 2, integer=True), MODEL, "tensor"))
    assert found[0] == {"embedding": P("model")}
    assert found[1] == {"kernel": P(), "bias": P()} and found[2]["kernel"] == P(None, "model")


def test_reversible_halves_lie_like_the_whole():
    half = fnn.Serial(fnn.Dense(8), fnn.relu, fnn.Dense(4))
    net = fnn.Repeat(fnn.Reversible(half, half), 3)
    found = shardings(net, shapes(net, 2, 8), MODEL, "tensor", jnp.ones((2, 8)))
    assert specs(found)[0][0]["kernel"] == P(None, None, "model")


def test_fsdp_and_tensor():
    net = fnn.Serial(fnn.Embedding(8, 4), fnn.Repeat(BLOCK, 3))
    found = specs(shardings(net, shapes(net, 2, integer=True), BOTH, "fsdp+tensor"))
    assert found[0] == {"embedding": P("tensor", "fsdp")}
    assert found[1][1] == {"kernel": P(None, "fsdp", "tensor")} and found[1][0] == {"scale": P(None, "fsdp")}
    assert found[1][3] == {"kernel": P(None, "tensor", "fsdp")}


def test_a_large_param_on_every_device_is_named_with_the_reason():
    net = fnn.Serial(fnn.Dense(7), fnn.RMSNorm())
    params = shapes(net, 2, 5)
    with pytest.warns(
        UserWarning, match=r"params\[0\]\['kernel'\] \(5, 7\).*none of its axes is divided by 2"
    ):
        shardings(net, params, DATA, "fsdp", large=35)
    net = fnn.Serial(fnn.RMSNorm(), fnn.Dense(4))
    with pytest.warns(UserWarning, match=r"params\[0\]\['scale'\] \(64,\).*there is none"):
        shardings(net, shapes(net, 2, 64), MODEL, "tensor", large=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shardings(net, shapes(net, 2, 64), BOTH, "fsdp+tensor", large=64)


# Trees that hold copies of the params.


STATES = {
    "adam": optax.adam(1e-3),
    "chain": optax.chain(optax.clip(1.0), optax.trace(0.9), optax.scale_by_schedule(lambda i: 1e-3)),
    "masked": optax.masked(optax.adam(1e-3), {"first": True, "output": False}),
    "several": optax.multi_transform(
        {"a": optax.adam(1e-3), "b": optax.sgd(0.1, 0.9)}, {"first": "a", "output": "b"}
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_lies_like_the_params(name):
    params = shapes(MLP, 2, 4)
    placed = shardings(MLP, params, DATA)
    state = jax.eval_shape(STATES[name].init, params)
    found = shardings_like(state, params, placed)
    by_shape = {leaf.shape: sharding for leaf, sharding in zip(*map(jax.tree.leaves, (params, placed)))}  # noqa: B905
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert sharding == by_shape.get(leaf.shape, NamedSharding(DATA, P()))
    assert any(sharding.spec != P() for sharding in jax.tree.leaves(found))


def test_a_whole_training_state_and_a_state_for_each_param():
    params = shapes(MLP, 2, 4)
    placed, adam = shardings(MLP, params, DATA), optax.adam(1e-3)
    step, key = jnp.int32(0), jax.random.key(0)
    state = State(params, jax.eval_shape(adam.init, params), key, step, params)
    found = shardings_like(state, params, placed)
    assert found.params == found.average == placed and found.optimizer[0].nu == placed
    assert found.key.spec == P()
    each = jax.tree.map(lambda leaf: jax.eval_shape(adam.init, leaf), params)
    found = shardings_like(each, params, placed)
    assert found["first"]["kernel"][0].mu == placed["first"]["kernel"]


def test_factored_statistics_lie_like_the_axes_that_they_have():
    net = fnn.Dense(256, bias=False)
    params = shapes(net, 2, 128)
    placed = shardings(net, params, BOTH, {"in": "fsdp", "out": "tensor"})
    state = jax.eval_shape(optax.adafactor(1e-3).init, params)
    found = shardings_like(state, params, placed)
    of_factors = next(
        own for own in jax.tree.leaves(state, is_leaf=lambda v: hasattr(v, "v_row")) if hasattr(own, "v_row")
    )
    assert {of_factors.v_row["kernel"].shape, of_factors.v_col["kernel"].shape} == {(128,), (256,)}
    both = zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True)
    lie = {leaf.shape: sharding.spec for leaf, sharding in both}
    assert lie[128,] == P("fsdp") and lie[256,] == P("tensor") and lie[1,] == lie[()] == P()
    square = {"kernel": jax.ShapeDtypeStruct((128, 128), jnp.float32)}
    state = jax.eval_shape(optax.adafactor(1e-3).init, square)
    found = shardings_like(state, square, placed)
    both = zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True)
    assert {sharding.spec for leaf, sharding in both if leaf.shape == (128,)} == {P()}  # either axis fits


def test_shardings_that_are_not_like_the_params_are_refused():
    params = shapes(MLP, 2, 4)
    with pytest.raises(fnn.InputError, match="a tree of shardings like the params"):
        shardings_like(params, params, shardings(MLP, params, DATA)["first"])


# Activations.


RULES = {"batch": "data", "features": None}
CONSTRAINED = ["named-in-chain", "skip-dropout", "parallel-concatenate", "shared-of-repeat"]
CONSTRAINED += [
    "repeat-rebuilt",
    "plan-in-plan",
    "repeat-every-2",
    "repeat-reversible",
    "repeat-of-each",
    "cheap-chain",
]


def run(net: Any, data: Any) -> Any:
    y, residuals = fnn.forward(net, data.params, data.x, data.key)
    grads, dx = fnn.backward(net, data.params, residuals, data.dy)
    return y, grads, [leaf for leaf in jax.tree.leaves(dx) if leaf.dtype != jax.dtypes.float0]


def compiled(net: Any, data: Any) -> Any:
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(run, static_argnums=0, compiler_options=options)(net, data)


@pytest.mark.parametrize(
    "name", [*CONSTRAINED[:4], *(pytest.param(name, marks=pytest.mark.thorough) for name in CONSTRAINED[4:])]
)
def test_without_a_mesh_a_constrained_network_is_the_network(name):
    case = case_of(name)
    data, net = example(case), constrain(case.net, RULES)
    assert net != case.net
    for a, b in zip(*(jax.tree.leaves(compiled(n, data)) for n in (net, case.net)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
    kept = [fnn.summary(n, case.input(), data.key) for n in (net, case.net)]
    assert kept[0].kept_bytes == kept[1].kept_bytes and kept[0].params == kept[1].params
    found = [jax.tree.map(jnp.shape, fnn.forward(n, data.params, data.x)[1]) for n in (net, case.net)]
    assert jax.tree.leaves(found[0]) == jax.tree.leaves(found[1])


MESHES = [AxisType.Explicit, AxisType.Auto]


@pytest.mark.parametrize("kind", MESHES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["mlp", "embedding-chain", "plan", "repeat-reversible"])
def test_on_a_mesh_activations_lie_so_and_gradients_stay(name, kind):
    case = replace(case_of(name), shape=(8, *case_of(name).shape[1:]))
    data, net = example(case), constrain(case.net, RULES)
    wanted, mesh = compiled(case.net, data), jax.make_mesh((2,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x, dy = jax.device_put((data.x, data.dy), NamedSharding(mesh, P("data")))
        placed = replace(data, params=jax.device_put(data.params, NamedSharding(mesh, P())), x=x, dy=dy)
        got = compiled(net, placed)
        if kind == AxisType.Explicit and name == "mlp":
            eager = run(net, placed)
            assert jax.typeof(eager[0]).sharding.spec[0] == "data"
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert got[0].sharding.spec[0] == "data"
    if kind == AxisType.Explicit:
        grads = zip(*map(jax.tree.leaves, (got[1], placed.params)), strict=True)
        assert all(jax.typeof(a).sharding == jax.typeof(b).sharding for a, b in grads)


@pytest.mark.parametrize("kind", MESHES, ids=lambda kind: kind.name)
def test_what_is_moved_by_a_rule_is_moved_back_in_the_backward(kind):
    """The layers find their inputs and cotangents where they would be without the rule."""
    data = example(Case("mlp", fnn.Serial(fnn.Dense(4), fnn.relu, fnn.LayerNorm(), fnn.Dense(2)), (8, 6)))
    net = constrain(data.net, {"batch": None, "features": "data"})
    mesh, wanted = jax.make_mesh((2,), ("data",), axis_types=(kind,)), compiled(data.net, data)
    with jax.set_mesh(mesh):
        x, dy = jax.device_put((data.x, data.dy), NamedSharding(mesh, P("data")))
        dy = jax.device_put(dy, NamedSharding(mesh, P(None, "data")))
        placed = replace(data, params=jax.device_put(data.params, NamedSharding(mesh, P())), x=x, dy=dy)
        got = compiled(net, placed)
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert got[0].sharding.spec == P(None, "data")
    if kind == AxisType.Explicit:
        assert jax.typeof(got[2][0]).sharding == jax.typeof(x).sharding


def test_a_mesh_may_be_given_and_what_it_does_not_divide_stays_free():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    net = constrain(fnn.Dense(4), RULES, mesh)
    params = fnn.init(net, jax.random.key(0), jnp.ones((8, 6)))
    assert jax.jit(lambda x: fnn.output(net, params, x))(jnp.ones((8, 6))).sharding.spec == P("data")
    assert fnn.output(net, params, jnp.ones((3, 6))).shape == (3, 4)
    norms = fnn.readers.losses_and_readings(net, fnn.half_squared_error(), fnn.readers.squared_norm)
    assert norms(params, jnp.ones((8, 6)), jnp.ones((8, 4)))[1]["kernel"].shape == (8,)
    each = jax.vmap(lambda x: jax.grad(lambda p: fnn.apply(net, p, x).sum())(params))(jnp.ones((8, 6)))
    assert each["kernel"].shape == (8, 6, 4)


def test_branches_are_constrained_as_a_whole():
    net = constrain(fnn.Serial(fnn.Repeat(BLOCK, 2), fnn.Dense(2)), RULES)
    assert isinstance(net, fnn.Serial) and isinstance(net[1], Constrained)
    loop = net[0]
    assert isinstance(loop, fnn.Repeat) and isinstance(loop.layer, Constrained) and loop.layer.layer == BLOCK


@pytest.mark.parametrize("rules", [{"feature": "data"}, {"batch": "data", "features": "data"}])
def test_rules_of_activations_that_are_refused(rules):
    with pytest.raises(
        fnn.InputError, match="rules for batch, tokens, features, each with mesh axes of its own"
    ):
        constrain(MLP, rules)


def test_a_rule_that_the_mesh_has_no_axis_for_is_refused_at_its_place():
    net = constrain(MLP, {"batch": "dp"}, jax.make_mesh((2,), ("data",)))
    params = fnn.init(MLP, jax.random.key(0), jnp.ones((2, 4)))
    with pytest.raises(fnn.InputError, match=r'net\["first"\].*axes of the mesh: \'data\', got \'dp\''):
        fnn.forward(net, params, jnp.ones((2, 4)))
