"""Products of the loss's second derivatives with a vector, a tree like the params; no matrix is made.

Forward mode runs through our backward, which is plain code. All give what belongs to the value of the
loss as it is reduced: a mean's Hessian for a mean. Params are one vector w, v the direction.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import Layer, Params, backward, forward, value_and_grad
from fnn.errors import InputError
from fnn.factors import is_factor
from fnn.losses import Loss
from fnn.readers.examples import inner_product, weighted_gradient
from fnn.readers.reading import apart, over_params, together
from fnn.readers.seeding import check_apart, check_like, check_loss
from fnn.readers.seeds import check_fisher, curvature_seeds

Product = Callable[..., Any]


def hessian_product(net: Layer, loss: Loss) -> Product:
    """Give a function `(params, x, target, v, key=None, weights=None) -> H v`, the Hessian times v.

    The derivative along v of the gradient. Cost: twice a gradient's flops. Source: Pearlmutter 1994.
    Raises InputError where v is not like the params.
    """
    check_loss("hessian_product", loss)
    of = value_and_grad(net, loss)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None, weights: Any = None) -> Any:
        check_like("hessian_product", v, params)
        return jax.jvp(lambda p: of(p, x, target, key, weights)[1], (params,), (v,))[1]

    return run


def ggn_product(net: Layer, loss: Loss) -> Product:
    """Give a function `(params, x, target, v, key=None, weights=None) -> G v`, G = J^T H J.

    J is the Jacobian of the outputs by w, H the Hessian of the loss by the outputs: forward mode gives J v
    and, through the loss's gradient, H J v; our backward gives the rest. For a loss with a likelihood this
    is the product with the exact Fisher matrix. Any loss will do, as no root of H is asked for.
    Cost: a forward pass with its derivative and a backward, about 4/3 of a gradient. Source: Schraudolph
    2002.
    """
    check_loss("ggn_product", loss)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None, weights: Any = None) -> Any:
        check_like("ggn_product", v, params)
        y, along, residuals = jax.jvp(lambda p: forward(net, p, x, key), (params,), (v,), has_aux=True)
        _, dy = jax.jvp(lambda y: loss.value_and_grad(y, target, weights)[1], (y,), (along,))
        return backward(net, params, residuals, dy)[0]

    return run


def fisher_product(net: Layer, loss: Loss, fisher: str = "empirical", *, samples: int = 1) -> Product:
    """Give a function `(params, x, target, v, key=None) -> F v`, F = sum_i g_i g_i^T over the examples.

    "empirical": g_i is the gradient of the example's own loss; "sampled": that at a target drawn from the
    model, `samples` times, by `key` (tokens are drawn apart, and mean F is the GGN). F v = sum_i (g_i . v)
    g_i: products and weighted sum are read off the same factors. A mean loss divides by its rows.
    Cost: one backward pass, 4nkj flops a layer. The exact F v is `ggn_product`'s.
    """
    check_loss("fisher_product", loss)
    check_fisher("fisher_product", loss, fisher)
    if fisher == "exact":
        fix = "fnn.ggn_product(net, loss)"
        raise InputError("fisher_product", 'fisher "empirical" or "sampled"', repr(fisher), fix)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None) -> Any:
        check_like("fisher_product", v, params)
        check_apart("fisher_product", net, params, x)
        of_net, of_sample = (None, None) if key is None else jax.random.split(key)
        y, residuals = forward(net, params, x, of_net)
        seeds = curvature_seeds(loss, fisher, y, target, of_sample, samples)

        def one(dy: Any) -> Any:
            read = together(inner_product, lambda factor, param, direction: factor)
            readings, _ = backward(net, params, residuals, dy, v, read=read)
            products, factors = apart(params, readings)
            total = over_params(products)
            along = jax.tree.map(lambda own: jnp.broadcast_to(total, own.shape), products)
            return jax.tree.map(weighted_gradient, factors, params, along, is_leaf=is_factor)

        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(one)(seeds))

    return run
