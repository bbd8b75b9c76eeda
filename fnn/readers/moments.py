"""The spread of the example gradients over a batch, by element: their second moment and their variance.

Letters and seeding as in examples.py.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import accumulator
from fnn.chunks import by_shard, over_chunks
from fnn.factors import Form, Outer, cotangent
from fnn.reader import gradient, reader
from fnn.readers.examples import materialised
from fnn.sharding import einsum, placed, sharding_along, sharding_of, shards_of, varying_axes, varying_like


@reader(like="param")
def second_moment(factor: Form, param: Any) -> Any:
    """Compute the mean over the examples of the squared gradients, by element: sum_i g_i^2 / n.

    Args:
        factor: the factor of the param, in its plain form.
        param: the param, (k, j) or of another shape.

    Returns:
        an array of the shape and dtype of the param.

    Cost: for one token 2nkj flops, as (X^2)^T (dZ^2) / n. For several tokens 2ntkj flops, by the gradients of
    a few examples at a time, in temporaries no larger than the factor or one gradient.
    Source: Dangel et al. 2020.

    >>> from fnn.factors import Total
    >>> print(second_moment(Total(jnp.array([[1.0], [3.0]])), jnp.zeros(1)))
    [5.]
    """
    n = cotangent(factor).shape[0]
    return (sum_of_squares(factor, param) / max(n, 1)).astype(param.dtype)


@reader(like="param")
def variance(factor: Form, param: Any) -> Any:
    """Compute the variance over the examples of the gradients, by element: sum_i (g_i - mean)^2 / n.

    The gradients are centred before they are squared, so that no digits cancel, as they would in the
    difference of the second moment and the squared mean. Multiply by n / (n - 1) for the unbiased variance.
    Of rows that are sharded each device centres by its own mean, and adds n_d (mean_d - mean)^2.

    Args:
        factor: the factor of the param, in its plain form.
        param: the param, (k, j) or of another shape.

    Returns:
        an array of the shape and dtype of the param.

    Cost: 4ntkj flops, by the gradients of a few examples at a time; temporaries as for `second_moment`.

    >>> from fnn.factors import Total
    >>> print(variance(Total(jnp.array([[1.0], [3.0]])), jnp.zeros(1)))
    [1.]
    """
    n, outside = cotangent(factor).shape[0], varying_axes(*jax.tree.leaves(factor))
    wide = param.astype(accumulator(cotangent(factor).dtype))

    def rule(mean: Any, g: Any, counted: Any) -> Any:
        return jnp.sum(jnp.where(counted, jnp.square(g - placed(mean, along_examples(g))[None]), 0), 0)

    def of_shard(wide: Any, factor: Form) -> tuple[Any, None]:
        inside = tuple(sorted(varying_axes(*jax.tree.leaves(factor)) - outside))
        own, of_all = cotangent(factor).shape[0], varying_like(wide, factor) if inside else wide
        total = gradient(factor, of_all)
        mean = total / max(own, 1)
        squares = _summed(rule, mean, factor, wide)
        if inside:  # from the device's own mean: none waits for the others' before its factor is done with
            squares += own * jnp.square(mean - placed(lax.psum(total, inside) / max(n, 1), sharding_of(mean)))
        return squares, None

    total = placed(by_shard(of_shard, wide, factor)[0], sharding_of(param))
    return (total / max(n, 1)).astype(param.dtype)


def sum_of_squares(factor: Form, param: Any) -> Any:
    """Compute the sum over the examples of the squared gradients.

    Args:
        factor: a factor in its plain form.
        param: the param, or its shape.

    Returns:
        an array of the shape of the param, in float32 or wider.
    """
    acc = accumulator(cotangent(factor).dtype)
    match factor:
        case Outer(x, dz) if dz.shape[1] == 1:
            x, dz = jnp.square(x.astype(acc)), jnp.square(dz.astype(acc))
            return einsum("ntk,ntj->kj", x, dz, like=param)
    return _summed(lambda _, g, counted: jnp.sum(jnp.square(g), 0), None, factor, param)


def _summed(rule: Callable[[Any, Any, Any], Any], shared: Any, factor: Form, param: Any) -> Any:
    """Sum `rule(shared, gradients, counted)` over the examples, as many at a time on each device as need no
    more memory there than the factor.
    """
    n, shards = cotangent(factor).shape[0], max(map(shards_of, jax.tree.leaves(factor)))
    room = sum(leaf.size for leaf in jax.tree.leaves(factor)) // max(1, math.prod(param.shape) * shards)
    like = jax.ShapeDtypeStruct(param.shape, param.dtype)

    def part(shared: Any, rows: Any, widen: Callable[[Any], Any]) -> tuple[Any, None]:
        own, counted = rows
        gradients = materialised(own, like)
        return rule(shared, gradients, counted.reshape(-1, *(1,) * param.ndim)), None

    counted = placed(jnp.ones(n, bool), sharding_along((cotangent(factor), 0)))
    total, _ = over_chunks(part, shared, (factor, counted), max(1, min(n // shards, room)), apart=True)
    return placed(total, sharding_of(param))


def along_examples(gradients: Any) -> Any:
    """Return the sharding that one gradient has among those of the examples."""
    return sharding_along(*((gradients, axis) for axis in range(1, gradients.ndim)))
