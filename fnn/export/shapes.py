"""Dtypes and shapes of the values of an ONNX graph, and the nodes that change nothing."""

from typing import Any, NamedTuple

import numpy as np

STANDARD = "", "ai.onnx"
SCALER = "ai.onnx.ml", "Scaler"  # the one operator of another domain that is read
LIMIT = 2**31  # bytes of a message, beyond which no shapes are inferred


class Value(NamedTuple):
    """What is known of a value of a graph.

    Args:
        dtype: its dtype, or None.
        axes: for each axis its length or its name; None where they are not known.
    """

    dtype: Any
    axes: tuple[int | str | None, ...] | None

    @property
    def rank(self) -> int | None:
        """The number of axes, if it is known."""
        return None if self.axes is None else len(self.axes)

    @property
    def features(self) -> int | None:
        """The length of the last axis, if it is known."""
        last = self.axes[-1] if self.axes else None
        return last if isinstance(last, int) else None


def types(model: Any, tensors: dict[str, np.ndarray]) -> dict[str, Value]:
    """Return what the file tells of the values, or what can be inferred.

    Args:
        model: the ONNX model.
        tensors: its tensors by name.
    """
    import onnx
    from onnx import helper, numpy_helper, shape_inference

    if 0 < model.ByteSize() < LIMIT:
        plain = onnx.ModelProto()
        plain.CopyFrom(model)  # with computed constants as tensors: the inference sees no others
        known = [node.output[0] for node in model.graph.node if node.output[0] in tensors]
        plain.graph.initializer.extend(numpy_helper.from_array(tensors[name], name) for name in known)
        del plain.graph.node[:]
        for node in model.graph.node:
            if (node.domain, node.op_type) == SCALER:
                node = helper.make_node("Identity", node.input, node.output)
            if node.output[0] not in tensors:
                plain.graph.node.append(node)
        try:
            model = shape_inference.infer_shapes(plain, data_prop=True)
        except shape_inference.InferenceError:
            pass  # then what the file tells has to do
    found = {}
    for value in (*model.graph.value_info, *model.graph.output, *model.graph.input):
        if not value.type.HasField("tensor_type"):
            continue
        kind, axes = value.type.tensor_type, None
        if kind.HasField("shape"):
            axes = tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim
            )
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else None
        found[value.name] = Value(dtype, axes)
    return found


def passed(
    node: Any, tensors: dict[str, np.ndarray], values: dict[str, Value], shapes: dict[str, np.ndarray]
) -> Any:
    """Return Identity in the place of a node that changes nothing; any other node as it is.

    Args:
        node: the node.
        tensors: the tensors of the file by name.
        values: what is known of the values by name.
        shapes: the values that are computed from shapes, by name.
    """
    from onnx import helper

    told = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    unknown = Value(None, None)
    before = values.get(node.input[0], unknown) if node.input else unknown
    after = values.get(node.output[0], unknown)
    match node.op_type:
        case "Cast":
            nothing = before.dtype is not None and before.dtype == helper.tensor_dtype_to_np_dtype(told["to"])
        case "Flatten":
            nothing = before.axes is not None and after.axes is not None and _alike(before.axes, after.axes)
        case "Reshape" if node.input[1] in shapes and before.axes is not None:
            axes, target = _named(node.input[0], before), list(shapes[node.input[1]])
            if not told.get("allowzero"):
                target = [a if t == 0 else t for a, t in zip(axes, target, strict=False)] + target[
                    len(axes) :
                ]
            nothing = _alike(axes, tuple(None if t == -1 else t for t in target))
        case "Transpose":
            nothing = "perm" in told and list(told["perm"]) == sorted(told["perm"])
        case "Dropout":
            nothing = all(name in tensors and not tensors[name].any() for name in node.input[2:] if name)
        case _:
            return node
    if not nothing or node.domain not in STANDARD or any(node.output[1:]):
        return node
    return helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name)


def followed(graph: Any, tensors: dict[str, np.ndarray], values: dict[str, Value]) -> dict[str, np.ndarray]:
    """Return the values that are computed from shapes, by name: arrays of lengths and of the names of axes.

    The inference of ONNX does not follow them in all versions of the operators.

    Args:
        graph: the ONNX graph.
        tensors: its tensors by name.
        values: what is known of its values by name.
    """
    from onnx import helper

    found = {name: value for name, value in tensors.items() if value.dtype == np.int64 and value.size < 99}
    for node in graph.node:
        told = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Shape" and values.get(node.input[0], Value(None, None)).axes is not None:
            axes = _named(node.input[0], values[node.input[0]])
            made = np.array(axes, object)[told.get("start", 0) : told.get("end", len(axes))]
        elif node.input and all(name in found for name in node.input):
            one, *others = (found[name] for name in node.input)
            axes = tuple(told.get("axes", others[0].tolist() if others and others[0].ndim == 1 else ()))
            match node.op_type:
                case "Gather":
                    made = np.asarray(np.take(one, others[0].astype(int), 0), object)
                case "Unsqueeze":
                    made = np.expand_dims(one, axes)
                case "Squeeze":
                    made = one.squeeze(axes or None)
                case "Concat":
                    made = np.concatenate([one, *others])
                case "Slice" if len(others) > 1:
                    made = one[slice(int(others[0][0]), int(others[1][0]), *map(int, np.ravel(others[3:4])))]
                case "Cast" | "Identity":
                    made = one
                case _:
                    continue
        else:
            continue
        found[node.output[0]] = made
    return found


def _named(name: str, value: Value) -> tuple[int | str, ...]:
    """Name the axes of a value, those without a name after it."""
    return tuple(f"{name}[{i}]" if axis is None else axis for i, axis in enumerate(value.axes or ()))


def _alike(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Tell whether two shapes of as many elements are one: all axes, or all but one, are known to be."""
    if len(some) != len(others):
        return False
    open_axes = [(a, b) for a, b in zip(some, others, strict=True) if a is None or a != b]
    return len(open_axes) <= 1 and not any(isinstance(a, int) and isinstance(b, int) for a, b in open_axes)
