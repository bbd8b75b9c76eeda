"""Products of the loss's second derivatives with a vector, a tree like the params; no matrix is made.

Forward mode runs through our backward, which is plain code. All give what belongs to the value of the
loss as it is reduced: a mean's Hessian for a mean. Params are one vector w, v the direction.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from fnn.arrays import canonical
from fnn.core import Layer, Params, backward, forward
from fnn.errors import InputError, split_key
from fnn.factors import is_factor
from fnn.losses.objective import Objective, value_and_grad
from fnn.reader import sum_over_params, unzip, zip_readers
from fnn.readers.coupling import check_uncoupled
from fnn.readers.examples import inner_product, weighted_gradient
from fnn.readers.seeding import check_like, refuted, without_params
from fnn.readers.seeds import check_fisher, curvature_seeds

Product = Callable[..., Any]


def hessian_product(net: Layer, loss: Objective) -> Product:
    """Return a function `(params, x, target, v, key=None, weights=None) -> H v`, the Hessian times v.

    The derivative along v of the gradient. Cost: twice a gradient's flops. Source: Pearlmutter 1994.
    Raises InputError where v is not like the params.
    """
    loss = without_params("hessian_product", loss)
    of = value_and_grad(net, loss, noise=False)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None, weights: Any = None) -> Any:
        params, v = canonical((params, v))
        check_like("hessian_product", v, params)
        return jax.jvp(lambda p: of(p, x, target, key, weights)[1], (params,), (v,))[1]

    return run


def ggn_product(net: Layer, loss: Objective) -> Product:
    """Return a function `(params, x, target, v, key=None, weights=None) -> G v`, G = J^T H J.

    J is the Jacobian of the outputs by w, H the Hessian of the loss by the outputs: forward mode gives J v
    and, through the loss's gradient, H J v; our backward gives the rest. For a loss with a likelihood this
    is the product with the exact Fisher matrix. Any loss will do, as no root of H is asked for.
    Cost: a forward pass with its derivative and a backward, about 4/3 of a gradient. Source: Schraudolph
    2002.
    """
    loss = without_params("ggn_product", loss)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None, weights: Any = None) -> Any:
        params, v = canonical((params, v))
        check_like("ggn_product", v, params)
        y, along, residuals = jax.jvp(lambda p: forward(net, p, x, key), (params,), (v,), has_aux=True)
        _, dy = jax.jvp(lambda y: loss.value_and_grad(y, target, weights)[1], (y,), (along,))
        return backward(net, params, residuals, dy)[0]

    return run


def fisher_product(net: Layer, loss: Objective, fisher: str = "empirical", *, samples: int = 1) -> Product:
    """Return a function `(params, x, target, v, key=None) -> F v`, F = sum_i g_i g_i^T over the examples.

    "empirical": g_i is the gradient of the example's own loss; "sampled": that at a target drawn from the
    model, `samples` times, by `key` (tokens are drawn apart, and mean F is the GGN). F v = sum_i (g_i . v)
    g_i: products and weighted sum are read off the same factors. A mean loss divides by its rows.
    Cost: one backward pass, 4nkj flops a layer. The exact F v is `ggn_product`'s.
    """
    loss = without_params("fisher_product", loss)
    check_fisher("fisher_product", loss, fisher)
    if fisher == "exact":
        fix = "fnn.curvature.ggn_product(net, loss)"
        raise InputError("fisher_product", 'fisher "empirical" or "sampled"', repr(fisher), fix)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None) -> Any:
        params, x, target, v = canonical((params, x, target, v))
        check_like("fisher_product", v, params)
        check_uncoupled("fisher_product", net, params, x)
        of_net, of_sample = split_key("fisher_product", key)
        y, residuals = forward(net, params, x, of_net)
        seeds = curvature_seeds(loss, fisher, y, target, of_sample, samples)

        def one(dy: Any) -> Any:
            read = zip_readers(inner_product, lambda factor, param, direction: factor)
            readings, _ = backward(net, params, residuals, dy, v, read=read)
            products, factors = unzip(params, readings)
            total = sum_over_params(products)
            along = jax.tree.map(lambda own: jnp.broadcast_to(total, own.shape), products)
            return jax.tree.map(weighted_gradient, factors, params, along, is_leaf=is_factor)

        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(one)(seeds))

    return run


def conjugate_gradients(
    product: Callable[[Any], Any], damping: Any, *, tolerance: float = 1e-6, steps: int = 100
) -> Callable[[Any], Any]:
    """Return a function v -> (F + damping I)^-1 v, by conjugate gradients, where `product` gives F v.

    `product` is, say, `lambda v: fnn.curvature.ggn_product(net, loss)(params, x, target, v)`. F must have no
    eigenvalue
    below -damping: a GGN has none below zero, a Hessian may. Stops where the residual is below `tolerance`
    |v|, or after `steps`; cost: a product each. Source: Hestenes, Stiefel 1952; Martens 2010.
    """
    if refuted(damping >= 0):
        fix = "fnn.curvature.conjugate_gradients(product, damping=1e-2)"
        raise InputError("conjugate_gradients", "damping >= 0", repr(damping), fix)

    def damped(v: Any) -> Any:
        return jax.tree.map(lambda a, b: a + jnp.asarray(damping, a.dtype) * b, product(v), v)

    return lambda v: cg(damped, canonical(v), tol=tolerance, maxiter=steps)[0]
