"""Readings of pairs of examples: inner products of their gradients, and the tangent kernel of a network.

Letters and seeding as in examples.py.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator, canonical, same_shapes
from fnn.core import Layer, Params, backward, forward
from fnn.errors import InputError, describe
from fnn.factors import Factor, Form, Outer, Rows, cotangent
from fnn.reader import as_factors, reader, with_tokens
from fnn.readers.coupling import check_uncoupled
from fnn.readers.examples import gram_is_cheaper, materialised
from fnn.readings import sum_over_params
from fnn.sharding import einsum, on_mesh, placed, placed_like, sharding_along


@reader(like="order")
def gram(factor: Form, param: Any, *other: Factor) -> Any:
    """Compute the inner products of all pairs of example gradients.

    One token: (X X'^T) * (dZ dZ'^T). Several tokens: sum_ts (x_t . x'_s) (dz_t . dz'_s) where
    t (k + j) <= k j, else the products of the gradients themselves, nkj numbers.

    Args:
        factor: the factor of the param, in its plain form.
        param: the param, (k, j) or of another shape.
        other: none for the pairs within the batch; or the factor of another batch of m examples, the leaf of
            the tree that a pass with `fnn.readers.as_factors` returned, for the pairs between the two.

    Returns:
        an array (n, n), or (n, m), in float32 or wider.

    Cost: 2nm(k + j) flops for one token.

    >>> from fnn.factors import Total
    >>> print(gram(Total(jnp.array([[1.0], [3.0]])), jnp.zeros(1)))
    [[1. 3.]
     [3. 9.]]
    """
    theirs = with_tokens(other[0].form()) if other else factor
    acc = accumulator(cotangent(factor).dtype, cotangent(theirs).dtype)
    match factor, theirs:
        case Outer(x, dz), Outer(x_, dz_) if gram_is_cheaper(max(dz.shape[1], dz_.shape[1]), *param.shape):
            return jnp.sum(_pairs(x, x_, acc) * _pairs(dz, dz_, acc), (2, 3))
        case Rows(index, dz), Rows(index_, dz_) if max(dz.shape[1], dz_.shape[1]) ** 2 <= param.shape[0]:
            inside = (index >= 0) & (index < param.shape[0])
            index_ = placed(index_, sharding_along((index_, None), (index_, 1)))
            same = (index[:, None, :, None] == index_[None, :, None, :]) & inside[:, None, :, None]
            return jnp.sum(jnp.where(same, _pairs(dz, dz_, acc), 0), (2, 3))
    ours = materialised(factor, param)
    others = materialised(theirs, param)
    own = sharding_along((ours, 0), (others, 0))
    return on_mesh(partial(jnp.tensordot, axes=[[*range(1, ours.ndim)]] * 2), own, ours, others)


def tangent_kernel(net: Layer) -> Callable[..., Any]:
    """Return a function `(params, x, other=None, key=None) -> kernel`: the empirical neural tangent kernel.

    Args:
        net: the network, any layer whose output is one array.

    Args of the function:
        params: the params of `net`.
        x: n examples, (n, ..., k), or a pytree of such arrays.
        other: m examples like `x`, (m, ..., k), or None for `x` itself.
        key: the random key for dropout, or None for no noise.

    Returns of the function:
        an array (n, m, p, p). Entry [i, m, p, q] is the inner product, over all params, of the gradient of
        output p of example i of `x` and that of output q of example m of `other`. The outputs of an example,
        those of its tokens included, are in row-major order. No Jacobian is made.

    Raises:
        InputError: where a layer couples examples, or `other` is not like `x`.

    Cost: p backward passes' input gradients for each batch, nmpq(k + j) flops a layer, nmpq numbers.
    Source: Jacot, Gabriel, Hongler 2018.

    >>> import fnn
    >>> net, params, x = fnn.Dense(1), {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)}, jnp.eye(2)
    >>> print(fnn.readers.tangent_kernel(net)(params, x)[..., 0, 0])
    [[2. 1.]
     [1. 2.]]
    """

    def one_example(x: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)

    def run(params: Params, x: Any, other: Any = None, key: Any = None) -> Any:
        params, x, other = canonical((params, x, other))
        if other is not None and not same_shapes(one_example(v) for v in (x, other)):
            raise InputError(
                "tangent_kernel",
                f"other like x, {describe(x)}",
                describe(other),
                "jax.tree.map(lambda leaf: leaf[:m], x)",
            )
        check_uncoupled("tangent_kernel", net, params, x)
        y, residuals = forward(net, params, x, key)
        y_, residuals_ = (y, residuals) if other is None else forward(net, params, other, key)

        def pair(dy: Any, dy_: Any) -> Any:
            dy, dy_ = (placed_like(jnp.broadcast_to(d, y.shape), y) for d, y in ((dy, y), (dy_, y_)))
            theirs, _ = backward(net, params, residuals_, dy_, read=as_factors)
            return sum_over_params(backward(net, params, residuals, dy, theirs, read=gram)[0], axes=2)

        outputs = max(1, math.prod(y.shape[1:]))
        units = jnp.eye(outputs, dtype=y.dtype).reshape(outputs, 1, *y.shape[1:])
        return jax.vmap(jax.vmap(pair, (None, 0), 2), (0, None), 2)(units, units)

    return run


def _pairs(ours: Any, theirs: Any, acc: Any) -> Any:
    return einsum("ntk,msk->nmts", ours, theirs, dtype=acc)
