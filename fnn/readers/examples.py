"""Readings of each example: its gradient, squared norm and inner products, and weighted sums of gradients.

The factors must be seeded with the gradient of the SUM of the example losses, as
`fnn.readers.losses_and_readings` does; after a mean over n losses each dz is n times too small. Letters: n
examples, t tokens, k inputs, j outputs. Costs are for an `Outer`; those of other factors are n t j flops.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator, index_inside
from fnn.errors import InputError, describe
from fnn.factors import Examples, Form, Outer, Rows, Total, cotangent
from fnn.reader import reader
from fnn.sharding import as_cotangent, einsum, gathered, on_mesh, placed, sharding_along, sharding_of
from fnn.summed import added_into_rows


@reader("concatenate", linear=True, like="param")
def example_gradient(factor: Form, param: Any) -> Any:
    """Compute the gradient of each example's loss: sum_t x_t dz_t^T.

    Args:
        factor: the factor of the param, in its plain form.
        param: the param, (k, j) or of another shape.

    Returns:
        an array (n, *param.shape) in the dtype of the param. A stacked param, of a `Repeat` or of a scan in a
        function, has its stacked axes first: of (layers, k, j) it is (layers, n, k, j). Where a function uses
        such a param transposed or reshaped, the examples come first: see `fnn.function.describe`, "Viewed".

    Cost: 2ntkj flops, and nkj numbers, which the other readers of this file do not need.

    >>> from fnn.factors import Total
    >>> example_gradient(Total(jnp.array([[1.0], [2.0]])), jnp.zeros(1))
    Array([[1.],
           [2.]], dtype=float32)
    """
    return materialised(factor, param).astype(param.dtype)


@reader("concatenate", like="order")
def squared_norm(factor: Form, param: Any) -> Any:
    """Compute the squared norm of each example's gradient, without the gradient itself where that is cheaper.

    One token: |x|^2 |dz|^2. Several tokens: the Gram form sum_ts (x_t . x_s) (dz_t . dz_s) where
    t (k + j) <= k j, else the squares of the gradients. The form chosen has fewer flops, and temporaries no
    larger than the factor. The Gram form has a rounding error relative to (sum_t |x_t| |dz_t|)^2; a result
    below zero is returned as zero. A norm above 1e19 overflows float32.

    Args:
        factor: the factor of the param, in its plain form.
        param: the param, (k, j) or of another shape.

    Returns:
        an array (n,) in float32 or wider, behind the stacked axes of a stacked param.

    Cost: 2n(k + j) flops for one token, else 2nt min(t (k + j), k j).
    Source: Goodfellow 2015 (one token); Li et al. 2022 (Gram form).

    >>> print(squared_norm(Outer(jnp.array([[1.0, 2.0]]), jnp.array([[3.0]])), jnp.zeros((2, 1))))
    [45.]
    """
    acc = accumulator(cotangent(factor).dtype)
    match factor:
        case Outer(x, dz) if dz.shape[1] == 1:
            return _squares(x.astype(acc)) * _squares(dz.astype(acc))
        case Outer(x, dz) if gram_is_cheaper(dz.shape[1], *param.shape):
            return jnp.maximum(0, jnp.sum(_token_gram(x, acc) * _token_gram(dz, acc), (1, 2)))
        case Rows(index, dz):
            return _squares(_merged(index, dz, param.shape[0]))
    return _squares(materialised(factor, param))


@reader("concatenate", linear=True, like="order")
def inner_product(factor: Form, param: Any, direction: Any) -> Any:
    """Compute the inner product of each example's gradient with a direction v: sum_t (x_t v) . dz_t.

    Args:
        factor: the factor of the param, in its plain form.
        param: the param, (k, j) or of another shape.
        direction: the leaf of the further tree, of the shape of the param.

    Returns:
        an array (n,) in float32 or wider.

    Raises:
        InputError: where the direction has another shape than the param.

    Cost: 2ntkj flops; no gradient is made.

    >>> print(inner_product(Total(jnp.array([[1.0], [2.0]])), jnp.zeros(1), jnp.ones(1)))
    [1. 2.]
    """
    if jnp.shape(direction) != param.shape:
        fix = "jax.tree.map(jnp.zeros_like, params)"
        raise InputError("inner_product", f"a direction {describe(param)}", describe(direction), fix)
    acc = accumulator(cotangent(factor).dtype, direction.dtype)
    v = direction.astype(acc)
    match factor:
        case Outer(x, dz):
            along = einsum("ntk,kj->ntj", x.astype(acc), gathered(v, [(x, 0), (x, 1)]))
        case Total(dz):
            along = v[None, None]
        case Rows(index, dz):
            take = partial(jnp.take, axis=0, mode="fill", fill_value=0)
            along = on_mesh(take, sharding_of(dz), v, index_inside(index, v.shape[0]))
        case Examples(g):
            return on_mesh(partial(jnp.tensordot, axes=v.ndim), sharding_along((g, 0)), g.astype(acc), v)
    return jnp.sum(placed(along, _broadcast(dz, along)) * dz.astype(acc), (1, 2))


@reader("sum", linear=True, sliced=True, like="param")
def weighted_gradient(factor: Form, param: Any, weights: Any) -> Any:
    """Compute the sum of the example gradients, each multiplied by a weight c: x^T (c * dz).

    Args:
        factor: the factor of the param, in its plain form.
        param: the param, (k, j) or of another shape.
        weights: the leaf of the further tree, (n,), behind the stacked axes of the param. An example of
            weight zero adds zero even where its gradient is not finite.

    Returns:
        an array of the shape and dtype of the param.

    Cost: that of the gradient, 2ntkj flops, and n t (k + j) selections.

    >>> print(weighted_gradient(Total(jnp.array([[1.0], [2.0]])), jnp.zeros(1), jnp.array([0.0, 0.5])))
    [1.]
    """
    whole = cotangent(factor)
    acc = accumulator(whole.dtype)

    def only_counted(leaf: Any) -> Any:
        return jnp.where(_to_rank(weights == 0, leaf), 0, leaf)

    dz = only_counted(whole.astype(acc) * _to_rank(weights.astype(acc), whole))
    match factor:
        case Outer(x, _):
            total = einsum("ntk,ntj->kj", only_counted(x), dz.astype(x.dtype), dtype=acc, like=param)
        case Total(_):
            total = jnp.sum(dz, (0, 1))
        case Rows(index, _):
            total = added_into_rows(index, dz, param)
        case Examples(_):
            total = jnp.sum(dz, 0)
    return as_cotangent(total.astype(param.dtype), param)


def materialised(factor: Form, param: Any) -> Any:
    """Compute the example gradients of a factor.

    Args:
        factor: a factor in its plain form.
        param: the param, or its shape.

    Returns:
        an array (n, *param.shape) in float32 or wider.
    """
    acc = accumulator(cotangent(factor).dtype)
    match factor:
        case Outer(x, dz):
            return einsum("ntk,ntj->nkj", x, dz, dtype=acc)
        case Total(dz):
            return jnp.sum(dz, 1, dtype=acc)
        case Examples(g):
            return g.astype(acc)
        case Rows(index, dz):
            add = jax.vmap(lambda i, d: jnp.zeros(param.shape, acc).at[i].add(d, mode="drop"))
            own = sharding_along((dz, 0), (dz, None), (dz, 2))
            return on_mesh(add, own, index_inside(index, param.shape[0]), dz.astype(acc))


def gram_is_cheaper(t: int, k: int, j: int) -> bool:
    """Return whether products of token pairs, t^2 (k + j) flops, cost no more than a gradient, t k j flops.

    Args:
        t: the number of tokens.
        k: the number of inputs.
        j: the number of outputs.
    """
    return t * (k + j) <= k * j


def _squares(rows: Any) -> Any:
    return jnp.sum(jnp.square(rows), tuple(range(1, rows.ndim)))


def _token_gram(rows: Any, acc: Any) -> Any:
    return einsum("ntk,nsk->nts", rows, rows, dtype=acc)


def _merged(index: Any, dz: Any, size: int) -> Any:
    """Add up the tokens of an example that name the same row: (n, t, j), one entry for each row named."""
    acc, t = accumulator(dz.dtype), index.shape[1]
    inside = (index >= 0) & (index < size)
    dz = jnp.where(inside[..., None], dz.astype(acc), 0)

    def merge(index: Any, dz: Any) -> Any:
        place = jnp.unique(index, size=t, return_inverse=True)[1]
        return jax.ops.segment_sum(dz, place, t)

    return dz if t == 1 else on_mesh(jax.vmap(merge), sharding_of(dz), index, dz)


def _broadcast(dz: Any, along: Any) -> Any:
    """Return the sharding of what is multiplied with `dz`, and may have one row for all."""
    own = [(dz, axis if along.shape[axis] == dz.shape[axis] else None) for axis in range(dz.ndim)]
    return sharding_along(*own)


def _to_rank(vector: Any, leaf: Any) -> Any:
    return vector.reshape(-1, *(1,) * (leaf.ndim - 1))
