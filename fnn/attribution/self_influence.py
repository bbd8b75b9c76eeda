"""The influence of an example on its own loss."""

from typing import Any

import jax.numpy as jnp

from fnn.arrays import accumulator
from fnn.curvature.eigen import Eigen, check_blocks, damped, rotated
from fnn.factors import Examples, Form, Outer, Rows, cotangent
from fnn.reader import Reader, reader
from fnn.readers.examples import inner_product, materialised


def self_influence(damping: float) -> Reader:
    """Return a reader of g_i^T (F + damping I)^-1 g_i for each example.

    One token: (X U)^2 (1 / eigenvalues) (dZ V)^2. Several tokens: by the example gradients in the eigenbasis.

    Args:
        damping: a number > 0, added to the eigenvalues of each block exactly.

    Returns:
        a reader (n,) in float32 or wider, whose leaves are the `Eigen` blocks of F. A bias that is joined to
        its weight is counted there, and reads as zero itself.

    Raises:
        InputError: on a call, where a block is no `Eigen`, or the damping is not > 0 in its dtype.

    Cost: 2n(k^2 + j^2 + kj) flops for one token.

    >>> one = jnp.ones((1, 1))
    >>> factor, block = Outer(one, 3 * one), Eigen(one, one, one)
    >>> print(self_influence(damping=0.5)(factor, one, block))
    [6.]
    """

    @reader()
    def read(factor: Form, param: Any, own: Eigen | None) -> Any:
        if own is None:
            dz = cotangent(factor)
            return jnp.zeros(dz.shape[0], accumulator(dz.dtype))
        check_blocks("self_influence", own, Eigen, "fnn.curvature.eigen(factors)")
        turned, inverse = rotated(factor, param, own), 1 / damped("self_influence", own.values, damping)
        if not isinstance(turned, Examples) and turned.dz.shape[1] == 1:
            return inner_product(_squared(turned), inverse, inverse)
        squares = jnp.square(materialised(turned, inverse)) * inverse[None]
        return jnp.sum(squares, tuple(range(1, squares.ndim)))

    return read


def _squared(factor: Outer | Rows) -> Form:
    match factor:
        case Outer(x, dz):
            return Outer(jnp.square(x), jnp.square(dz))
        case Rows(index, dz):
            return Rows(index, jnp.square(dz))
