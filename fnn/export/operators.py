"""The activations as operators of ONNX: one table, read from left to right by `onnx`, back by `from_onnx`."""

from typing import Any

import numpy as np

import fnn.activations.table as rows
from fnn.activations.table import Activation, Softmax

Attributes = dict[str, Any]

# One operator with attributes; where they are left out in a file, they have the value in DEFAULTS.
SINGLE: list[tuple[Activation, str, Attributes]] = [
    (rows.identity, "Identity", {}),
    (rows.relu, "Relu", {}),
    (rows.sigmoid, "Sigmoid", {}),
    (rows.tanh, "Tanh", {}),
    (rows.softplus, "Softplus", {}),
    (rows.softsign, "Softsign", {}),
    (rows.mish, "Mish", {}),
    (rows.hard_silu, "HardSwish", {}),
    (rows.hard_sigmoid, "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    (rows.selu, "Selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    (rows.gelu, "Gelu", {"approximate": "none"}),
    (rows.gelu_tanh, "Gelu", {"approximate": "tanh"}),
]
DEFAULTS: dict[str, Attributes] = {
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Selu": {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805},
    "Gelu": {"approximate": "none"},
}
# One operator with a parameter: how it is made, the operator, and the parameter where it is left out.
MADE = [(rows.leaky_relu_with, "LeakyRelu", 0.01), (rows.elu_with, "Elu", 1.0), (rows.celu_with, "Celu", 1.0)]
# A clip between two numbers.
CLIPPED = [(rows.relu6, (0.0, 6.0)), (rows.hard_tanh, (-1.0, 1.0))]
# Several operators; their inputs are numbered: 0 is the layer's input, i the output of the i-th operator.
COMPOSED: list[tuple[Activation, list[tuple[str, tuple[int, ...]]]]] = [
    (rows.silu, [("Sigmoid", (0,)), ("Mul", (0, 1))]),
    (rows.relu_squared, [("Relu", (0,)), ("Mul", (1, 1))]),
    (rows.log_sigmoid, [("Neg", (0,)), ("Softplus", (1,)), ("Neg", (2,))]),
]


def write(graph: Any, layer: Any, v: str) -> bool:
    """Write an activation behind the value `v` of a graph; tell whether it has a counterpart."""
    if isinstance(layer, Softmax):
        graph.node("Softmax", [v], axis=layer.axis)
        return True
    for activation, steps in COMPOSED:
        if layer == activation:
            names = [v]
            for operator, inputs in steps:
                names.append(graph.node(operator, [names[i] for i in inputs]))
            return True
    for activation, limits in CLIPPED:
        if layer == activation:
            graph.node("Clip", [v, *(graph.number(limit) for limit in limits)])
            return True
    for activation, operator, attributes in SINGLE:
        if layer == activation:
            graph.node(operator, [v], **attributes)
            return True
    parameter = getattr(getattr(layer, "f", None), "parameter", None)
    for make, operator, _ in MADE:
        if parameter is not None and layer == make(parameter):
            graph.node(operator, [v], alpha=parameter)
            return True
    return False


def read_composed(nodes: list[Any], v: str) -> tuple[Activation, int] | None:
    """Find an activation of several operators that the nodes begin with: it, and the number of its nodes."""
    for activation, steps in COMPOSED:
        if len(nodes) < len(steps):
            continue
        names = [v, *(node.output[0] for node in nodes[: len(steps)])]
        if all(
            node.op_type == operator and sorted(node.input) == sorted(names[i] for i in inputs)
            for node, (operator, inputs) in zip(nodes, steps, strict=False)
        ):
            return activation, len(steps)
    return None


def read(operator: str, attributes: Attributes, numbers: list[float]) -> Any:
    """Return the activation that an operator is, with the numbers among its inputs; None for another one."""
    if operator == "Softmax":
        return Softmax(attributes.get("axis", -1))
    if operator == "Clip":
        return next((activation for activation, limits in CLIPPED if numbers == list(limits)), None)
    for make, name, default in MADE:
        if (
            operator == name
        ):  # a file holds float32: 0.01 is found again as the shortest number that rounds to it
            return make(float(str(np.float32(attributes.get("alpha", default)))))
    told = DEFAULTS.get(operator, {}) | attributes
    return next((a for a, name, own in SINGLE if name == operator and _same(told, own)), None)


def _same(some: Attributes, others: Attributes) -> bool:
    return some.keys() == others.keys() and all(
        _text(value) == _text(others[name])
        if isinstance(others[name], str)
        else np.float32(value) == np.float32(others[name])
        for name, value in some.items()
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
