"""The diagonal of the generalized Gauss-Newton matrix, G = sum over rows of J^T H J.

J is the Jacobian of a row of the output by the params, H the Hessian of the row's loss by it. For the losses
with a likelihood G is the Fisher matrix (Martens 2020). Letters as in reading.py, c seeds.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.core import Layer, Params, forward
from fnn.factors import Factor, accumulator
from fnn.losses import Loss
from fnn.readers.examples import materialised
from fnn.readers.moments import sum_of_squares
from fnn.readers.seeding import check_apart, check_loss
from fnn.readers.seeds import backward_seeds, check_fisher, curvature_seeds, seeded_reader


def ggn_diagonal(
    net: Layer, loss: Loss, fisher: str = "exact", *, samples: int = 1, per_example: bool = False
) -> Callable[..., Any]:
    """Give a function `(params, x, target, key=None) -> diagonal`, a tree like the params.

    `fisher` is "exact", "sampled" (`samples` draws for each row, by `key`: right in the mean) or "empirical"
    (the squared gradients of the rows' own losses). The loss's reduction is in G: after a mean it is the
    mean's. `per_example` gives the diagonal of each example's own loss, (n, *param.shape), whatever the
    reduction.

    Exact for every network, tokens that mix included: the tokens of an example get seeds of their own, so
    outputs times tokens in all. Where tokens do not mix, folding them into the examples gives the same for
    fewer: `x.reshape(-1, k)`. Cost: c backward passes' input gradients, and for one token 2nkj flops a layer
    whatever c is, for more 2cntkj; c n j numbers. Source: Schraudolph 2002; Dangel et al. 2020.
    Raises InputError for a loss without a known Hessian and for a layer that couples examples.
    """
    check_loss("ggn_diagonal", loss)
    check_fisher("ggn_diagonal", loss, fisher)
    if per_example:
        loss = dataclasses.replace(loss, reduction="none")

    def run(params: Params, x: Any, target: Any, key: Any = None) -> Any:
        check_apart("ggn_diagonal", net, params, x)
        of_net, of_sample = (None, None) if key is None else jax.random.split(key)
        y, residuals = forward(net, params, x, of_net)
        seeds = curvature_seeds(loss, fisher, y, target, of_sample, samples, apart=fisher != "empirical")
        return backward_seeds(net, params, residuals, seeds, read=_each if per_example else _all)

    return run


@seeded_reader
def _all(factor: Factor, param: Any) -> Any:
    return over_seeds(sum_of_squares, factor, param, param.shape).astype(param.dtype)


@seeded_reader
def _each(factor: Factor, param: Any) -> Any:
    def squares(factor: Factor, param: Any) -> Any:
        return jnp.square(materialised(factor, param))

    shape = (factor.dz.shape[1], *param.shape)
    return over_seeds(squares, factor, param, shape).astype(param.dtype)


def over_seeds(squares: Callable[..., Any], factor: Factor, param: Any, shape: tuple[int, ...]) -> Any:
    """Sum `squares(factor, param)` over the seeds.

    With one token a squared gradient is linear in dz^2, so the seeds are added up first, root and all.
    """
    dz = factor.dz.astype(accumulator(factor.dz.dtype))
    if dz.shape[2] == 1:
        return squares(dataclasses.replace(factor, dz=jnp.sqrt(jnp.sum(jnp.square(dz), 0))), param)

    def step(total: Any, dz: Any) -> tuple[Any, None]:
        return total + squares(dataclasses.replace(factor, dz=dz), param), None

    return lax.scan(step, jnp.zeros(shape, dz.dtype), dz)[0]
