"""Activations and norms as exporters write them: each is read as fnn's own, or as its expression."""

from typing import Any

import jax
import numpy as np
import pytest

import fnn
import fnn.export as export
from fnn.activations import table as rows
from tests.export.graphs import apply, assert_read, assert_same, made, run

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIXTH = 0.1666666716337204  # as float32 has it
# What is read, the opset, the nodes from x to y, and the numbers that they take by name.
ONE = [
    ("relu", 9, [("Relu", ["x"], ["y"])]),
    ("relu", 11, [("Clip", ["x", "0"], ["y"])]),
    ("relu", 13, [("Max", ["x", "0"], ["y"])]),
    ("relu", 20, [("LessOrEqual", ["x", "0"], ["a"]), ("Where", ["a", "0", "x"], ["y"])]),
    ("relu6", 9, [("Clip", ["x"], ["y"], {"min": 0.0, "max": 6.0})]),
    ("relu6", 11, [("Clip", ["x", "0", "6"], ["y"])]),
    ("relu6", 13, [("Relu", ["x"], ["a"]), ("Clip", ["a", "", "6"], ["y"])]),
    ("relu6", 13, [("Max", ["x", "0"], ["a"]), ("Min", ["6", "a"], ["y"])]),
    ("hard_tanh", 11, [("Clip", ["x", "-1", "1"], ["y"])]),
    ("hard_sigmoid", 9, [("HardSigmoid", ["x"], ["y"], {"alpha": SIXTH})]),
    (
        "hard_sigmoid",
        11,
        [("Add", ["x", "3"], ["a"]), ("Clip", ["a", "0", "6"], ["b"]), ("Div", ["b", "6"], ["y"])],
    ),
    ("hard_silu", 14, [("HardSwish", ["x"], ["y"])]),
    ("hard_silu", 9, [("HardSigmoid", ["x"], ["a"], {"alpha": SIXTH}), ("Mul", ["x", "a"], ["y"])]),
    ("selu", 9, [("Selu", ["x"], ["y"])]),
    ("elu(alpha=0.3)", 9, [("Elu", ["x"], ["y"], {"alpha": 0.3})]),
    ("elu", 9, [("Elu", ["x"], ["y"])]),
    ("celu(alpha=0.7)", 13, [("Celu", ["x"], ["y"], {"alpha": 0.7})]),
    ("leaky_relu", 9, [("LeakyRelu", ["x"], ["y"])]),
    ("leaky_relu(slope=0.25)", 16, [("PRelu", ["x", "0.25"], ["y"])]),
    ("relu_squared", 13, [("Relu", ["x"], ["a"]), ("Pow", ["a", "2"], ["y"])]),
    ("relu_squared", 13, [("Relu", ["x"], ["a"]), ("Mul", ["a", "a"], ["y"])]),
    ("sigmoid", 13, [("Sigmoid", ["x"], ["y"])]),
    (
        "sigmoid",
        13,
        [
            ("Neg", ["x"], ["a"]), ("Exp", ["a"], ["b"]), ("Add", ["1", "b"], ["c"]),
            ("Reciprocal", ["c"], ["y"]),
        ],
    ),
    ("tanh", 13, [("Tanh", ["x"], ["y"])]),
    ("softsign", 9, [("Softsign", ["x"], ["y"])]),
    ("softsign", 17, [("Abs", ["x"], ["a"]), ("Add", ["a", "1"], ["b"]), ("Div", ["x", "b"], ["y"])]),
    ("softplus", 9, [("Softplus", ["x"], ["y"])]),
    ("softplus", 13, [("Exp", ["x"], ["a"]), ("Add", ["a", "1"], ["b"]), ("Log", ["b"], ["y"])]),
    ("log_sigmoid", 17, [("Sigmoid", ["x"], ["a"]), ("Log", ["a"], ["y"])]),
    ("log_sigmoid", 17, [("Neg", ["x"], ["a"]), ("Softplus", ["a"], ["b"]), ("Neg", ["b"], ["y"])]),
    ("silu", 17, [("Sigmoid", ["x"], ["a"]), ("Mul", ["x", "a"], ["y"])]),
    ("silu", 17, [("Sigmoid", ["x"], ["a"]), ("Mul", ["a", "x"], ["y"])]),
    ("mish", 18, [("Mish", ["x"], ["y"])]),
    ("mish", 9, [("Softplus", ["x"], ["a"]), ("Tanh", ["a"], ["b"]), ("Mul", ["x", "b"], ["y"])]),
    ("gelu", 20, [("Gelu", ["x"], ["y"])]),
    ("gelu_tanh", 20, [("Gelu", ["x"], ["y"], {"approximate": "tanh"})]),
    (
        "gelu",
        13,
        [
            ("Div", ["x", "root"], ["a"]), ("Erf", ["a"], ["b"]), ("Add", ["b", "1"], ["c"]),
            ("Mul", ["x", "c"], ["d"]), ("Mul", ["d", "0.5"], ["y"]),
        ],
    ),
    (
        "gelu",
        13,
        [
            ("Mul", ["x", "0.5"], ["h"]), ("Mul", ["inverse", "x"], ["a"]), ("Erf", ["a"], ["b"]),
            ("Add", ["1", "b"], ["c"]), ("Mul", ["c", "h"], ["y"]),
        ],
    ),
    (
        "gelu_tanh",
        13,
        [
            ("Mul", ["x", "x"], ["s"]), ("Mul", ["x", "s"], ["t"]), ("Mul", ["cubic", "t"], ["u"]),
            ("Add", ["x", "u"], ["v"]), ("Mul", ["slope", "v"], ["w"]), ("Tanh", ["w"], ["h"]),
            ("Add", ["h", "1"], ["g"]), ("Mul", ["x", "g"], ["f"]), ("Mul", ["0.5", "f"], ["y"]),
        ],
    ),
    ("clip(x, -inf, 6)", 13, [("Clip", ["x", "", "6"], ["y"])]),
    ("clip(x, -2, 3)", 9, [("Clip", ["x"], ["y"], {"min": -2.0, "max": 3.0})]),
    (
        "sigmoid(2 * x) * x",
        13,
        [("Mul", ["x", "2"], ["a"]), ("Sigmoid", ["a"], ["b"]), ("Mul", ["x", "b"], ["y"])],
    ),
    ("exp(x)", 13, [("Exp", ["x"], ["y"])]),
]  # fmt: skip
NUMBERS = {
    "0": 0.0, "1": 1.0, "-1": -1.0, "2": 2.0, "3": 3.0, "6": 6.0, "0.5": 0.5, "0.25": 0.25, "20": 20.0,
    "root": np.sqrt(2.0), "inverse": np.sqrt(0.5), "slope": np.sqrt(2 / np.pi), "cubic": 0.044715,
    "eps": 1e-5,
}  # fmt: skip
X = np.concatenate([np.random.default_rng(0).normal(size=(5, 5)) * 2, [[-1.0, 0.0, 1.0, 6.0, -3.0]]])


