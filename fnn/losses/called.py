"""A head that is called: its value, differentiated by our rule, with the gradients made in the forward."""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.autodiff import with_rule
from fnn.losses.head_checks import checked
from fnn.losses.rows import held_back, scaled
from fnn.sharding import varying_like

if TYPE_CHECKING:
    from fnn.losses.linear import LinearCrossEntropy

Params = dict[str, Array]
In = Float[Array, "*n k"]
Labels = Int[Array, "*n"]


def called(head: "LinearCrossEntropy", params: Params, x: In, target: Labels, weights: Any) -> Any:
    """Return the value of a head, with a derivative by our rule.

    Where nothing is differentiated, it takes one product.

    Args:
        head: the head, a `LinearCrossEntropy`.
        params: its params.
        x: the rows, (..., k).
        target: the labels, (...) integers.
        weights: the weights of the rows or of the examples, or None.

    Returns:
        the value, () or, with reduction "none", (...).
    """

    def run(params: Params, x: In, target: Labels, weights: Any) -> tuple[Any, Any]:
        held = None
        if head.reduction == "none":  # the rows' cotangents are not known yet
            losses, gradients = head.losses(params, x, target), (params, x)
        else:
            params, x = varying_like((params, x), params, x, target, weights)  # each shard's own, for now
            coefficients, held = held_back(
                (x.dtype, head.logits(x).dtype), head.coefficients(x, target, weights)
            )
            losses, *gradients = head.gradients(params, x, target, coefficients, wide=held is not None)
        like = jax.tree.map(lambda leaf: jnp.zeros((), leaf.dtype), (params, x))
        saved = (losses, target, weights, *gradients, held, like)
        return head.counting.reduced(losses, target, weights), saved

    def pull(saved: Any, dvalue: Any) -> tuple[Any, Any, None, Any]:
        losses, target, weights, grads, dx, held, like = saved
        (dweights,) = jax.vjp(partial(head.counting.reduced, losses, target), weights)[1](dvalue)
        if head.reduction == "none":
            params, x = grads, dx
            coefficients = head.coefficients(x, target, weights) * dvalue
            _, grads, dx = head.gradients(params, x, target, coefficients)
        else:
            by = dvalue if held is None else dvalue * held.astype(dvalue.dtype)
            grads, dx = jax.tree.map(partial(scaled, by), (grads, dx), like)
        return grads, dx, None, dweights

    params, x, target, weights = checked(head, params, x, target, weights)
    plain = "head.value(params, x, target, weights)"
    return with_rule(head, plain, run, pull, params, x, target, weights, alone=head.value)
