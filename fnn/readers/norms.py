"""Norms for clipping: with each the form of the gradients from which their weighted sum costs least."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn.factors import Chunked, Examples, Factor, Form, Outer, Total
from fnn.reader import Reader, as_factors
from fnn.readers.examples import gram_is_cheaper, materialised, squared_norm


def _norm_and_form(factor: Form, param: Any) -> tuple[Any, Form]:
    """Make the gradients of the examples once, where the norm takes them and they are the fewer numbers."""
    match factor:
        case Outer(_, dz) if dz.shape[1] == 1 or gram_is_cheaper(dz.shape[1], *param.shape):
            return squared_norm(factor, param), factor
        case Outer() | Total():
            g = materialised(factor, param)
            return jnp.sum(jnp.square(g), tuple(range(1, g.ndim))), Examples(g, factor.rank)
    return squared_norm(factor, param), factor


_plain = Reader(_norm_and_form, like=("order", "factor"))


def _read(factor: Factor, param: Any) -> tuple[Any, Any]:
    """Compute the squared norm of each example's gradient, and give what a weighted sum is made of.

    The second is the factor itself; or, where the norm is that of the example gradients (several tokens, more
    of them than makes the Gram form cheaper), these, so that a weighted sum needs no second product.

    Args:
        factor: the factor of the param.
        param: the param, (k, j) or of another shape.

    Returns:
        an array (n,) in float32 or wider, behind stacked axes, and a factor.

    Cost: that of `squared_norm`; no more numbers than the factor has.
    """
    if not isinstance(factor, Factor):
        return squared_norm(factor, param), factor  # which raises
    if param.ndim > factor.rank:
        return jax.vmap(_read)(factor, param)
    return (squared_norm(factor, param), factor) if isinstance(factor, Chunked) else _plain(factor, param)


# A head, whose factor is made in chunks, reads the two one by one.
norm_and_factor = Reader(_read, plain=False, readers=(squared_norm, as_factors))
