"""The flops of matrix products and convolutions, counted in a JAX program before it is compiled."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax

from fnn.contract import run
from fnn.core import Layer, Params


def product_flops(layer: Layer, params: Params, x: Any) -> int:
    """Count the flops of the matrix products in a layer's forward: 2nkj for each.

    Args:
        layer: any layer.
        params: its params or their shapes.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.
    """
    return flops_of(jax.make_jaxpr(lambda params, x: run(layer, params, x, None)[0])(params, x))


def residual_flops(layer: Layer, params: Params, x: Any) -> int:
    """Count the flops to make a layer's residuals: its extras, and its output if the backward reads that.

    Args:
        layer: any layer.
        params: its params or their shapes.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.
    """

    def residuals(params: Params, x: Any) -> Any:
        y, extras = run(layer, params, x, None)
        return extras, y if "output" in layer.needs else ()

    return needed_flops(residuals, params, x)


def needed_flops(f: Callable[..., Any], *args: Any) -> int:
    """Count the flops that the outputs of `f(*args)` depend on; a compiler removes the others.

    Args:
        f: a function of arrays.
        args: its arguments, pytrees of arrays or `jax.ShapeDtypeStruct`s.
    """
    jaxpr = jax.make_jaxpr(f)(*args).jaxpr
    return flops_of(jaxpr, wanted=[True] * len(jaxpr.outvars))


def flops_of(jaxpr: Any, wanted: list[bool] | None = None) -> int:
    """Count the flops of the matrix products and convolutions in a program: 2nkj for a product.

    Args:
        jaxpr: the program, open or closed.
        wanted: a bool for each output, whether to count what it depends on; None to count everything.
    """
    inner = getattr(jaxpr, "jaxpr", jaxpr)  # a closed program has its open one inside
    live = None if wanted is None else {id(v) for v, want in zip(inner.outvars, wanted, strict=True) if want}
    total = 0
    for equation in reversed(inner.eqns):
        outputs = None
        if live is not None:
            outputs = [id(v) in live for v in equation.outvars]
            if not any(outputs):
                continue
            live |= {id(v) for v in equation.invars}
        total += _flops(equation)
        for value in equation.params.values():
            for program in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(program, "eqns"):
                    called = equation.primitive.name in ("jit", "pjit", "closed_call", "remat", "checkpoint")
                    which = outputs if called else None
                    total += equation.params.get("length", 1) * flops_of(program, which)
    return total


def _flops(equation: Any) -> int:
    sizes = [v.aval.shape for v in equation.invars if hasattr(v.aval, "shape")]
    match equation.primitive.name:
        case "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            return 2 * prod(equation.outvars[0].aval.shape) * prod(sizes[0][i] for i in contracted)
        case "conv_general_dilated":
            features = sizes[1][equation.params["dimension_numbers"].rhs_spec[0]]
            return 2 * prod(equation.outvars[0].aval.shape) * prod(sizes[1]) // max(1, features)
    return 0
