"""A reader of one's own that says how it reads in parts, and a bare function that says nothing."""

import jax.numpy as jnp

from fnn.factors import Examples, Form, Outer, Rows, Total
from fnn.readers import reader


@reader("concatenate")
def largest_cotangent(factor, param):
    """Read the largest |dz| of each example, (n,)."""
    whole = factor.g if isinstance(factor, Examples) else factor.dz
    return jnp.abs(whole).max(tuple(range(1, whole.ndim)))


def squared_norms(factor: Form, param):
    """Read |gradient|^2 of each example, as the README does."""
    match factor:
        case Outer(x, dz):
            each = jnp.einsum("ntk,ntj->nkj", x, dz)
        case Total(dz):
            each = dz.sum(1)
        case Examples(g):
            each = g
        case Rows(index, dz):
            each = jnp.stack([jnp.zeros(param.shape).at[i].add(d) for i, d in zip(index, dz, strict=True)])
    return jnp.square(each).reshape(each.shape[0], -1).sum(1)