def written(nodes, path, opset=20, dtype: Any = np.float32, shape=("n", 5)):
    used = {name for node in nodes for name in node[1]}
    numbers = {name: dtype(value) for name, value in NUMBERS.items() if name in used}
    return made(nodes, numbers, path, opset, dtype=dtype, shape=shape)


@pytest.mark.parametrize(("said", "opset", "nodes"), ONE)
def test_every_way_of_writing_one_is_read(said, opset, nodes, tmp_path):
    operators = {node[0] for node in nodes}
    for dtype in (np.float32, np.float64):
        if dtype == np.float64 and "Celu" in operators:  # of float32 alone
            continue
        path = written(nodes, tmp_path / "net.onnx", opset, dtype)
        net, params = export.from_onnx(path)
        # In float64 a slope that is a float32 stays what it is; the numbers of named activations do not.
        told = dtype == np.float64 and bool(operators & {"Elu", "LeakyRelu"})
        assert told or repr(net) == f"Serial({said})"
        if dtype == np.float32 or not operators & {"HardSigmoid", "Selu", "Gelu", "HardSwish"}:
            assert_same(apply(net, params, X.astype(dtype)), run(path, X.astype(dtype)))


def test_softplus_that_is_cut_off_is_softplus_where_no_digit_shows(tmp_path):
    nodes = [("Softplus", ["x"], ["a"]), ("Greater", ["x", "20"], ["b"]), ("Where", ["b", "x", "a"], ["y"])]
    x = np.linspace(10, 30, 25).reshape(5, 5)
    assert_read(written(nodes, tmp_path / "a.onnx"), x.astype(np.float32), "Serial(softplus)")
    assert_read(
        written(nodes, tmp_path / "b.onnx", dtype=np.float64),
        x,
        "Serial(where(greater(x, 20), x, softplus(x)))",
    )


def test_numbers_in_float64_are_not_taken_for_those_of_float32(tmp_path):
    nodes = [("Div", ["x", "root"], ["a"]), ("Erf", ["a"], ["b"]), ("Add", ["b", "1"], ["c"]),
             ("Mul", ["x", "c"], ["d"]), ("Mul", ["d", "0.5"], ["y"])]  # fmt: skip
    numbers = {"root": np.float64(np.float32(np.sqrt(2))), "1": 1.0, "0.5": 0.5}
    path = made(nodes, numbers, tmp_path / "net.onnx", dtype=np.float64)
    net, _ = assert_read(path, X)
    assert net.layers[0] != fnn.gelu


