"""Activations that fnn does not have, computed by the expression that a graph has for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from fnn.activations import piecewise, smooth
from fnn.activations.table import Activation
from fnn.export import expressions as e
from fnn.export.expressions import Expression


def _clip(x: Array, low: float, high: float) -> Array:
    """Hold by selections: so the derivative at a kink is the outer piece's, as in piecewise.py."""
    return jnp.where(x >= high, high, jnp.where(x <= low, low, x))


# By the name of the operator, with its arguments and numbers.
OPERATORS: dict[str, Callable[..., Any]] = {
    "Clip": _clip,
    "Reciprocal": jnp.reciprocal,
    "Sqrt": jnp.sqrt,
    "Exp": jnp.exp,
    "Log": jnp.log,
    "Abs": jnp.abs,
    "Erf": lax.erf,
    "Tanh": jnp.tanh,
    "Sigmoid": smooth.sigmoid,
    "Softplus": smooth.softplus,
    "Elu": smooth.elu,
    "Celu": smooth.celu,
    "LeakyRelu": piecewise.leaky_relu,
    "Greater": jnp.greater,
    "GreaterOrEqual": jnp.greater_equal,
    "Where": jnp.where,
}


@dataclass(frozen=True)
class Expressed:
    """A function of x by its expression; two of the same expression are equal.

    Args:
        expression: the expression.
    """

    expression: Expression

    def __call__(self, x: Array) -> Array:
        """f(x), of x's shape and dtype."""
        return jnp.broadcast_to(jnp.asarray(_computed(self.expression, x), x.dtype), x.shape)

    def __str__(self) -> str:
        return _written(self.expression)


def activation_of(expression: Expression) -> Activation | None:
    """Return an activation that computes an expression; None where that is a number, or not elementwise.

    Its derivative is JAX's, of the input.
    """
    if e.number(expression) is not None or not e.operators(expression) <= OPERATORS.keys():
        return None
    f = Expressed(expression)
    return Activation(str(f), f)


def write(graph: Any, expression: Expression, v: str) -> str:
    """Write an expression to a graph, and return the name of its value.

    Args:
        graph: the `Graph`.
        expression: the expression.
        v: the name of the value that is its x.
    """
    value = e.number(expression)
    if value is not None:
        return graph.number(value)
    match expression:
        case ("x",):
            return v
        case ("sum" | "product" as kind, float(value), parts):
            neutral, operator = (0.0, "Add") if kind == "sum" else (1.0, "Mul")
            names = [write(graph, part, v) for part in parts]
            names += [graph.number(value)] if value != neutral else []
            made = names[0]
            for name in names[1:]:
                made = graph.node(operator, [made, name])
            return made
        case ("Elu" | "Celu" | "LeakyRelu" as operator, inner, alpha):
            return graph.node(operator, [write(graph, inner, v)], alpha=alpha)
    operator, *arguments = expression
    names = [graph.number(a) if isinstance(a, float) else write(graph, a, v) for a in arguments]
    return graph.node(operator, names)


def _computed(expression: Expression, x: Array) -> Any:
    match expression:
        case ("x",):
            return x
        case ("sum", value, parts):
            return sum((_computed(part, x) for part in parts), start=value)
        case ("product", value, parts):
            made = value
            for part in parts:
                made = made * _computed(part, x)
            return made
    operator, *arguments = expression
    return OPERATORS[operator](*(_computed(a, x) if isinstance(a, tuple) else a for a in arguments))


def _written(expression: Expression) -> str:
    """Write an expression as a formula."""
    match expression:
        case ("x",):
            return "x"
        case ("sum", value, parts):
            return f"({' + '.join([*map(_written, parts), *([f'{value:g}'] if value else [])])})"
        case ("product", value, parts):
            return " * ".join([*([f"{value:g}"] if value != 1 or not parts else []), *map(_written, parts)])
    operator, *arguments = expression
    shown = (_written(a) if isinstance(a, tuple) else f"{a:g}" for a in arguments)
    return f"{operator.lower()}({', '.join(shown)})"
