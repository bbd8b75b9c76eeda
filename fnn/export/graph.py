"""A network as an ONNX graph, which is a Protocol Buffers message."""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arrays import canonical, shapes_of
from fnn.core import Layer, forward
from fnn.errors import InputError, describe
from fnn.export.files import whole
from fnn.export.writers import WRITERS

Writer = Callable[["Graph", Any, Any, str, str], str]  # write(graph, layer, params, v, name) -> output
OPSET = 20  # the first with Gelu


def onnx(
    net: Layer,
    params: Any,
    x: Any,
    path: str | os.PathLike[str],
    *,
    writers: Mapping[type, Writer] = MappingProxyType({}),
) -> None:
    """Write a network to an ONNX file: input "x" (n, ..., k), output "y", any n.

    Every layer, activation and composition of fnn has a counterpart (`Repeat` is written out, `Dropout` left
    out). The file is written whole or not at all. onnxruntime computes all of it in float32; in float64 it
    lacks some activations.

    Args:
        net: the network, any layer with one array as output.
        params: its params, which are written in the dtype of `x`.
        x: an input or its `jax.ShapeDtypeStruct`, with an axis of examples, float32 or float64; or integers,
            for an `Embedding`: then the file is in float32.
        path: the file to write.
        writers: a function for each class of layers of your own. `write(graph, layer, params, v, name)` adds
            the layer's nodes behind the value named `v`, by `graph.node`, `graph.tensor` and `graph.add` (for
            its layers), and returns the name of the output; the names of its tensors begin with `name`.

    Raises:
        InputError: for another dtype, and, with the place in the network, for a layer that computes in a
            dtype of its own or has no writer.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import fnn, fnn.export
    >>> net, x = fnn.Dense(3), jax.ShapeDtypeStruct((1, 2), "float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.export.onnx(net, fnn.init(net, jax.random.key(0), x), x, f"{folder}/net.onnx")
    ...     [file.name for file in Path(folder).iterdir()]
    ['net.onnx']
    """
    from onnx import checker, helper

    call = "fnn.export.onnx(net, params, x, path)"
    if not isinstance(net, Layer):
        raise InputError("onnx", "a network", describe(net), call)
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        tree = [hasattr(leaf, "shape") for leaf in jax.tree.leaves(x)]
        fix = "jax.export.export(jax.jit(lambda x: fnn.apply(net, params, x)))(x)"  # which takes trees
        raise InputError("onnx", "an array or shape as x", describe(x), fix if tree and all(tree) else call)
    indices = jnp.issubdtype(x.dtype, jnp.integer)
    if len(x.shape) < (1 if indices else 2):
        shape = "(1, 1)" if not x.shape and not indices else f"{(1, *x.shape)}"
        fix = f"fnn.export.onnx(net, params, jax.ShapeDtypeStruct({shape}, x.dtype), path)"
        raise InputError("onnx", f"x of shape {'(n, ...)' if indices else '(n, ..., k)'}", describe(x), fix)
    if not (indices or x.dtype in (np.float32, np.float64)):  # half precision is computed in float32 here
        fix = "fnn.export.onnx(net, params, jax.ShapeDtypeStruct(x.shape, jnp.float32), path)"
        raise InputError("onnx", "x in float32 or float64, or indices", describe(x), fix)
    x, params = shapes_of("onnx", x), canonical(params)
    y = jax.eval_shape(lambda p, x: forward(net, p, x)[0], params, x)
    if not hasattr(y, "shape"):
        raise InputError("onnx", "a network with one array as output", describe(y), _with_one_output(y))
    graph = Graph(np.dtype(np.float32 if indices else x.dtype), {**WRITERS, **writers})
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


def _with_one_output(y: Any) -> str:
    """Return the network whose output is that of another in one array, or an entry of it."""
    leaves = jax.tree.leaves_with_path(y)
    if (
        all(leaf.ndim for _, leaf in leaves)
        and len({(leaf.shape[:-1], leaf.dtype) for _, leaf in leaves}) == 1
    ):
        return "fnn.Serial(net, fnn.Concatenate())"
    keys = [getattr(key, "key", getattr(key, "idx", None)) for path, _ in leaves[:1] for key in path]
    return f"fnn.Serial(net, {', '.join(f'fnn.Select({key!r})' for key in keys)})"


class Graph:
    """The nodes and tensors so far, and the name of the last value.

    Args:
        dtype: the dtype of the graph.
        writers: the function that writes each class of layers.
    """

    def __init__(self, dtype: np.dtype[Any], writers: Mapping[type, Writer]) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.last: str = "x"
        self.dtype: np.dtype[Any] = dtype
        self.writers: Mapping[type, Writer] = writers

    def tensor(self, value: Any, name: str) -> str:
        """Add a tensor in the graph's dtype (integers stay as they are), and return its name.

        Args:
            value: the array.
            name: the tensor's name.
        """
        from onnx import numpy_helper

        dtype = value.dtype if np.issubdtype(value.dtype, np.integer) else self.dtype
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name

    def number(self, value: float) -> str:
        """Add a number, and return its name."""
        return self.tensor(np.float64(value), f"c{len(self.tensors)}")

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return its name.

        Args:
            operator: the ONNX operator.
            inputs: the names of its inputs.
            output: the name of its output; "" for a new one.
            attributes: its attributes.
        """
        from onnx import helper

        self.last = output or f"v{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(operator, inputs, [self.last], **attributes))
        return self.last

    def parts(self, v: str, count: int) -> list[str]:
        """Split the last axis of a value into parts of one size; return their names."""
        from onnx import helper

        names = [f"v{len(self.nodes) + 1}.{i}" for i in range(count)]
        self.nodes.append(helper.make_node("Split", [v], names, axis=-1, num_outputs=count))
        return names

    def add(self, layer: Layer, params: Any, v: str, name: str) -> str:
        """Write a layer, and return the name of its output.

        Args:
            layer: the layer.
            params: its params.
            v: the name of its input.
            name: the beginning of the names of its tensors.
        """
        self.last = v
        write = self.writers.get(type(layer))
        if write is None:
            fix = f"fnn.export.onnx(net, params, x, path, writers={{{type(layer).__name__}: write}})"
            raise InputError("onnx", "a layer or activation of fnn, or a writer for it", repr(layer), fix)
        self.last = write(self, layer, params, v, name)
        return self.last
