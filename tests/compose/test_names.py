"""Chains with names, and params that depend on no spelling: depth, dropout, scanned or not."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fnn
from fnn import Dense, Dropout, Embedding, LayerNorm, Repeat, Serial, Skip
from tests.cases import SINE
from tests.proof import assert_equal

KEY = jax.random.key(0)
X = jnp.ones((4, 8), jnp.float32)
NET = Serial(
    encoder=Serial(Dense(6), fnn.gelu), norm=LayerNorm(), head=Serial(drop=Dropout(0.1), out=Dense(3))
)


def paths(tree):
    return {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)}


def assert_same(ours, theirs):
    """Assert the same trees and the same draws; the compiler may round them otherwise in a scan."""
    assert_equal(ours, theirs, 1e-6)


@pytest.mark.parametrize(
    "net",
    [
        Serial(a=fnn.Parallel(fnn.relu, fnn.tanh), b=Dense(2)),
        Serial(a=fnn.Heads({"b": fnn.relu}), c=fnn.Select("b")),
        Serial(a=Serial(b=fnn.relu), c=Serial(fnn.tanh, fnn.relu), d=Skip(fnn.relu)),
        fnn.Heads({"a": fnn.Parallel(fnn.relu, fnn.tanh), "b": Dense(2)}),
    ],
    ids=repr,
)
def test_layers_of_layers_without_params_have_names_too(net):
    params = fnn.init(net, KEY, X)
    y, residuals = fnn.forward(net, params, X)
    gradient, _ = fnn.backward(net, params, residuals, y)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert_equal(gradient, jax.vjp(lambda p: fnn.output(net, p, X), params)[1](y)[0], 1e-6)


def test_names_lead_to_layers_and_params():
    params = fnn.init(NET, KEY, X)
    assert repr(NET) == (
        "Serial(encoder=Serial(Dense(6), gelu), norm=LayerNorm(), "
        "head=Serial(drop=Dropout(0.1), out=Dense(3)))"
    )
    assert params.keys() == {"encoder", "norm", "head"}
    assert isinstance(params["encoder"], tuple) and params["encoder"][1] == ()
    assert params["head"].keys() == {"out"}  # no entry for what has no params
    assert NET["head"]["out"] == NET[2][1] == NET[-1][-1] == Dense(3) == NET.layers[-1]
    assert NET["encoder"] == NET[0] == Serial(Dense(6), fnn.gelu)
    assert NET[:2] == Serial(encoder=Serial(Dense(6), fnn.gelu), norm=LayerNorm())
    assert NET[2:] == Serial(head=NET["head"]) and len(NET) == 3 and len(NET[1:1]) == 0
    plain = Serial(Dense(6), fnn.gelu, LayerNorm())
    assert (
        plain[1:] == Serial(fnn.gelu, LayerNorm()) and plain[0] == Dense(6) and list(plain) == [*plain.layers]
    )
    h = fnn.apply(NET[:2], {name: params[name] for name in ("encoder", "norm")}, X)
    np.testing.assert_array_equal(fnn.apply(NET["head"], params["head"], h), fnn.apply(NET, params, X))


def test_a_name_that_is_not_there():
    with pytest.raises(KeyError, match="'encoder', 'norm', 'head'"):
        NET["decoder"]
    with pytest.raises(IndexError):
        NET[3]
    with pytest.raises(fnn.InputError, match=r"try `net\[0:3\]`"):
        NET[::2]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: Serial(Dense(3), head=Dense(2)), "names for all layers or for none"),
        (lambda: Serial(plan=Dense(3)), r"try `fnn\.Serial\(body=Dense\(3\)\)`"),
        (lambda: Serial(head=jnp.tanh), r"try `fnn\.activation\(f\)`"),
        (lambda: fnn.forward(NET, {"encode": ()}, X), "a dict of params for encoder, norm, head"),
        (lambda: fnn.forward(NET, (), X), "a dict of params for encoder, norm, head"),
        (lambda: fnn.forward(NET, {"encoder": ({},)}, X), r'net\["encoder"\]: Serial: expected a tuple'),
        (lambda: fnn.forward(NET, {"norm": {}}, X), r'net\["encoder"\]\.layers\[0\]: Dense\(6\): '),
        (lambda: fnn.mlp([5, 8, 7, 3], scan=True), "hidden layers that are alike"),
        (lambda: fnn.mlp([5, 8, 8, 8, 3], [fnn.relu, SINE, fnn.relu], scan=True), "are alike"),
        (lambda: fnn.stack([{"a": X}, {"a": X[0]}]), "layers that are alike"),
        (lambda: fnn.stack([]), "layers that are alike"),
        (lambda: fnn.unstack({"a": X, "b": X[:2]}), "stacked n times"),
        (lambda: fnn.unstack({"a": jnp.float32(1)}), "stacked n times"),
    ],
)  # fmt: skip
def test_a_wrong_call(make, parts):
    with pytest.raises(fnn.InputError, match=parts):
        make()


def test_errors_read_like_the_way_to_the_layer():
    params = fnn.init(NET, KEY, X)
    with pytest.raises(fnn.InputError, match=r'net\["encoder"\]\.layers\[0\]: Dense\(6\)'):
        fnn.forward(NET, params, X[:, :3])
    planned = NET.with_plan(((0, 3),))
    with pytest.raises(fnn.InputError, match=r'net\["encoder"\]\.layers\[0\]: Dense\(6\)'):
        fnn.forward(planned, params, X[:, :3])
    mixed = Serial(Dense(4), Skip(Serial(inner=Serial(Dense(5)))))
    with pytest.raises(fnn.InputError, match=r"net\.layers\[1\]: Skip"):
        fnn.init(mixed, KEY, X)
    beside = Serial(Dense(4), Serial(inner=Dense(3, inputs=7)))
    with pytest.raises(fnn.InputError, match=r'net\[1\]\["inner"\]: Dense'):
        fnn.init(beside, KEY, X)


def test_a_layer_without_params_changes_nothing_for_the_others():
    plain = fnn.init(Serial(Dense(6), fnn.relu, Dense(3)), KEY, X)
    noisy = fnn.init(Serial(Dense(6), fnn.relu, Dropout(0.1), fnn.identity, Dense(3)), KEY, X)
    assert_equal((plain[0], plain[2]), (noisy[0], noisy[4]), 0)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("activation", [fnn.relu, fnn.gelu])
def test_the_params_of_an_mlp_depend_on_neither_depth_nor_dropout_nor_activation(dropout, activation):
    few, x = fnn.init(fnn.mlp([8] * 6), KEY, X), X  # four hidden layers
    more = fnn.init(fnn.mlp([8] * 8, activation, dropout=dropout), KEY, x)  # six
    assert paths(few) <= paths(more)
    assert_equal({"first": more["first"], "hidden": more["hidden"][:3], "output": more["output"]}, few, 0)
    assert repr(fnn.mlp([5, 3])) == "Serial(output=Dense(3, inputs=5))"
    assert fnn.init(fnn.mlp([8, 4, 3]), KEY, x).keys() == {"first", "output"}


def test_stacked_params_are_those_of_the_scan_and_so_are_gradients():
    sizes = [8, 6, 6, 6, 6, 3]
    unrolled, scanned = fnn.mlp(sizes, SINE), fnn.mlp(sizes, SINE, scan=True)
    x = jax.random.normal(jax.random.key(1), (4, 8), jnp.float64)
    params = fnn.init(unrolled, KEY, x)
    stacked = params | {"hidden": fnn.stack(params["hidden"])}
    assert_equal(stacked, fnn.init(scanned, KEY, x), 1e-14)
    assert_equal(stacked, fnn.init(fnn.mlp(sizes, SINE, dropout=0.3, scan=True), KEY, x), 1e-14)
    loss = fnn.half_squared_error()
    run = jax.jit(
        lambda p, q: (
            fnn.value_and_grad(unrolled, loss)(p, x, x[:, :3]),
            fnn.value_and_grad(scanned, loss)(q, x, x[:, :3]),
        )
    )
    (value, grads), (other, of_scan) = run(params, stacked)
    assert_equal((other, of_scan | {"hidden": fnn.unstack(of_scan["hidden"])}), (value, grads))
    assert_equal(of_scan, grads | {"hidden": fnn.stack(grads["hidden"])})


def test_a_repeat_draws_as_a_chain_does():
    block = Serial(SINE, Dense(8))
    several = fnn.init(Serial(hidden=Serial(*[Serial(act=SINE, dense=Dense(8))] * 3)), KEY, X)["hidden"]
    scanned = fnn.init(Serial(hidden=Repeat(Serial(act=SINE, dense=Dense(8)), 3)), KEY, X)["hidden"]
    assert_same(scanned, fnn.stack(several))
    three, five = (fnn.init(Repeat(block, n), KEY, X) for n in (3, 5))
    assert_same(jax.tree.map(lambda leaf: leaf[:3], five), three)


LAYERS = [Dense(8), fnn.relu, fnn.gelu, LayerNorm(), fnn.Bias(), Dropout(0.1), fnn.softmax, Skip(Dense(8))]


def residual_shapes(net):
    x = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    params = jax.eval_shape(lambda: fnn.init(net, KEY, x))
    _, residuals = jax.eval_shape(lambda p, x: fnn.forward(net, p, x), params, x)
    return sorted(leaf.shape for leaf in jax.tree.leaves(residuals))


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.lists(st.sampled_from(LAYERS), min_size=2, max_size=7), st.data())
def test_names_change_nothing_that_is_kept(layers, data):
    cut = data.draw(st.integers(1, len(layers) - 1))
    named = Serial(a=Serial(*layers[:cut]), b=Serial(*[Serial(c=layer) for layer in layers[cut:]]))
    assert named.layers == tuple(layers) and named.kept == Serial(*layers).kept
    assert residual_shapes(named) == residual_shapes(Serial(*layers))


@pytest.mark.parametrize(
    ("read", "shape"), [(fnn.readers.squared_norm, (4,)), (fnn.readers.example_gradient, (4, 3))]
)
def test_readings_stand_where_their_params_do(read, shape):
    params = fnn.init(NET, KEY, X)
    y, residuals = fnn.forward(NET, params, X)
    found, _ = fnn.backward(NET, params, residuals, y, read=read)
    assert found["head"]["out"]["bias"].shape == shape and paths(found) == paths(params)


def test_a_tied_head_finds_its_table_by_name():
    words = Serial(table=Embedding(9, 4), body=Serial(Dense(4), fnn.tanh))
    head = fnn.LinearCrossEntropy(9, tied=("table", "embedding"))
    index = jnp.arange(6) % 9
    own = fnn.init(words, KEY, index)
    both = own, head.init(KEY, jax.eval_shape(lambda: fnn.apply(words, own, index)))
    _, (of_net, _) = fnn.value_and_grad(words, head)(both, index, index)
    assert paths(of_net) == paths(own)
