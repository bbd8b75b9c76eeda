"""EKFAC: the exact diagonal of the GGN in the eigenbasis of Kronecker factors."""

from collections.abc import Callable
from typing import Any

import jax

from fnn.arrays import canonical
from fnn.core import Layer, Params, forward
from fnn.curvature.eigen import Eigen, check_blocks, rotated
from fnn.curvature.ggn import over_seeds
from fnn.factors import Form
from fnn.keys import split_key
from fnn.losses.objective import Objective
from fnn.readers.coupling import check_uncoupled
from fnn.readers.moments import sum_of_squares
from fnn.readers.seeding import check_begins, without_params
from fnn.readers.seeds import backward_seeds, check_fisher, curvature_seeds, seeded_reader


def ekfac(net: Layer, loss: Objective, fisher: str = "exact", *, samples: int = 1) -> Callable[..., Any]:
    """Return a function `(params, x, target, blocks, key=None) -> blocks` that corrects the eigenvalues.

    In the eigenbasis the diagonal of the GGN is known exactly: the squares of the example gradients U^T g V,
    summed over seeds and examples. With these eigenvalues a block is the nearest to the GGN in this basis.

    Args:
        net: the network, any layer.
        loss: a loss without params.
        fisher: "exact", "sampled" or "empirical", as for `ggn_diagonal`; tokens are handled as there.
        samples: how many targets are drawn for each row where `fisher` is "sampled".

    Args of the function:
        params, x, target, key: as for `ggn_diagonal`.
        blocks: the tree of `Eigen` that `eigen` returned; the result is like it.

    Raises:
        InputError: as `ggn_diagonal`, and where `blocks` does not begin like the params, or a block is no
            `Eigen`.

    Cost: a pass as that of `ggn_diagonal`, and 2n(k^2 + c j^2) flops a layer.
    Source: George et al. 2018.

    >>> import fnn, jax.numpy as jnp
    >>> net, loss, x = fnn.Dense(1, bias=False), fnn.half_squared_error(), jnp.ones((2, 1))
    >>> params, target = {"kernel": jnp.ones((1, 1))}, jnp.zeros((2, 1))
    >>> blocks = fnn.curvature.eigen(fnn.curvature.kronecker_factors(net, loss)(params, x, target).factors)
    >>> ekfac(net, loss)(params, x, target, blocks)["kernel"].values.round(3)
    Array([[1.]], dtype=float32)
    """
    loss = without_params("ekfac", loss, net)
    check_fisher("ekfac", loss, fisher)

    def run(params: Params, x: Any, target: Any, blocks: Any, key: Any = None) -> Any:
        params, x, target, blocks = canonical((params, x, target, blocks))
        check_uncoupled("ekfac", net, params, x)
        fix = "fnn.curvature.eigen(factors)"
        check_begins("ekfac", blocks, params, "tree of blocks", fix)
        check_blocks("ekfac", blocks, Eigen, fix)
        of_net, of_sample = split_key("ekfac", key)
        y, residuals = forward(net, params, x, of_net)
        seeds = curvature_seeds(loss, fisher, y, target, of_sample, samples, per_token=fisher != "empirical")
        found = backward_seeds(net, params, residuals, seeds, blocks, read=_corrected)
        return jax.tree.map(lambda own: None if own.values is None else own, found, is_leaf=_is_eigen)

    return run


@seeded_reader
def _corrected(factor: Form, param: Any, own: Eigen | None) -> Eigen:
    if own is None:  # a bias that is joined to its weight: the values stand there
        return Eigen(None, None, None)
    shape = jax.ShapeDtypeStruct(own.values.shape, own.values.dtype)
    return own._replace(values=over_seeds(sum_of_squares, rotated(factor, param, own), shape, shape.shape))


def _is_eigen(value: Any) -> bool:
    return isinstance(value, Eigen)
