"""Products of the loss's second derivatives with a vector, a tree like the params; no matrix is made.

Forward-mode differentiation runs through fnn's backward pass, which is plain code. Every product belongs to
the value of the loss as reduced: the Hessian of a mean for a mean. The params are one vector w, v a
direction.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from fnn.arrays import canonical
from fnn.core import Layer, Params, backward, forward
from fnn.errors import InputError, check_number
from fnn.factors import is_factor
from fnn.keys import split_key
from fnn.losses.objective import Objective, value_and_grad
from fnn.reader import zip_readers
from fnn.readers.coupling import check_uncoupled
from fnn.readers.examples import inner_product, weighted_gradient
from fnn.readers.seeding import check_like, without_params
from fnn.readers.seeds import check_fisher, curvature_seeds
from fnn.readings import sum_over_params, unzip

Product = Callable[..., Any]


def hessian_product(net: Layer, loss: Objective) -> Product:
    """Return a function `(params, x, target, v, key=None, weights=None) -> H v`, H the Hessian.

    H v is the derivative along v of the gradient of the loss by w.

    Args:
        net: the network, any layer.
        loss: a loss without params, reduced to a number.

    Args of the function:
        params: the params of `net`.
        x: the input (n, ..., k).
        target: the targets of the loss.
        v: the direction, a tree like the params; so is the result.
        key: the random key for dropout, or None for no noise.
        weights: weights per example, as the loss takes them.

    Raises:
        InputError: where v is not like the params, or the loss has params.

    Cost: twice a gradient's flops.
    Source: Pearlmutter 1994.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> product = hessian_product(net, loss)
    >>> product(params, jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1)), params)
    {'kernel': Array([[5.]], dtype=float32)}
    """
    loss = without_params("hessian_product", loss, net)
    of = value_and_grad(net, loss, noise=False)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None, weights: Any = None) -> Any:
        params, v = canonical((params, v))
        check_like("hessian_product", v, params)
        return jax.jvp(lambda p: of(p, x, target, key, weights)[1], (params,), (v,))[1]

    return run


def ggn_product(net: Layer, loss: Objective) -> Product:
    """Return a function `(params, x, target, v, key=None, weights=None) -> G v`, G = J^T H J.

    J is the Jacobian of the outputs by w, H the Hessian of the loss by the outputs. Forward mode computes J v
    and, through the gradient of the loss, H J v; the backward pass computes the rest. For a loss with a
    likelihood G is the exact Fisher matrix; no root of H is needed, so every loss is accepted.

    Args:
        net: the network, any layer.
        loss: a loss without params.

    Args of the function:
        params, x, target, v, key, weights: as for `hessian_product`.

    Raises:
        InputError: where v is not like the params, or the loss has params.

    Cost: a forward pass with its derivative and a backward, about 4/3 of a gradient.
    Source: Schraudolph 2002.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> ggn_product(net, loss)(params, jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1)), params)
    {'kernel': Array([[5.]], dtype=float32)}
    """
    loss = without_params("ggn_product", loss, net)

    def run(params: Params, x: Any, target: Any, v: Any, key: Any = None, weights: Any = None) -> Any:
        params, v = canonical((params, v))
        check_like("ggn_product", v, params)
        y, along, residuals = jax.jvp(lambda p: forward(net, p, x, key), (params,), (v,), has_aux=True)
        _, dy = jax.jvp(lambda y: loss.value_and_grad(y, target, weights)[1], (y,), (along,))
        return backward(net, params, residuals, dy)[0]

    return run


def fisher_product(net: Layer, loss: Objective, fisher: str = "empirical", *, samples: int = 1) -> Product:
    """Return a function `(params, x, target, v, key=None) -> F v`, F = sum_i g_i g_i^T over the examples.

    F v = sum_i (g_i . v) g_i: inner products and weighted sum are read from the same factors. A mean loss
    divides F by its rows. `ggn_product` computes the product with the exact Fisher matrix.

    Args:
        net: the network, any layer.
        loss: a loss without params.
        fisher: "empirical": g_i is the gradient of the example's own loss; "sampled": that at targets drawn
            from the model, for each token apart, so that the mean of F is the GGN.
        samples: how many targets are drawn for each row where `fisher` is "sampled".

    Args of the function:
        params, x, target, v: as for `hessian_product`.
        key: a random key, for "sampled" and for dropout.

    Raises:
        InputError: where `fisher` is another or the loss lacks what it needs, v is not like the params, or a
            layer couples examples.

    Cost: one backward pass, 4nkj flops a layer.

    >>> import fnn
    >>> net, params = fnn.Dense(1, bias=False), {"kernel": jnp.ones((1, 1))}
    >>> loss = fnn.half_squared_error(reduction="sum")
    >>> fisher_product(net, loss)(params, jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1)), params)
    {'kernel': Array([[17.]], dtype=float32)}
    """
    loss = without_params("fisher_product", loss, net)
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
    """Return a function v -> (F + damping I)^-1 v that runs conjugate gradients.

    Args:
        product: a function v -> F v on trees like the params, such as `lambda v:
            fnn.curvature.ggn_product(net, loss)(params, x, target, v)`. F must have no eigenvalue below
            -damping: a GGN has none below zero, a Hessian may.
        damping: a number >= 0.
        tolerance: the solver stops where the norm of the residual is below `tolerance` |v|.
        steps: the most steps; each costs one product.

    Raises:
        InputError: where damping < 0.

    Source: Hestenes, Stiefel 1952; Martens 2010.

    >>> solve = conjugate_gradients(lambda v: 3 * v, damping=1.0)
    >>> solve(jnp.array([8.0]))
    Array([2.], dtype=float32)
    """
    fix = "fnn.curvature.conjugate_gradients(product, damping=1e-2)"
    check_number("conjugate_gradients", "damping >= 0", damping, lambda damping: damping >= 0, fix)

    def damped(v: Any) -> Any:
        return jax.tree.map(lambda a, b: a + jnp.asarray(damping, a.dtype) * b, product(v), v)

    return lambda v: cg(damped, canonical(v), tol=tolerance, maxiter=steps)[0]
