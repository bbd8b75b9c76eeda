"""A network as an ONNX graph, which is a Protocol Buffers message, and back."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fnn.layers.activation as rows
from fnn.compose.branches import Skip
from fnn.compose.repeat import Repeat
from fnn.compose.serial import Serial
from fnn.core import forward
from fnn.errors import InputError, describe
from fnn.layers.activation import Activation, Softmax
from fnn.layers.dense import Dense
from fnn.layers.dropout import Dropout

OPSET = 20  # the first with Gelu

# The activations that are one operator of ONNX, with its attributes.
OPERATORS: dict[str, tuple[Activation, dict[str, Any]]] = {
    "Identity": (rows.identity, {}),
    "Relu": (rows.relu, {}),
    "Sigmoid": (rows.sigmoid, {}),
    "Tanh": (rows.tanh, {}),
    "Softplus": (rows.softplus, {}),
    "Softsign": (rows.softsign, {}),
    "Mish": (rows.mish, {}),
    "Elu": (rows.elu, {"alpha": 1.0}),
    "Celu": (rows.celu, {"alpha": 1.0}),
    "LeakyRelu": (rows.leaky_relu, {"alpha": 0.01}),
    "HardSwish": (rows.hard_silu, {}),
}
GELU = {"none": rows.gelu, "tanh": rows.gelu_tanh}


def onnx(net: Any, params: Any, x: Any, path: str | os.PathLike[str]) -> None:
    """Write the network to an ONNX file: input "x" (n, ..., k), output "y", any n.

    `x` is an input or a `jax.ShapeDtypeStruct` of it, with a batch axis at least. Chains, `Repeat` (written
    out), `Skip`, `Dense`, `Dropout` (left out) and activations have a counterpart; for another layer, or one
    that computes in a dtype of its own, InputError is raised. The file is written whole or not at all.
    """
    from onnx import checker, helper

    y = jax.eval_shape(lambda p, x: forward(net, p, x)[0], params, jax.ShapeDtypeStruct(x.shape, x.dtype))
    if x.ndim < 2:
        raise InputError(
            "onnx", "x of shape (n, ..., k)", describe(x), "fnn.export.onnx(net, params, x[None], path)"
        )
    graph = _Graph()
    graph.add(net, params, "x", "net")
    graph.node("Identity", [graph.last], output="y")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(x.dtype))
    values = [
        helper.make_tensor_value_info(name, kind, ["n", *shape[1:]])
        for name, shape in (("x", x.shape), ("y", y.shape))
    ]
    made = helper.make_graph(graph.nodes, "fnn", values[:1], values[1:], graph.tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fnn")
    model.ir_version = 10
    checker.check_model(model, full_check=True)
    write_whole(Path(path), model.SerializeToString())


class _Graph:
    """The nodes and initializers so far, and the name of the last value."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.last = "x"

    def tensor(self, value: Any, name: str) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.last = output or f"v{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(operator, inputs, [self.last], **attributes))
        return self.last

    def add(self, layer: Any, params: Any, v: str, place: str) -> str:
        """Write a layer behind the value `v`; give the name of its output."""
        self.last = v
        match layer:
            case Serial():
                for i, (child, p) in enumerate(zip(layer.layers, params, strict=True)):
                    v = self.add(child, p, v, f"{place}.{i}")
            case Repeat():
                for i in range(layer.n):
                    own = params if layer.shared else jax.tree.map(lambda leaf, i=i: leaf[i], params)
                    v = self.add(layer.layer, own, v, f"{place}.{i}")
            case Skip():
                f = self.add(layer.layer, params, v, f"{place}.f")
                v = self.node("Add", [v, f])
            case Dropout():
                pass
            case Dense() if layer.dtype is None:
                v = self.node("MatMul", [v, self.tensor(params["w"], f"{place}.w")])
                if layer.bias:
                    v = self.node("Add", [v, self.tensor(params["b"], f"{place}.b")])
            case _:
                return self._activation(layer, v)
        self.last = v
        return v

    def _activation(self, layer: Any, v: str) -> str:
        if isinstance(layer, Softmax):
            return self.node("Softmax", [v], axis=layer.axis)
        if layer == rows.silu:
            return self.node("Mul", [v, self.node("Sigmoid", [v])])
        for kind, gelu in GELU.items():
            if layer == gelu:
                return self.node("Gelu", [v], approximate=kind)
        for operator, (activation, attributes) in OPERATORS.items():
            if layer == activation:
                return self.node(operator, [v], **attributes)
        known = "Serial, Repeat, Skip, Dense, Dropout or a known activation"
        raise InputError(
            "onnx", known, repr(layer), "fnn.export.onnx(fnn.mlp(sizes, fnn.relu), params, x, path)"
        )


