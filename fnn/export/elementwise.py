"""Nodes of ONNX as expressions: what each elementwise operator computes, in all versions of its schema."""

import math
from typing import Any, NamedTuple

import numpy as np

from fnn.export import expressions as e
from fnn.export.expressions import Expression

_PLAIN = "Sqrt", "Exp", "Abs", "Erf", "Tanh", "Sigmoid", "Softplus"
_SELU = 1.6732632423543772, 1.0507009873554805
_SIXTH = 1 / 6


class Operator(NamedTuple):
    """What the expression of a node depends on.

    Args:
        name: the node's operator.
        attributes: its attributes by name.
        axes: the axes that it reduces over, or None.
        dtype: the dtype of its input.
        rank: the number of axes of its input, or None where it is not known.
    """

    name: str
    attributes: dict[str, Any]
    axes: tuple[int, ...] | None
    dtype: Any
    rank: int | None

    def told(self, name: str, otherwise: float, *exact: float) -> float:
        """Return an attribute that is a number, read by `decimal`.

        Args:
            name: the attribute's name.
            otherwise: the number where there is no such attribute.
            exact: numbers that it may be, in full precision.
        """
        return decimal(self.attributes.get(name, otherwise), self.dtype, *exact)


def decimal(value: float, dtype: Any, *exact: float) -> float:
    """Return the one of `exact` that rounds to a float32 number, or the shortest decimal number that does.

    Attributes are float32 in the format: an exporter wrote 0.009999999776482582 for 0.01. Where a graph
    computes in float64 the difference is visible, and the number stays as it is.

    Args:
        value: the number.
        dtype: the dtype that the graph computes in.
        exact: numbers that it may be, in full precision.
    """
    found = np.float32(value)
    return next(
        (x for x in exact if np.float32(x) == found), float(found if dtype == np.float64 else str(found))
    )


def expression(operator: Operator, arguments: list[Expression | None]) -> Expression | None:
    """Return the expression of a node; None where it is not elementwise.

    Args:
        operator: the node's operator.
        arguments: the expressions of its inputs, None for one that is left out.
    """
    x, *others = arguments
    if x is None:
        return None
    if operator.name in _PLAIN:
        return operator.name, x
    rest = [argument for argument in others if argument is not None]
    values = [None if argument is None else e.number(argument) for argument in others]
    return _arithmetic(operator, x, rest) or _activation(operator, x, values) or _choice(operator, x, rest)


def _arithmetic(operator: Operator, x: Expression, rest: list[Expression]) -> Expression | None:
    match operator.name, rest:
        case "Identity", []:
            return x
        case "Log", []:
            whole = x[0] == "sum" and x[1] == 1 and len(x[2]) == 1 and x[2][0][0] == "Exp"
            return ("Softplus", x[2][0][1]) if whole else ("Log", x)
        case "Neg", []:
            return e.scaled(-1, x)
        case "Reciprocal", []:
            return e.reciprocal(x)
        case "Add" | "Sum", _:
            return e.total(x, *rest)
        case "Mul", [y]:
            return e.product(x, y)
        case "Sub", [y]:
            return e.total(x, e.scaled(-1, y))
        case "Div", [y]:
            return e.product(x, e.reciprocal(y))
        case "Pow", [y]:
            return _power(x, e.number(y))
        case "ReduceMean", _ if operator.attributes.get("keepdims", 1) and operator.axes is not None:
            last = (-1,) if operator.rank is None else (operator.rank - 1,)
            axes = tuple(a + (operator.rank or 0) if a < 0 else a for a in operator.axes)
            return e.mean(x) if axes == last else None
    return None


def _power(x: Expression, exponent: float | None) -> Expression | None:
    if exponent is None or 2 * exponent % 1 or not 0 < abs(exponent) <= 4:
        return None
    whole = [x] * int(abs(exponent))
    power = e.product(*whole, *([("Sqrt", x)] if exponent % 1 else []))
    return power if exponent > 0 else e.reciprocal(power)


def _activation(operator: Operator, x: Expression, values: list[float | None]) -> Expression | None:
    match operator.name:
        case "Relu":
            return e.clip(x, 0.0, math.inf)
        case "Clip":
            low, high = ([*values, None, None])[:2]
            low = operator.told("min", -math.inf) if low is None else low
            high = operator.told("max", math.inf) if high is None else high
            return e.clip(x, low, high)
        case "HardSigmoid":
            alpha, beta = operator.told("alpha", 0.2, _SIXTH), operator.told("beta", 0.5)
            return e.clip(e.total(e.scaled(alpha, x), e.constant(beta)), 0.0, 1.0)
        case "HardSwish":
            return e.product(x, e.clip(e.total(e.scaled(_SIXTH, x), e.constant(0.5)), 0.0, 1.0))
        case "Selu":
            alpha = operator.told("alpha", _SELU[0], _SELU[0])
            return e.scaled(operator.told("gamma", _SELU[1], _SELU[1]), ("Elu", x, alpha))
        case "Elu" | "Celu":
            return operator.name, x, operator.told("alpha", 1.0)
        case "LeakyRelu":
            return "LeakyRelu", x, operator.told("alpha", 0.01)
        case "PRelu" if values[0] is not None:
            return "LeakyRelu", x, values[0]
        case "Softsign":
            return e.product(x, e.reciprocal(e.total(e.constant(1.0), ("Abs", x))))
        case "Mish":
            return e.product(x, ("Tanh", ("Softplus", x)))
        case "Swish":
            return e.product(x, ("Sigmoid", e.scaled(operator.told("alpha", 1.0), x)))
        case "Gelu":
            return gelu_tanh(x) if operator.attributes.get("approximate", b"none") == b"tanh" else gelu(x)
    return None


def _choice(operator: Operator, x: Expression, rest: list[Expression]) -> Expression | None:
    values = [e.number(argument) for argument in (x, *rest)]
    match operator.name:
        case "Greater":
            return "Greater", x, rest[0]
        case "Less":
            return "Greater", rest[0], x
        case "GreaterOrEqual":
            return "GreaterOrEqual", x, rest[0]
        case "LessOrEqual":
            return "GreaterOrEqual", rest[0], x
        case "Where":
            return "Where", x, *rest
        case "Max" | "Min" if len(rest) == 1 and (values[0] is None) != (values[1] is None):
            bound, other = (values[0], rest[0]) if values[0] is not None else (values[1], x)
            assert bound is not None
            limits = (bound, math.inf) if operator.name == "Max" else (-math.inf, bound)
            return e.clip(other, *limits)
    return None


def gelu(x: Expression) -> Expression:
    """x (1 + erf(x / √2)) / 2."""
    return e.product(e.constant(0.5), x, e.total(e.constant(1.0), ("Erf", e.scaled(1 / math.sqrt(2), x))))


def gelu_tanh(x: Expression) -> Expression:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2."""
    inner = e.total(x, e.scaled(0.044715, e.product(x, x, x)))
    tanh = "Tanh", e.scaled(math.sqrt(2 / math.pi), inner)
    return e.product(e.constant(0.5), x, e.total(e.constant(1.0), tanh))