NORMS = {
    "layer norm": [
        ("ReduceMean", ["x"], ["m"], {"axes": [-1]}), ("Sub", ["x", "m"], ["d"]), ("Pow", ["d", "2"], ["s"]),
        ("ReduceMean", ["s"], ["v"], {"axes": [1], "keepdims": 1}), ("Add", ["v", "eps"], ["e"]),
        ("Sqrt", ["e"], ["r"]), ("Div", ["d", "r"], ["y"]),
    ],
    "rms norm": [
        ("Pow", ["x", "2"], ["s"]), ("ReduceMean", ["s"], ["v"], {"axes": [1]}), ("Add", ["v", "eps"], ["e"]),
        ("Sqrt", ["e"], ["r"]), ("Reciprocal", ["r"], ["i"]), ("Mul", ["x", "i"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [("layer norm", "LayerNorm(scale=False, bias=False)"), ("rms norm", "RMSNorm(eps=1e-05, scale=False)")],
)
def test_norms_are_known_by_what_they_compute(name, said, tmp_path):
    for dtype in (np.float32, np.float64):
        path = written(NORMS[name], tmp_path / "net.onnx", 13, dtype)
        assert_read(path, X.astype(dtype), f"Serial({said})")
    off = [(op, i, o, {**a[0], "axes": [0]} if a else {}) for op, i, o, *a in NORMS[name]]
    off = [(op, i, o, a if op == "ReduceMean" else {}) for op, i, o, a in off]
    with pytest.raises(fnn.InputError, match="from_onnx: expected"):
        export.from_onnx(written(off, tmp_path / "net.onnx", 13))


def test_nodes_of_norms(tmp_path):
    random = np.random.default_rng(0)
    tensors = {"scale": random.normal(size=5), "bias": random.normal(size=5)}
    for dtype in (np.float32, np.float64):
        told = {"epsilon": 1e-3}
        arrays = {name: value.astype(dtype) for name, value in tensors.items()}
        for nodes, opset, said in [
            ([("LayerNormalization", ["x", "scale", "bias"], ["y"], told)], 17, "LayerNorm"),
            ([("LayerNormalization", ["x", "scale"], ["y"], told | {"axis": 1})], 17, "LayerNorm"),
            ([("LayerNormalization", ["x", "scale"], ["y"])], 17, "LayerNorm"),
            ([("RMSNormalization", ["x", "scale"], ["y"], told)], 23, "RMSNorm"),
        ]:
            path = made(
                nodes,
                {k: arrays[k] for k in nodes[0][1] if k in arrays},
                tmp_path / "net.onnx",
                opset,
                dtype=dtype,
            )
            net, _ = assert_read(path, X.astype(dtype))
            assert said in repr(net)


def test_batch_norm_of_inference(tmp_path):
    random = np.random.default_rng(0)
    arrays = {name: random.uniform(0.5, 2, size=5) for name in ("scale", "bias", "mean", "variance")}
    for dtype in (np.float32, np.float64):
        path = made(
            [("BatchNormalization", ["x", *arrays], ["y"])], {k: v.astype(dtype) for k, v in arrays.items()},
            tmp_path / "net.onnx", 15, dtype=dtype,
        )  # fmt: skip
        assert_read(path, X.astype(dtype), "Serial(Scale(), Bias())")


def test_what_is_no_activation_of_fnn_has_a_gradient_and_is_written_again(tmp_path):
    nodes = [("Tanh", ["x"], ["a"]), ("Sub", ["x", "a"], ["b"]), ("Clip", ["b", "-1", "3"], ["c"]),
             ("Elu", ["c"], ["d"], {"alpha": 0.5}), ("Greater", ["x", "0.5"], ["e"]),
             ("Where", ["e", "d", "x"], ["y"])]  # fmt: skip
    path = written(nodes, tmp_path / "net.onnx")
    net, params = assert_read(path, X.astype(np.float32))
    again, _ = export.from_onnx(path)
    assert again == net and hash(again) == hash(net)
    slope = jax.grad(lambda x: fnn.apply(net, params, x).sum())(X)
    step = 1e-6
    with jax.numpy_dtype_promotion("standard"):
        wide = [apply(net, params, X + sign * step) for sign in (1, -1)]
    inside = np.abs(X - 0.5) > 1e-3
    np.testing.assert_allclose(slope[inside], ((wide[0] - wide[1]) / (2 * step))[inside], atol=1e-8)
    export.onnx(net, params, X.astype(np.float32), tmp_path / "again.onnx")
    assert_same(run(tmp_path / "again.onnx", X.astype(np.float32)), run(path, X.astype(np.float32)))
    assert export.from_onnx(tmp_path / "again.onnx")[0] == net


def test_every_activation_of_the_table_is_known():
    from fnn.export.known import ACTIVATIONS

    names = {layer.name for layer in vars(rows).values() if isinstance(layer, rows.Activation)}
    assert names - {layer.name for layer, _ in ACTIVATIONS} == {"identity", "leaky_relu", "elu", "celu"}


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (
            ("LeakyRelu", ["x"], ["y"], {"alpha": -0.5}),
            "expected a finite slope >= 0, got LeakyRelu .to y., with -0.5",
        ),
        (("Celu", ["x"], ["y"], {"alpha": -1.0}), "expected a finite alpha > 0, got Celu .to y., with -1.0"),
        (("LogSoftmax", ["x"], ["y"]), "a dense layer, a norm or an activation, got LogSoftmax"),
    ],
)
def test_what_fnn_has_no_layer_for_is_refused(node, said, tmp_path):
    with pytest.raises(fnn.InputError, match=said):
        export.from_onnx(written([node], tmp_path / "net.onnx"))
