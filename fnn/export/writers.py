"""How each layer and composition is written to an ONNX graph: one function for each class."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fnn.activations.table import Activation, Softmax
from fnn.compose.branches import Parallel, Skip
from fnn.compose.entries import ByName, Each, Heads
from fnn.compose.names import place_of, share
from fnn.compose.remat import Remat
from fnn.compose.repeat import Repeat
from fnn.compose.reversible import Reversible
from fnn.compose.serial import Serial
from fnn.core import Layer
from fnn.errors import InputError, at
from fnn.export import operators
from fnn.layers.affine import Bias, Scale
from fnn.layers.dense import Dense
from fnn.layers.dropout import Dropout
from fnn.layers.embedding import Embedding
from fnn.layers.entries import Concatenate, Select, Sum
from fnn.layers.gated import Gate
from fnn.layers.norm import LayerNorm, RMSNorm
from fnn.memory.storing import Stored

if TYPE_CHECKING:
    from fnn.export.graph import Graph  # which imports this table

_INT64 = 7  # TensorProto.INT64


def _serial(graph: "Graph", layer: Serial, params: Any, v: str, name: str) -> str:
    paths = zip(layer.spelling.paths(), layer.places, layer.layers, layer.shares(params), strict=True)
    for path, place, child, own in paths:
        with at(place):
            v = graph.add(child, own, v, ".".join((name, *map(str, path))))
    return v


def _repeat(graph: "Graph", layer: Repeat, params: Any, v: str, name: str) -> str:
    for i in range(layer.n):
        own = params if layer.shared else jax.tree.map(lambda leaf, i=i: leaf[i], params)
        with at(".layer"):
            v = graph.add(layer.layer, own, v, f"{name}.{i}")
    return v


def _inner(graph: "Graph", layer: Remat | Stored, params: Any, v: str, name: str) -> str:
    with at(".layer"):
        return graph.add(layer.layer, params, v, name)


def _skip(graph: "Graph", layer: Skip, params: Any, v: str, name: str) -> str:
    with at(".layer"):
        return graph.node("Add", [v, graph.add(layer.layer, params, v, f"{name}.f")])


def _parallel(graph: "Graph", layer: Parallel, params: Any, v: str, name: str) -> str:
    outputs = []
    for i, (child, p) in enumerate(zip(layer.layers, params, strict=True)):
        with at(f".layers[{i}]"):
            outputs.append(graph.add(child, p, v, f"{name}.{i}"))
    return (
        graph.node("Concat", outputs, axis=-1) if layer.join == "concatenate" else graph.node("Sum", outputs)
    )


def _by_name(graph: "Graph", layer: ByName, params: Any, v: Any, name: str) -> Any:
    """Write each layer; what stands for a tree of values is the tree of their names."""
    outputs = {}
    for key, child in zip(layer.names, layer.layers, strict=True):
        with at(place_of(key)):
            own = share(params, key)
            outputs[key] = graph.add(child, own, layer.input_of(v, key), f"{name}.{key}")
    return outputs if isinstance(layer.names[0], str) else tuple(outputs.values())


def _select(graph: "Graph", layer: Select, params: Any, v: Any, name: str) -> Any:
    return layer.recompute((), v, None)


def _concatenate(graph: "Graph", layer: Concatenate, params: Any, v: Any, name: str) -> str:
    return graph.node("Concat", jax.tree.leaves(v), axis=layer.axis)


def _sum(graph: "Graph", layer: Sum, params: Any, v: Any, name: str) -> str:
    return graph.node("Sum", jax.tree.leaves(v))


def _reversible(graph: "Graph", layer: Reversible, params: Any, v: str, name: str) -> str:
    x1, x2 = graph.parts(v, 2)
    with at(".f"):
        y1 = graph.node("Add", [x1, graph.add(layer.f, params[0], x2, f"{name}.f")])
    with at(".g"):
        y2 = graph.node("Add", [x2, graph.add(layer.g, params[1], y1, f"{name}.g")])
    return graph.node("Concat", [y1, y2], axis=-1)


def _dense(graph: "Graph", layer: Dense, params: Any, v: str, name: str) -> str:
    _check_dtype(layer, layer.dtype)
    v = graph.node("MatMul", [v, graph.tensor(params["kernel"], f"{name}.kernel")])
    return graph.node("Add", [v, graph.tensor(params["bias"], f"{name}.bias")]) if layer.bias else v


def _embedding(graph: "Graph", layer: Embedding, params: Any, v: str, name: str) -> str:
    _check_dtype(layer, layer.dtype)
    # Gather takes int32 and int64 alone, counts -1 from the end and stops at an index that is too large.
    zero, last, end = (
        graph.tensor(np.array(i, np.int64), f"{name}.{key}")
        for key, i in (("first", 0), ("last", layer.vocabulary - 1), ("axis", [-1]))
    )
    index = graph.node("Cast", [v], to=_INT64)
    inside = graph.node("Clip", [index, zero, last])
    rows = graph.node("Gather", [graph.tensor(params["embedding"], f"{name}.embedding"), inside], axis=0)
    there = graph.node("Unsqueeze", [graph.node("Equal", [index, inside]), end])
    return graph.node("Where", [there, rows, graph.number(np.nan)])


def _scale(graph: "Graph", layer: Scale, params: Any, v: str, name: str) -> str:
    return graph.node("Mul", [v, graph.tensor(params["scale"], f"{name}.scale")])


def _bias(graph: "Graph", layer: Bias, params: Any, v: str, name: str) -> str:
    return graph.node("Add", [v, graph.tensor(params["bias"], f"{name}.bias")])


def _norm(graph: "Graph", layer: LayerNorm | RMSNorm, params: Any, v: str, name: str) -> str:
    if isinstance(layer, LayerNorm):
        v = graph.node("Sub", [v, _mean(graph, v)])
    mean = _mean(graph, graph.node("Mul", [v, v]))
    root = graph.node("Sqrt", [graph.node("Add", [mean, graph.number(layer.eps)])])
    v = graph.node("Div", [v, root])
    if "scale" in params:
        v = graph.node("Mul", [v, graph.tensor(params["scale"], f"{name}.scale")])
    if "bias" in params:
        v = graph.node("Add", [v, graph.tensor(params["bias"], f"{name}.bias")])
    return v


def _mean(graph: "Graph", v: str) -> str:
    axes = graph.tensor(np.array([-1]), f"c{len(graph.tensors)}")
    return graph.node("ReduceMean", [v, axes], keepdims=1)


def _gate(graph: "Graph", layer: Gate, params: Any, v: str, name: str) -> str:
    parts, gated = graph.parts(v, 2 * layer.blocks), []
    for gate, value in zip(parts[::2], parts[1::2], strict=True):
        gated.append(graph.node("Mul", [graph.add(layer.activation, (), gate, ""), value]))
    return gated[0] if layer.blocks == 1 else graph.node("Concat", gated, axis=-1)


def _dropout(graph: "Graph", layer: Dropout, params: Any, v: str, name: str) -> str:
    return v


def _activation(graph: "Graph", layer: Activation | Softmax, params: Any, v: str, name: str) -> str:
    if not operators.write(graph, layer, v):
        fix = "fnn.export.onnx(net, params, x, path, writers={fnn.activations.Activation: write})"
        raise InputError("onnx", "a layer or activation of fnn, or a writer for it", repr(layer), fix)
    return graph.last


def _check_dtype(layer: Layer, dtype: Any) -> None:
    if dtype is not None:
        fix = "dataclasses.replace(layer, dtype=None)"
        raise InputError("onnx", "layers that compute in x's dtype", repr(layer), fix)


WRITERS: dict[type, Callable[..., str]] = {
    Serial: _serial, Repeat: _repeat, Remat: _inner, Stored: _inner, Skip: _skip, Parallel: _parallel,
    Reversible: _reversible, Dense: _dense, Embedding: _embedding, Scale: _scale, Bias: _bias,
    LayerNorm: _norm, RMSNorm: _norm, Gate: _gate, Dropout: _dropout, Activation: _activation,
    Softmax: _activation,
    Each: _by_name, Heads: _by_name, Select: _select, Concatenate: _concatenate, Sum: _sum,
}  # fmt: skip
