"""A chain of dense layers and activations, read from an ONNX file."""

import os
from typing import Any

import numpy as np

from fnn.compose.serial import Serial
from fnn.errors import InputError, describe
from fnn.export import operators
from fnn.layers.dense import Dense

_FIX = "onnxruntime.InferenceSession(path)"


def from_onnx(path: str | os.PathLike[str]) -> tuple[Serial, tuple[Any, ...]]:
    """Read a chain of dense layers and known activations: give the network and its params, as numpy arrays.

    Dense layers may be MatMul and Add, or Gemm; their weights are initializers or constants. Raises
    InputError for a graph that is no such chain, and for a file that is no ONNX file.
    """
    model = _load(path)
    graph = model.graph
    tensors, nodes = _tensors(graph)
    inputs = [value.name for value in graph.input if value.name not in tensors]
    if len(inputs) != 1 or len(graph.output) != 1:
        got = f"{len(inputs)} and {len(graph.output)} in {os.fspath(path)}"
        raise InputError("from_onnx", "a graph with one input and one output", got, _FIX)
    v, layers, params = inputs[0], [], []
    while nodes:
        composed = operators.read_composed(nodes, v)
        if composed:
            activation, taken = composed
            layers.append(activation)
            params.append(())
            v, nodes = nodes[taken - 1].output[0], nodes[taken:]
            continue
        node, nodes = nodes[0], nodes[1:]
        weights = [tensors[name] for name in node.input if name in tensors]
        if list(node.input).count(v) != 1 or len(node.input) != len(weights) + 1:
            raise _unknown(node, f"a node that takes {v!r} alone")
        _read_node(model, node, node.input[0] == v, weights, layers, params)
        v = node.output[0]
    if v != graph.output[0].name:
        got = f"an output {graph.output[0].name!r} from further up"
        raise InputError("from_onnx", f"a chain that ends in its output, {v!r}", got, _FIX)
    return Serial(*layers), tuple(params)


def _read_node(
    model: Any, node: Any, first: bool, weights: list[Any], layers: list[Any], params: list[Any]
) -> None:
    """Add the layer that a node is, or the bias to the layer before; `first` is whether v comes first."""
    from onnx import helper

    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in ("MatMul", "Gemm") and first and weights[0].ndim == 2:
        w = weights[0].T if told.get("transB") else weights[0]
        if told.get("transA") or {told.get(name, 1.0) for name in ("alpha", "beta")} != {1.0}:
            raise _unknown(node, "a Gemm of x as it is, with alpha = beta = 1")
        layers.append(Dense(w.shape[1], bias=len(weights) == 2, inputs=w.shape[0]))
        params.append(
            {"kernel": w} | ({"bias": _row(node, weights[1], w.shape[1])} if len(weights) == 2 else {})
        )
    elif node.op_type == "Add" and layers and isinstance(layers[-1], Dense) and not layers[-1].bias:
        layers[-1] = Dense(layers[-1].features, inputs=layers[-1].inputs)
        params[-1] = params[-1] | {"bias": _row(node, weights[0], layers[-1].features)}
    elif node.op_type != "Identity":
        if node.op_type == "Softmax" and "axis" not in told and _opset(model) < 13:
            raise _unknown(node, "a Softmax that names its axis, as all do from opset 13 on")
        numbers = [weight.item() for weight in weights if weight.size == 1]
        layer = (
            operators.read(node.op_type, told, numbers) if len(numbers) == len(weights) and first else None
        )
        if layer is None:
            raise _unknown(node, "a dense layer or a known activation")
        layers.append(layer)
        params.append(())


def _load(path: str | os.PathLike[str]) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(os.fspath(path))
    except DecodeError as error:
        model, got = None, str(error)
    else:
        got = "one without a graph"
    if model is None or not model.HasField("graph"):
        raise InputError(
            "from_onnx", f"{os.fspath(path)} to be an ONNX file", got, "fnn.export.onnx(net, params, x, path)"
        )
    return model


def _tensors(graph: Any) -> tuple[dict[str, Any], list[Any]]:
    """Return the tensors by name, initializers and constants, and the nodes that are left."""
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        else:
            nodes.append(node)
    return found, nodes


def _row(node: Any, bias: np.ndarray, features: int) -> np.ndarray:
    """Return a bias as (features,), from any shape that means the same."""
    if bias.size not in (1, features) or bias.shape[-1:] not in ((), (1,), (features,)):
        raise _unknown(node, f"a bias of {features} numbers, got {describe(bias)} in")
    return np.broadcast_to(bias.reshape(-1), (features,)).copy()


def _opset(model: Any) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def _unknown(node: Any, expected: str) -> InputError:
    return InputError("from_onnx", expected, f"{node.op_type} {node.name}".strip(), _FIX)
