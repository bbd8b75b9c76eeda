"""Chains come back from ONNX files: fnn's own, and graphs as other exporters write them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.export.graphs import apply, assert_read, assert_same, made

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import fnn.export as export
from tests.export.test_graph import CHAINS, problem

RANDOM = np.random.default_rng(0)
W, V, B, C = (RANDOM.normal(size=s).astype(np.float32) for s in ((5, 4), (4, 2), 4, 2))
X = RANDOM.normal(size=(3, 5)).astype(np.float32)
X3 = RANDOM.normal(size=(2, 3, 5)).astype(np.float32)
DENSE = "Dense(4, inputs=5)"


def constant(name, **value):
    return "Constant", [], [name], value


def array(name, value):
    from onnx import numpy_helper

    return constant(name, value=numpy_helper.from_array(value))


def leaves_of(net):
    """List the leaves of nested chains, whatever they are called."""
    return (
        [leaf for inner in net.layers for leaf in leaves_of(inner)] if isinstance(net, fnn.Serial) else [net]
    )


def of_file(leaf):
    """Return a layer with the initializer that a file, which names none, leaves it."""
    return replace(leaf, kernel_init=fnn.Dense(1).kernel_init) if isinstance(leaf, fnn.Dense) else leaf


@pytest.mark.parametrize("name", CHAINS)
def test_chains_come_back_with_their_params(name, tmp_path):
    net = CHAINS[name]
    params, x = problem(net)
    export.onnx(net, params, x, tmp_path / "net.onnx")
    again, back = export.from_onnx(tmp_path / "net.onnx")
    assert_same(apply(again, back, x), apply(net, params, x))
    if name != "scanned gelu":  # it comes back written out
        assert leaves_of(again) == [of_file(leaf) for leaf in leaves_of(net) if leaf != fnn.identity]


def test_norms_rows_and_exact_numbers_come_back_in_both_precisions(tmp_path):
    net = fnn.Serial(
        fnn.Scale(2.0), fnn.LayerNorm(1e-6), fnn.Dense(4), fnn.Bias(0.1), fnn.RMSNorm(),
        fnn.Dense(3, bias=False), fnn.LayerNorm(scale=False), fnn.RMSNorm(scale=False),
        fnn.LayerNorm(bias=False), fnn.softmax,
    )  # fmt: skip
    for dtype in (np.float32, np.float64):
        x = X.astype(dtype)
        params = fnn.init(net, jax.random.key(0), x)
        export.onnx(net, params, x, tmp_path / "net.onnx")
        again, back = export.from_onnx(tmp_path / "net.onnx")
        assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype, back, params))
        assert_same(apply(again, back, x), apply(net, params, x))
        first = "Scale(), LayerNorm(eps=1e-06), Dense(4, inputs=5), Bias(), RMSNorm()"
        assert repr(again).startswith(
            f"Serial({first}, Dense(3, bias=False, inputs=4), LayerNorm(scale=False)"
        )


TWO = [("Gemm", ["x", "w", "b"], ["h"]), ("Relu", ["h"], ["a"]), ("Gemm", ["a", "v", "c"], ["y"])]
TENSORS = {"w": W, "b": B, "v": V, "c": C}
# Graphs from x to y that are Dense(4), relu, Dense(2): how exporters write weights and biases.
WRITTEN = {
    "as it is": (TWO, TENSORS),
    "transposed": (
        [("Gemm", ["x", "w", "b"], ["h"], {"transB": 1}), *TWO[1:]],
        TENSORS | {"w": np.ascontiguousarray(W.T)},
    ),
    "factors": (
        [("Gemm", ["x", "w", "b"], ["h"], {"alpha": 0.5, "beta": 2.0}), *TWO[1:]],
        TENSORS | {"w": 2 * W, "b": B / 2},
    ),
    "products": (
        [
            ("MatMul", ["x", "w"], ["p"]),
            ("Add", ["b", "p"], ["h"]),
            TWO[1],
            ("MatMul", ["a", "v"], ["q"]),
            ("Add", ["q", "c"], ["y"]),
        ],
        TENSORS | {"c": C[None]},
    ),
    "a bias left out": ([*TWO[:2], ("Gemm", ["a", "v", ""], ["q"]), ("Add", ["q", "c"], ["y"])], TENSORS),
    "transposed constants": (
        [
            ("Transpose", ["w"], ["t"], {"perm": [1, 0]}),
            array("v", V),
            ("Identity", ["v"], ["u"]),
            ("Gemm", ["x", "t", "b"], ["h"]),
            TWO[1],
            ("Gemm", ["a", "u", "c"], ["y"]),
        ],
        {"w": np.ascontiguousarray(W.T), "b": B, "c": C},
    ),
    "lists of numbers": (
        [
            constant("b", value_floats=B.tolist()),
            constant("s", value_ints=[1, 2]),
            ("Reshape", ["flat", "s"], ["c"]),
            *TWO,
        ],
        {"w": W, "v": V, "flat": C},
    ),
    "what changes nothing": (
        [
            ("Cast", ["x"], ["k"], {"to": 1}),
            constant("s", value_ints=[-1, 5]),
            ("Reshape", ["k", "s"], ["r"]),
            ("Flatten", ["r"], ["f"]),
            ("Identity", ["f"], ["i"]),
            ("Gemm", ["i", "w", "b"], ["h"]),
            TWO[1],
            ("Transpose", ["a"], ["t"], {"perm": [0, 1]}),
            ("Dropout", ["t"], ["d"]),
            ("Gemm", ["d", "v", "c"], ["y"]),
        ],
        TENSORS,
    ),
    "a shape that is computed": (
        [
            ("Shape", ["x"], ["s"]),
            constant("zero", value_int=0),
            ("Gather", ["s", "zero"], ["n"]),
            constant("axis", value_ints=[0]),
            ("Unsqueeze", ["n", "axis"], ["u"]),
            constant("rest", value_ints=[-1]),
            ("Concat", ["u", "rest"], ["t"], {"axis": 0}),
            ("Reshape", ["x", "t"], ["r"]),
            ("Gemm", ["r", "w", "b"], ["h"]),
            *TWO[1:],
        ],
        TENSORS,
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_dense_layers_are_read_however_they_are_written(name, tmp_path):
    nodes, tensors = WRITTEN[name]
    path = made(nodes, tensors, tmp_path / "net.onnx", 13)
    _, params = assert_read(path, X, f"Serial({DENSE}, relu, Dense(2, inputs=4))")
    np.testing.assert_array_equal(params[0]["kernel"], W)
    np.testing.assert_array_equal(params[2]["bias"], C)


def test_dropout_of_older_versions_and_of_inference(tmp_path):
    for opset, node, more in [
        (7, ("Dropout", ["x"], ["y"], {"ratio": 0.5}), {}),
        (13, ("Dropout", ["x", "ratio"], ["y"]), {"ratio": np.float32(0.5)}),
        (13, ("Dropout", ["x", "ratio", "mode"], ["y"]), {"ratio": np.float32(0.5), "mode": np.array(False)}),
    ]:
        assert_read(made([node], more, tmp_path / "net.onnx", opset), X, "Serial()")


ROWS = {"row": B, "wide": B[None], "number": np.float32(2), "one": np.array([2], np.float32)}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_added_subtracted_and_multiplied(name, tmp_path):
    nodes = [
        ("MatMul", ["x", "w"], ["p"]), ("Add", ["p", "c"], ["a"]), ("Sub", ["a", "c"], ["b"]),
        ("Sub", ["c", "b"], ["d"]), ("Mul", ["c", "d"], ["e"]), ("Div", ["e", "c"], ["y"]),
    ]  # fmt: skip
    for x in (X, X3, X.astype(np.float64), X.astype(np.float16)):
        tensors = {"w": W.astype(x.dtype), "c": ROWS[name].astype(x.dtype)}
        shape = ("n", *x.shape[1:])
        path = made(nodes, tensors, tmp_path / "net.onnx", dtype=x.dtype, shape=shape)
        net, _ = assert_read(path, x)
        if ROWS[name].size > 1:  # numbers that cancel each other are no layers
            assert repr(net) == f"Serial({DENSE}, Bias(), Scale(), Bias(), Scale(), Scale())"


def test_a_weight_and_a_bias_with_more_axes(tmp_path):
    nodes = [("MatMul", ["x", "w"], ["p"]), ("Add", ["p", "b"], ["y"])]
    path = made(nodes, {"w": W[None], "b": B[None, None]}, tmp_path / "net.onnx", shape=("n", "t", 5))
    assert_read(path, X3, f"Serial({DENSE})")


def test_softmax_of_every_version(tmp_path):
    for opset, axis, shape, x, said in [
        (11, {}, ("n", 5), X, "softmax"),
        (12, {"axis": -1}, ("n", "t", 5), X3, "softmax"),
        (11, {"axis": 2}, ("n", "t", 5), X3, "softmax"),
        (13, {}, ("n", "t", 5), X3, "softmax"),
        (13, {"axis": 1}, ("n", 5), X, "softmax"),
        (13, {"axis": 1}, ("n", "t", 5), X3, "softmax(axis=1)"),
        (13, {"axis": -2}, ("n", "t", 5), X3, "softmax(axis=-2)"),
    ]:
        assert_read(
            made([("Softmax", ["x"], ["y"], axis)], {}, tmp_path / "net.onnx", opset, shape=shape),
            x,
            f"Serial({said})",
        )


def test_a_scaler_before_it_is_read(tmp_path):
    told = {"offset": [1.0, 2.0, 3.0, 4.0, 5.0], "scale": [0.5, 1.0, 2.0, 3.0, 4.0]}
    nodes = [
        ("Scaler", ["x"], ["s"], told, "ai.onnx.ml"),
        ("Cast", ["s"], ["k"], {"to": 1}),
        ("MatMul", ["k", "w"], ["y"]),
    ]
    path = made(nodes, {"w": W}, tmp_path / "net.onnx", 13)
    assert_read(path, X, "Serial(Bias(), Scale(), Dense(4, bias=False, inputs=5))")


def test_parts_of_a_graph_are_read_by_name(tmp_path):
    path = made(TWO, TENSORS, tmp_path / "net.onnx")
    net, params = export.from_onnx(path, output="h")
    assert repr(net) == f"Serial({DENSE})"
    net, params = export.from_onnx(path, input="a", output="y")
    a = jnp.ones((3, 4), jnp.float32)
    np.testing.assert_allclose(apply(net, params, a), np.ones((3, 4)) @ V + C, rtol=1e-6)


def test_functions_of_the_model_are_written_out(tmp_path):
    from onnx import helper, load, save

    model = load(
        made(
            [("Own", ["x"], ["y"], {}, "own"), ("Relu", ["y"], ["z"])],
            {},
            tmp_path / "net.onnx",
            output=("z",),
        )
    )
    nodes = [helper.make_node("Sigmoid", ["a"], ["b"]), helper.make_node("Mul", ["b", "a"], ["c"])]
    model.functions.append(
        helper.make_function("own", "Own", ["a"], ["c"], nodes, [helper.make_opsetid("", 20)])
    )
    save(model, tmp_path / "net.onnx")
    assert_read(tmp_path / "net.onnx", X, "Serial(silu, relu)")
