"""The expressions of fnn's activations and norms, by which they are recognized in a graph."""

import math
from collections.abc import Callable
from typing import Any

import fnn.activations.table as rows
from fnn.activations.table import Activation
from fnn.export import expressions as e
from fnn.export.elementwise import gelu, gelu_tanh
from fnn.export.expressions import Expression, X
from fnn.layers.norm import LayerNorm, RMSNorm

_SIX = e.clip(e.total(X, e.constant(3.0)), 0.0, 6.0)
_ONE = e.constant(1.0)

ACTIVATIONS: list[tuple[Activation, Expression]] = [
    (rows.relu, e.clip(X, 0.0, math.inf)),
    (rows.relu, ("Where", ("GreaterOrEqual", e.constant(0.0), X), e.constant(0.0), X)),
    (rows.relu6, e.clip(X, 0.0, 6.0)),
    (rows.hard_tanh, e.clip(X, -1.0, 1.0)),
    (rows.hard_sigmoid, e.scaled(1 / 6, _SIX)),
    (rows.hard_silu, e.product(e.constant(1 / 6), X, _SIX)),
    (rows.relu_squared, e.product(e.clip(X, 0.0, math.inf), e.clip(X, 0.0, math.inf))),
    (rows.selu, e.scaled(1.0507009873554805, ("Elu", X, 1.6732632423543772))),
    (rows.sigmoid, ("Sigmoid", X)),
    (rows.tanh, ("Tanh", X)),
    (rows.softsign, e.product(X, e.reciprocal(e.total(_ONE, ("Abs", X))))),
    (rows.softplus, ("Softplus", X)),
    (rows.log_sigmoid, ("Log", ("Sigmoid", X))),
    (rows.log_sigmoid, e.scaled(-1, ("Softplus", e.scaled(-1, X)))),
    (rows.silu, e.product(X, ("Sigmoid", X))),
    (rows.mish, e.product(X, ("Tanh", ("Softplus", X)))),
    (rows.gelu, gelu(X)),
    (rows.gelu_tanh, gelu_tanh(X)),
]


def _layer_norm(eps: float) -> Expression:
    centred = e.total(X, e.scaled(-1, e.mean(X)))
    return e.product(centred, _inverse_root(centred, eps))


def _rms_norm(eps: float) -> Expression:
    return e.product(X, _inverse_root(X, eps))


def _inverse_root(x: Expression, eps: float) -> Expression:
    return e.reciprocal(("Sqrt", e.total(e.mean(e.product(x, x)), e.constant(eps))))


# What has a number in it: the expression and the layer, each of that number.
WITH: list[tuple[Callable[[float], Expression], Callable[[float], Any]]] = [
    (lambda slope: ("LeakyRelu", X, slope), rows.leaky_relu_with),
    (lambda alpha: ("Elu", X, alpha), rows.elu_with),
    (lambda alpha: ("Celu", X, alpha), rows.celu_with),
    (_layer_norm, lambda eps: LayerNorm(eps, scale=False, bias=False)),
    (_rms_norm, lambda eps: RMSNorm(eps, scale=False)),
]


def layer_of(expression: Expression, tolerance: float) -> Any:
    """Return the layer without params that an expression is; None where it is none.

    A softplus that is replaced by x where x > t is softplus if the two differ by less than the tolerance.

    Args:
        expression: the expression.
        tolerance: the relative error of the numbers in it.

    Raises:
        InputError: for a number that the layer refuses.
    """
    for activation, known in ACTIVATIONS:
        if e.same(known, expression, tolerance):
            return activation
    for number in e.numbers(expression):
        for written, layer in WITH:
            if e.same(written(number), expression, tolerance):
                return layer(number)
        cut = "Where", ("Greater", X, e.constant(number)), X, ("Softplus", X)
        if number > 0 and e.same(cut, expression, tolerance):
            return rows.softplus if math.log1p(math.exp(-number)) <= tolerance * number else None
    return None
