"""How the example gradients spread over a batch: their second moment and their variance, by element.

Letters and seeding as in examples.py.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator, einsum, placed, sharding_along, sharding_of
from fnn.factors import Form, Outer, cotangent, over_chunks
from fnn.reader import gradient, reader
from fnn.readers.examples import materialised


@reader(like="param")
def second_moment(factor: Form, param: Any) -> Any:
    """Read the mean over examples of the squared gradients, by element: as the param in shape and dtype.

    sum_i g_i^2 / n. One token: (X^2)^T (dZ^2) / n, 2nkj flops (Dangel et al. 2020). More tokens: the
    gradients of a few examples at a time, 2ntkj flops, temporaries no larger than the factor or one gradient.
    """
    n = cotangent(factor).shape[0]
    return (sum_of_squares(factor, param) / max(n, 1)).astype(param.dtype)


@reader(like="param")
def variance(factor: Form, param: Any) -> Any:
    """Read the variance over examples of the gradients, by element: as the param in shape and dtype.

    sum_i (g_i - mean)^2 / n, centred before it is squared, so that nothing cancels (the difference of the
    second moment and the squared mean does). For the unbiased one multiply by n / (n - 1).
    Cost: 4ntkj flops; the gradients of a few examples at a time, temporaries as for the second moment.
    """
    n, acc = cotangent(factor).shape[0], accumulator(cotangent(factor).dtype)
    mean = gradient(factor, param.astype(acc)) / max(n, 1)

    def rule(g: Any, counted: Any) -> Any:
        return jnp.sum(jnp.where(counted, jnp.square(g - placed(mean, along_examples(g))[None]), 0), 0)

    total = _summed(rule, factor, param)
    return (total / max(n, 1)).astype(param.dtype)


def sum_of_squares(factor: Form, param: Any) -> Any:
    """Return the sum over examples of the squared gradients of a factor (n, t, ...), in float32 or wider."""
    acc = accumulator(cotangent(factor).dtype)
    match factor:
        case Outer(x, dz) if dz.shape[1] == 1:
            x, dz = jnp.square(x.astype(acc)), jnp.square(dz.astype(acc))
            return einsum("ntk,ntj->kj", x, dz, like=param)
    return _summed(lambda g, counted: jnp.sum(jnp.square(g), 0), factor, param)


def _summed(rule: Callable[[Any, Any], Any], factor: Form, param: Any) -> Any:
    """Sum `rule(gradients, counted)` over the examples, as many at a time as take no more room than the factor.

    `counted` says which of these are examples, and not rows of zeros that fill a part up.
    """
    n = cotangent(factor).shape[0]
    room = sum(leaf.size for leaf in jax.tree.leaves(factor)) // max(1, math.prod(param.shape))

    def part(rows: Any, widen: Callable[[Any], Any]) -> tuple[Any, None]:
        own, counted = rows
        gradients = materialised(own, param)
        return rule(gradients, counted.reshape(-1, *(1,) * param.ndim)), None

    counted = placed(jnp.ones(n, bool), sharding_along((cotangent(factor), 0)))
    return placed(over_chunks(part, (factor, counted), max(1, min(n, room)))[0], sharding_of(param))


def along_examples(gradients: Any) -> Any:
    """Return the sharding that one gradient has among those of the examples."""
    return sharding_along(*((gradients, axis) for axis in range(1, gradients.ndim)))
