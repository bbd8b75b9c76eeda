"""The part of an ONNX file that is read as a chain: its constants, its nodes, its types."""

import graphlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from fnn.errors import InputError
from fnn.export.files import check_path
from fnn.export.shapes import STANDARD, Value, followed, passed, types

# What is computed of constants when the file is read.
_FOLDED = {
    "Add", "Cast", "Concat", "Constant", "DequantizeLinear", "Div", "Flatten", "Gather", "Identity", "Mul",
    "Neg", "Pow", "Reciprocal", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip


_RUN = (*STANDARD, "ai.onnx.ml", "com.microsoft")  # the domains of which onnxruntime has operators
_AGAIN = "fnn.export.onnx(net, params, x, path)"


class Refused(Exception):
    """A node that no layer can stand for.

    Args:
        node: the node.
        expected: what was expected of it.
        got: what it is instead.
    """

    def __init__(self, node: Any, expected: str, got: str = "") -> None:
        super().__init__(node, expected, got)
        name = f"{node.op_type} {node.name}".strip() if node.name else f"{node.op_type} (to {node.output[0]})"
        self.node: Any = node
        self.expected: str = expected
        self.got: str = f"{name}, {got}" if got else name


@dataclass(frozen=True)
class Source:
    """The part of a graph that lies between two of its values.

    Args:
        start: the name of the first value.
        end: the name of the last.
        nodes: the nodes that depend on the start and lead to the end, in order.
        tensors: the tensors of the file by name.
        values: what is known of the values by name.
        opset: the version of the operators.
    """

    start: str
    end: str
    nodes: tuple[Any, ...]
    tensors: dict[str, np.ndarray]
    values: dict[str, Value]
    opset: int


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model with all of its tensors, its own functions written out.

    Raises:
        InputError: for a file that is no ONNX file, and where data beside it are missing.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import checker, external_data_helper, inliner

    check_path("from_onnx", path, "fnn.export.from_onnx(path)")
    text = os.fspath(path)
    try:
        model = onnx.load(text, load_external_data=False)
    except DecodeError as error:
        raise InputError("from_onnx", f"{text} to be an ONNX file", str(error), _AGAIN) from error
    if not model.HasField("graph"):
        raise InputError("from_onnx", f"{text} to be an ONNX file", "one without a graph", _AGAIN)
    try:
        external_data_helper.load_external_data_for_model(model, os.path.dirname(os.path.abspath(text)))
    except (OSError, ValueError, checker.ValidationError) as error:
        beside, spoiled = _beside(model, os.path.dirname(text))
        copy = f"shutil.copy(original, {spoiled!r})"
        wanted = f"{text} with its tensors whole, in {', '.join(beside)} beside it"
        raise InputError("from_onnx", wanted, str(error), copy) from error
    return inliner.inline_local_functions(model) if model.functions else model


def _beside(model: Any, folder: str) -> tuple[list[str], str]:
    """Find the names of the files of a model's tensors, and the path of the first that is too short."""
    parts = [attribute.t for node in model.graph.node for attribute in node.attribute]
    told = [{e.key: e.value for e in t.external_data} for t in (*model.graph.initializer, *parts)]
    sizes: dict[str, int] = {}
    for entry in filter(None, told):
        end = int(entry.get("offset", 0)) + int(entry.get("length", 1))
        sizes[entry["location"]] = max(end, sizes.get(entry["location"], 0))
    there = {os.path.join(folder, name): size for name, size in sorted(sizes.items())}
    short = [path for path, size in there.items() if not os.path.isfile(path) or os.path.getsize(path) < size]
    return sorted(sizes), (short or list(there))[0]


def cut(model: Any, start: str | None, end: str | None) -> Source:
    """Return the part of a graph between two of its values.

    Args:
        model: the ONNX model.
        start: the name of the first value; None for the one input that the end depends on.
        end: the name of the last; None for the first output of floating-point numbers. A ZipMap is passed
            over.

    Raises:
        InputError: where there are no such values.
    """
    graph, tensors = model.graph, constants(model)
    values = types(model, tensors)
    shapes = followed(graph, tensors, values)
    opset = next((o.version for o in model.opset_import if o.domain in STANDARD), 1)
    nodes = [passed(node, tensors, values, shapes) for node in graph.node]
    made = {name: node for node in nodes for name in node.output if name}
    told = "" if end is None else f", output={end!r}"
    end = _end(graph, made, values, end)
    needed = _above(end, made, start)
    inputs = [v.name for v in graph.input if v.name not in tensors]
    if start is None:
        taken = [name for name in inputs if name in needed]
        if len(taken) != 1:
            wanted, got = f"one input that {end!r} is made of", ", ".join(taken) or "none"
            raise InputError("from_onnx", wanted, got, opened(model))
        start = str(taken[0])
    elif start not in needed or start in tensors:
        fix = opened(model)
        if len(taken := [name for name in inputs if name in _above(end, made, None)]) == 1:
            fix = f"fnn.export.from_onnx(path, input={taken[0]!r}{told})"
        raise InputError("from_onnx", f"input to name a value that {end!r} is made of", repr(start), fix)
    hanging, between = {start}, []
    for node in nodes:
        if hanging.intersection(node.input) and needed.intersection(node.output):
            hanging.update(filter(None, node.output))
            between.append(node)
    _check(model, between, end if end in hanging else None)
    return Source(start, end, tuple(between), tensors, values, opset)


def _check(model: Any, nodes: list[Any], end: str | None) -> None:
    """Raise InputError unless nodes have the inputs and attributes of their operators, and lie in order."""
    from onnx import checker

    context = type(checker.DEFAULT_CONTEXT)()
    context.ir_version = checker.DEFAULT_CONTEXT.ir_version
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    later = {name for node in nodes for name in node.output if name}
    for node in nodes:
        if end is None or later.intersection(node.input):
            got = f"{node.op_type} {node.name}".strip() + " before one whose output it takes"
            fix = opened(model) if _in_some_order(model) else _AGAIN
            raise InputError("from_onnx", "nodes in the order in which they run", got, fix)
        later.difference_update(node.output)
        if node.domain in STANDARD:
            try:
                checker.check_node(node, context)
            except checker.ValidationError as error:
                wanted = "nodes as the ONNX standard has them"
                raise InputError("from_onnx", wanted, str(error), _AGAIN) from error


def opened(model: Any) -> str:
    """Return the call that opens a file that is no chain, for an error message: to be run, if it can be."""
    known = all(node.domain in _RUN for node in model.graph.node)
    return "onnxruntime.InferenceSession(path)" if known else "onnx.load(path)"


def _in_some_order(model: Any) -> bool:
    made = {name: i for i, node in enumerate(model.graph.node) for name in node.output if name}
    order = {i: {made[v] for v in node.input if v in made} for i, node in enumerate(model.graph.node)}
    try:
        graphlib.TopologicalSorter(order).prepare()
    except graphlib.CycleError:
        return False
    return True


def constants(model: Any) -> dict[str, np.ndarray]:
    """Collect the tensors by name, and compute the nodes that have no other inputs."""
    from onnx import numpy_helper

    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        known = all(name in tensors or not name for name in node.input)
        if known and node.op_type in _FOLDED and node.domain in STANDARD:
            tensors[node.output[0]] = _folded(model, node, tensors)
    return tensors


def _folded(model: Any, node: Any, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Compute a node of constants."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    inputs = {name: tensors[name] for name in node.input if name}
    ends = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in inputs.items()
    ]
    graph = helper.make_graph([node], "constant", ends, [helper.make_empty_tensor_value_info(node.output[0])])
    (made,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import)).run(None, inputs)
    return np.asarray(made)


def _end(graph: Any, made: dict[str, Any], values: dict[str, Value], name: str | None) -> str:
    import jax.numpy as jnp

    def seen_through(name: str) -> str:
        node = made.get(name)
        if node is not None and (node.domain, node.op_type) == ("ai.onnx.ml", "ZipMap"):
            return node.input[0]
        return name

    outputs = [seen_through(output.name) for output in graph.output]
    floating = [
        name
        for name in outputs
        if (dtype := values.get(name, Value(None, None)).dtype) is not None
        and jnp.issubdtype(dtype, jnp.floating)
    ]
    first = (floating or outputs)[0]
    if name is not None:
        if name not in made and name not in {v.name for v in graph.input}:
            known = f"one of {', '.join(outputs)}, or a value further up"
            fix = f"fnn.export.from_onnx(path, output={first!r})"
            raise InputError("from_onnx", f"output to name {known}", repr(name), fix)
        return seen_through(name)
    return first


def _above(end: str, made: dict[str, Any], start: str | None) -> set[str]:
    """Collect the names of all values that one hangs on, itself among them; none above the start."""
    found, left = set(), [end]
    while left:
        name = left.pop()
        if name and name not in found:
            found.add(name)
            left += made[name].input if name in made and name != start else []
    return found
