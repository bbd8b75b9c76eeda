"""The diagonal of the generalized Gauss-Newton matrix (GGN), G = sum over rows of J^T H J.

J is the Jacobian of a row of the output by the params, H the Hessian of the row's loss by that output. For
losses with a likelihood G is the Fisher matrix (Martens 2020). Letters: n examples, t tokens, k inputs, j
outputs, c seeds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import accumulator, canonical
from fnn.core import Layer, Params, forward
from fnn.factors import Examples, Form, cotangent, with_cotangent
from fnn.keys import split_key
from fnn.losses.objective import Objective
from fnn.readers.coupling import check_uncoupled
from fnn.readers.examples import materialised
from fnn.readers.moments import sum_of_squares
from fnn.readers.seeding import without_params
from fnn.readers.seeds import backward_seeds, check_fisher, curvature_seeds, seeded_reader
from fnn.sharding import zeros_like


def ggn_diagonal(
    net: Layer, loss: Objective, fisher: str = "exact", *, samples: int = 1, per_example: bool = False
) -> Callable[..., Any]:
    """Return a function `(params, x, target, key=None) -> diagonal`: the diagonal of the GGN.

    It is exact for every network, also where tokens mix: each token of an example gets seeds of its own,
    outputs times tokens in all. Where tokens do not mix, `x.reshape(-1, k)` gives the same result with fewer
    seeds.

    Args:
        net: the network, any layer.
        loss: a loss without params. Its reduction is in G: a mean loss gives the G of the mean.
        fisher: "exact"; "sampled", by targets drawn from the model, which is right in the mean; or
            "empirical", by the squared gradients of the rows' own losses.
        samples: how many targets are drawn for each row where `fisher` is "sampled".
        per_example: whether to return the diagonal of each example's own loss, whatever the reduction.

    Args of the function:
        params: the params of `net`.
        x: the input (n, ..., k), examples on axis 0.
        target: the targets of the loss.
        key: a random key, for "sampled" and for dropout.

    Returns of the function:
        a tree like the params; with `per_example` (n, *param.shape) for each, of a stacked param (layers, n,
        k, j): the examples' axis is where `fnn.readers.example_gradient` has it.

    Raises:
        InputError: where the loss has no known Hessian or has params, or a layer couples examples.

    Cost: c backward passes' input gradients, and a layer 2nkj flops for one token, 2cntkj for more; c n j
    numbers.
    Source: Schraudolph 2002; Dangel et al. 2020.

    >>> import fnn
    >>> net, loss, x = fnn.Dense(1, bias=False), fnn.half_squared_error(), jnp.array([[1.0], [3.0]])
    >>> ggn_diagonal(net, loss)({"kernel": jnp.ones((1, 1))}, x, jnp.zeros((2, 1)))["kernel"].round(3)
    Array([[5.]], dtype=float32)
    """
    loss = without_params("ggn_diagonal", loss, net)
    check_fisher("ggn_diagonal", loss, fisher)
    if per_example:
        loss = loss.with_reduction("none")

    def run(params: Params, x: Any, target: Any, key: Any = None) -> Any:
        params, x, target = canonical((params, x, target))
        check_uncoupled("ggn_diagonal", net, params, x)
        of_net, of_sample = split_key("ggn_diagonal", key)
        y, residuals = forward(net, params, x, of_net)
        seeds = curvature_seeds(loss, fisher, y, target, of_sample, samples, per_token=fisher != "empirical")
        return backward_seeds(net, params, residuals, seeds, read=_each if per_example else _all)

    return run


@seeded_reader
def _all(factor: Form, param: Any) -> Any:
    return over_seeds(sum_of_squares, factor, param, param.shape).astype(param.dtype)


@seeded_reader
def _each(factor: Form, param: Any) -> Any:
    def squares(factor: Form, param: Any) -> Any:
        return jnp.square(materialised(factor, param))

    shape = (cotangent(factor).shape[1], *param.shape)
    return over_seeds(squares, factor, param, shape).astype(param.dtype)


def over_seeds(squares: Callable[..., Any], factor: Form, param: Any, shape: tuple[int, ...]) -> Any:
    """Sum `squares(factor, param)` over the seeds.

    With one token a squared gradient is linear in dz^2, so one call with the root of the summed dz^2 does.

    Args:
        squares: a function of a factor (n, t, ...) and `param` that returns an array of shape `shape`.
        factor: a factor in its plain form with dz (c, n, t, j).
        param: the param.
        shape: the shape of the result.
    """
    dz = cotangent(factor)
    dz = dz.astype(accumulator(dz.dtype))
    if not isinstance(factor, Examples) and dz.shape[2] == 1:
        return squares(with_cotangent(factor, jnp.sqrt(jnp.sum(jnp.square(dz), 0))), param)

    def step(total: Any, dz: Any) -> tuple[Any, None]:
        return total + squares(with_cotangent(factor, dz), param), None

    first = jax.eval_shape(lambda dz: squares(with_cotangent(factor, dz[0]), param), dz)
    return lax.scan(step, zeros_like(first), dz)[0]
