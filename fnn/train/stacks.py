"""The axes on which `Repeat` stacks params, and functions that are mapped over them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import shapes_of
from fnn.core import Layer, Params, backward, forward
from fnn.factors import Factor
from fnn.reader import Reader


def stack_rank(factor: Factor, param: Any) -> int:
    """Return the number of stacked axes of a param that is read with a factor for all of its stack.

    Args:
        factor: the factor of the whole stack, or a gradient.
        param: the param.
    """
    return param.ndim - factor.rank if isinstance(factor, Factor) else 0


def stacked_axes(net: Layer, params: Params, x: Any) -> Any:
    """Return a shape with the stacked axes of each param, () outside of `Repeat`; nothing is computed.

    Args:
        net: the network, any layer.
        params: its params or their shapes.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.
    """

    def one_each(params: Params, x: Any) -> Any:
        def read(factor: Factor, param: Any) -> Any:  # scans stack what they read as they stack params
            return jnp.zeros(param.shape[: stack_rank(factor, param)])

        y, residuals = forward(net, params, x)
        return backward(
            net, params, residuals, jax.tree.map(jnp.zeros_like, y), read=Reader(read, plain=False)
        )[0]

    return jax.eval_shape(one_each, *(shapes_of("update_in_backward", tree) for tree in (params, x)))


def over_stack(f: Callable[..., Any], axes: int) -> Callable[..., Any]:
    """Return a function that is mapped over leading axes.

    Args:
        f: the function.
        axes: the number of leading axes.
    """
    return f if axes == 0 else jax.vmap(over_stack(f, axes - 1))
