"""Classifiers with a label and probabilities, as skl2onnx writes them: the probabilities are read."""

from typing import Any

import numpy as np
import pytest

import fnn
from tests.export.graphs import apply, assert_same, run

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import fnn.export as export

RANDOM = np.random.default_rng(0)
W, V, B, C = (RANDOM.normal(size=s).astype(np.float32) for s in ((5, 4), (4, 2), 4, 2))
X = RANDOM.normal(size=(3, 5)).astype(np.float32)
DENSE = "Dense(4, inputs=5)"


def classifier(path, last, outputs, dtype: Any = np.float32):
    """Make a graph as skl2onnx does: a Cast, the chain, label and probabilities."""
    from onnx import TensorProto, helper, numpy_helper, save

    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        ("Cast", ["x"], ["cast"], {"to": element}), ("MatMul", ["cast", "w"], ["p"]),
        ("Add", ["p", "b"], ["h"]), ("Tanh", ["h"], ["a"]), ("MatMul", ["a", "v"], ["q"]), ("Add", ["q", "c"], ["z"]), *last,
        ("ArgMax", ["probabilities"], ["best"], {"axis": 1}), ("Reshape", ["best", "shape"], ["label"]),
    ]  # fmt: skip
    tensors = {"w": W, "b": B[None], "v": V, "c": C[None]}
    if any(node[0] == "Concat" for node in last):
        tensors |= {"v": V[:, :1], "c": C[None, :1]}
    initial = [numpy_helper.from_array(value.astype(dtype), name) for name, value in tensors.items()]
    initial += [
        numpy_helper.from_array(np.ones((), dtype), "unity"),
        numpy_helper.from_array(np.array([-1]), "shape"),
    ]
    made_nodes = [helper.make_node(*n[:3], **(n[3] if len(n) > 3 else {})) for n in nodes]
    number = helper.make_tensor_type_proto(element, [])
    ends = {
        "label": helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        "probabilities": helper.make_tensor_value_info("probabilities", element, ["n", 2]),
        "dicts": helper.make_value_info(
            "dicts", helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, number))
        ),
    }  # fmt: skip
    if "dicts" in outputs:
        made_nodes.append(
            helper.make_node(
                "ZipMap", ["probabilities"], ["dicts"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
            )
        )
    x = helper.make_tensor_value_info("x", element, [None, 5])
    graph = helper.make_graph(made_nodes, "made", [x], [ends[name] for name in outputs], initial)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


SOFTMAX = [("Softmax", ["z"], ["probabilities"])]
BINARY = [
    ("Sigmoid", ["z"], ["p1"]), ("Sub", ["unity", "p1"], ["p0"]),
    ("Concat", ["p0", "p1"], ["probabilities"], {"axis": 1}),
]  # fmt: skip


@pytest.mark.parametrize("outputs", [("label", "probabilities"), ("label", "dicts")])
@pytest.mark.parametrize(
    ("last", "said"),
    [(SOFTMAX, "Dense(2, inputs=4), softmax"), (BINARY, "Dense(1, inputs=4), sigmoid, Dense(2, inputs=1)")],
)
def test_the_probabilities_of_a_classifier_are_read(last, said, outputs, tmp_path):
    for dtype in (np.float32, np.float64):
        x = X.astype(dtype)
        path = classifier(tmp_path / "net.onnx", last, ("label", "probabilities"), dtype)
        probabilities = run(path, x, "probabilities")
        net, params = export.from_onnx(classifier(path, last, outputs, dtype))
        assert repr(net) == f"Serial({DENSE}, tanh, {said})"
        assert_same(apply(net, params, x), probabilities)
    net, params = export.from_onnx(path, output=outputs[1])
    assert_same(apply(net, params, x), probabilities)
    with pytest.raises(fnn.InputError, match="got ArgMax .*output='probabilities'"):
        export.from_onnx(path, output="label")