def from_onnx(path: str | os.PathLike[str]) -> tuple[Serial, tuple[Any, ...]]:
    """Read a chain of dense layers and known activations: give the network and its params, as numpy arrays.

    Dense layers may be MatMul and Add, or Gemm. Raises InputError for a graph that is no such chain.
    """
    import onnx as library
    from onnx import helper, numpy_helper

    model = library.load(os.fspath(path))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers: list[Any] = []
    params: list[Any] = []
    (v,) = (value.name for value in model.graph.input if value.name not in tensors)
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weights = [tensors[name] for name in node.input if name in tensors]
        if v not in node.input or len(node.input) != len(weights) + 1:
            raise _unknown(node, f"a node that takes {v!r} alone")
        v = node.output[0]
        if node.op_type == "MatMul" and node.input[1] in tensors:
            layers.append(Dense(weights[0].shape[1], bias=False, inputs=weights[0].shape[0]))
            params.append({"w": weights[0]})
        elif node.op_type == "Gemm" and node.input[1] in tensors:
            plain = {attributes.get(name, 1.0) for name in ("alpha", "beta")} == {1.0} and not attributes.get(
                "transA"
            )
            if not plain:
                raise _unknown(node, "a Gemm with alpha = beta = 1")
            w = weights[0].T if attributes.get("transB") else weights[0]
            layers.append(Dense(w.shape[1], bias=len(weights) == 2, inputs=w.shape[0]))
            params.append({"w": w} | ({"b": weights[1].reshape(-1)} if len(weights) == 2 else {}))
        elif node.op_type == "Add" and layers and isinstance(layers[-1], Dense) and not layers[-1].bias:
            layers[-1] = Dense(layers[-1].features, inputs=layers[-1].inputs)
            params[-1] = params[-1] | {"b": weights[0].reshape(-1)}
        elif node.op_type != "Identity":
            layers.append(_known(node, attributes))
            params.append(())
    return Serial(*layers), tuple(params)


def _known(node: Any, attributes: dict[str, Any]) -> Any:
    makers: dict[str, Callable[[float], Any]] = {
        "Elu": rows.elu_with, "Celu": rows.celu_with, "LeakyRelu": rows.leaky_relu_with
    }  # fmt: skip
    if node.op_type == "Softmax":
        return Softmax(attributes.get("axis", -1))
    if node.op_type == "Gelu":
        return GELU[attributes.get("approximate", b"none").decode()]
    if node.op_type in makers:
        default = 0.01 if node.op_type == "LeakyRelu" else 1.0
        return makers[node.op_type](float(np.float32(attributes.get("alpha", default)).astype(str)))
    if node.op_type in OPERATORS:
        return OPERATORS[node.op_type][0]
    raise _unknown(node, "a dense layer or a known activation")


def _unknown(node: Any, expected: str) -> InputError:
    return InputError(
        "from_onnx", expected, f"{node.op_type} {node.name}".strip(), "onnxruntime.InferenceSession(path)"
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that another process sees the old one or the new one, never a part."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as beside:
        (Path(beside) / path.name).write_bytes(content)
        os.replace(Path(beside) / path.name, path)
