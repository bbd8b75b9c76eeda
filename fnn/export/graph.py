"""A network as an ONNX graph, which is a Protocol Buffers message."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.compose.branches import Parallel, Skip
from fnn.compose.recomputed import Recomputed
from fnn.compose.repeat import Repeat
from fnn.compose.serial import Serial
from fnn.core import Layer, forward
from fnn.errors import InputError, at, describe
from fnn.export import operators
from fnn.export.files import whole
from fnn.layers.affine import Bias, Scale
from fnn.layers.dense import Dense
from fnn.layers.dropout import Dropout
from fnn.layers.embedding import Embedding
from fnn.layers.gated import Gate
from fnn.layers.norm import LayerNorm, RMSNorm

OPSET = 20  # the first with Gelu


def onnx(net: Any, params: Any, x: Any, path: str | os.PathLike[str]) -> None:
    """Write the network to an ONNX file: input "x" (n, ..., k), output "y", any n.

    `x` is an input or a `jax.ShapeDtypeStruct` of it, with a batch axis, in float32 or float64; params are
    written in its dtype. It may be indices, for an `Embedding`: then all is in float32. Every layer,
    activation and composition of fnn has a counterpart (`Repeat` is written out, `Dropout` left out).
    InputError is raised for another dtype, and, with the place in the network, for a layer that computes in
    a dtype of its own or is not fnn's. The file is written whole or not at all.

    onnxruntime computes all of it in float32; in float64 it lacks some activations.
    """
    from onnx import checker, helper

    call = "fnn.export.onnx(net, params, x, path)"
    if not isinstance(net, Layer):
        raise InputError("onnx", "a network", describe(net), call)
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        raise InputError("onnx", "an array or shape as x", describe(x), call)
    indices = jnp.issubdtype(x.dtype, jnp.integer)
    if len(x.shape) < (1 if indices else 2):
        fix = "fnn.export.onnx(net, params, x[None], path)"
        raise InputError("onnx", f"x of shape {'(n, ...)' if indices else '(n, ..., k)'}", describe(x), fix)
    if not (indices or x.dtype in (np.float32, np.float64)):  # half precision is computed in float32 here
        fix = "fnn.export.onnx(net, params, x.astype(jnp.float32), path)"
        raise InputError("onnx", "x in float32 or float64, or indices", describe(x), fix)
    x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    y = jax.eval_shape(lambda p, x: forward(net, p, x)[0], params, x)
    graph = Graph(np.dtype(np.float32 if indices else x.dtype))
    graph.add(net, jax.tree.map(np.asarray, params), "x", "net")
    graph.node("Identity", [graph.last], output="y")
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)), ["n", *value.shape[1:]]
        )
        for name, value in (("x", x), ("y", y))
    ]
    made = helper.make_graph(graph.nodes, "fnn", values[:1], values[1:], graph.tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fnn")
    model.ir_version = 10
    checker.check_model(model, full_check=True)
    with whole(path) as new:
        new.write_bytes(model.SerializeToString())


class Graph:
    """The nodes and tensors so far, and the name of the last value."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.last, self.dtype = "x", dtype

    def tensor(self, value: Any, name: str) -> str:
        """Add a tensor in the graph's dtype (integers stay as they are); give its name."""
        from onnx import numpy_helper

        dtype = value.dtype if np.issubdtype(value.dtype, np.integer) else self.dtype
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name

    def number(self, value: float) -> str:
        """Add a number; give its name."""
        return self.tensor(np.float64(value), f"c{len(self.tensors)}")

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add a node with one output; give its name."""
        from onnx import helper

        self.last = output or f"v{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(operator, inputs, [self.last], **attributes))
        return self.last

    def add(self, layer: Any, params: Any, v: str, name: str) -> str:
        """Write a layer behind the value `v`; give the name of its output. Params are called after `name`."""
        self.last = v
        match layer:
            case Serial():
                for i, (child, p) in enumerate(zip(layer.layers, params, strict=True)):
                    with at(f".layers[{i}]"):
                        v = self.add(child, p, v, f"{name}.{i}")
            case Repeat():
                for i in range(layer.n):
                    own = params if layer.shared else jax.tree.map(lambda leaf, i=i: leaf[i], params)
                    with at(".layer"):
                        v = self.add(layer.layer, own, v, f"{name}.{i}")
            case Recomputed():
                with at(".layer"):
                    v = self.add(layer.layer, params, v, name)
            case Skip():
                with at(".layer"):
                    v = self.node("Add", [v, self.add(layer.layer, params, v, f"{name}.f")])
            case Parallel():
                outputs = []
                for i, (child, p) in enumerate(zip(layer.layers, params, strict=True)):
                    with at(f".layers[{i}]"):
                        outputs.append(self.add(child, p, v, f"{name}.{i}"))
                joined = layer.join == "concatenate"
                v = self.node("Concat", outputs, axis=-1) if joined else self.node("Sum", outputs)
            case _:
                v = self._leaf(layer, params, v, name)
        self.last = v
        return v

    def _leaf(self, layer: Any, params: Any, v: str, name: str) -> str:
        def own(param: str) -> str:
            return self.tensor(params[param], f"{name}.{param}")

        if getattr(layer, "dtype", None) is not None:
            fix = "dataclasses.replace(layer, dtype=None)"
            raise InputError("onnx", "layers that compute in x's dtype", repr(layer), fix)
        match layer:
            case Dropout():
                return v
            case Dense():
                v = self.node("MatMul", [v, own("w")])
                return self.node("Add", [v, own("b")]) if layer.bias else v
            case Embedding():
                return self.node("Gather", [own("table"), v], axis=0)
            case Scale():
                return self.node("Mul", [v, own("scale")])
            case Bias():
                return self.node("Add", [v, own("bias")])
            case LayerNorm() | RMSNorm():
                if isinstance(layer, LayerNorm):
                    v = self.node("Sub", [v, self._mean(v)])
                mean = self._mean(self.node("Mul", [v, v]))
                v = self.node(
                    "Div", [v, self.node("Sqrt", [self.node("Add", [mean, self.number(layer.eps)])])]
                )
                v = self.node("Mul", [v, own("scale")]) if layer.scale else v
                return self.node("Add", [v, own("bias")]) if getattr(layer, "bias", False) else v
            case Gate():
                return self._gate(layer, v)
        if not operators.write(self, layer, v):
            fix = "fnn.export.onnx(fnn.mlp(sizes, fnn.relu), params, x, path)"
            raise InputError("onnx", "a layer or activation of fnn", repr(layer), fix)
        return self.last

    def _mean(self, v: str) -> str:
        axes = self.tensor(np.array([-1]), f"c{len(self.tensors)}")
        return self.node("ReduceMean", [v, axes], keepdims=1)

    def _gate(self, layer: Gate, v: str) -> str:
        from onnx import helper

        halves = [f"v{len(self.nodes) + 1}.{half}" for half in ("gate", "value")]
        self.nodes.append(helper.make_node("Split", [v], halves, axis=-1, num_outputs=2))
        return self.node("Mul", [self._leaf(layer.activation, (), halves[0], ""), halves[1]])
