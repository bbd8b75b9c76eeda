"""The activations as operators of ONNX, as `onnx` writes them."""

from collections.abc import Callable
from typing import Any

import fnn.activations.table as rows
from fnn.activations.table import Activation, Softmax, _With
from fnn.core import Layer
from fnn.export import expressed

Attributes = dict[str, Any]

# One operator with attributes.
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
# One operator with a parameter: how it is made, and the operator.
MADE: list[tuple[Callable[..., Activation], str]] = [
    (rows.leaky_relu_with, "LeakyRelu"),
    (rows.elu_with, "Elu"),
    (rows.celu_with, "Celu"),
]
# A clip between two numbers.
CLIPPED = [(rows.relu6, (0.0, 6.0)), (rows.hard_tanh, (-1.0, 1.0))]
# Several operators; their inputs are numbered: 0 is the layer's input, i the output of the i-th operator.
COMPOSED: list[tuple[Activation, list[tuple[str, tuple[int, ...]]]]] = [
    (rows.silu, [("Sigmoid", (0,)), ("Mul", (0, 1))]),
    (rows.relu_squared, [("Relu", (0,)), ("Mul", (1, 1))]),
    (rows.log_sigmoid, [("Neg", (0,)), ("Softplus", (1,)), ("Neg", (2,))]),
]


def write(graph: Any, layer: Layer, v: str) -> bool:
    """Write an activation to a graph, and return whether it has a counterpart.

    Args:
        graph: the `Graph`.
        layer: the activation.
        v: the name of its input.
    """
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
    match layer:
        case Activation(f=expressed.Expressed() as f):
            expressed.write(graph, f.expression, v)
            return True
        case Activation(f=_With(parameter=parameter)):
            for make, operator in MADE:
                if layer == make(parameter):
                    graph.node(operator, [v], alpha=parameter)
                    return True
    return False
