"""Backward passes from several seeds at once, as a root of the output Hessian has several columns.

A backward pass is linear in `dy`, so `jax.vmap` takes a matrix of seeds through it: residuals and inputs x
stay single, only dz gets an axis. A seeded reader sees that axis: its rule is called with factors in their
plain form whose dz has the seeds first, (c, n, t, j), and x as ever, (n, t, k).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import canonical, on_mesh, shapes_of, sharding_along, widened
from fnn.core import Layer, Params, Residuals, backward, forward
from fnn.errors import InputError, check_key, describe
from fnn.factors import Form, cotangent, is_factor, with_cotangent
from fnn.losses.objective import Objective
from fnn.reader import Reader, as_factors
from fnn.readers.coupling import check_loss_uncoupled
from fnn.reading import Stacked

AXIS = "fnn seeds"
FISHERS = ("exact", "sampled", "empirical")


def backward_seeds(net: Layer, params: Params, residuals: Residuals, seeds: Any, *trees: Any, read: Reader):
    """Run the network backwards from each of the seeds, (c, *y.shape): give what a seeded reader reads."""

    def one(dy: Any) -> Any:
        return backward(net, params, residuals, dy, *trees, read=read)[0]

    return jax.vmap(one, axis_name=AXIS, out_axes=None)(seeds)


def seeded_reader(rule: Callable[..., Any], like: Any = None) -> Reader:
    """Make a reader of a rule for a factor with dz (c, n, t, j); only `backward_seeds` can run it."""

    @wraps(rule)
    def gathered(form: Form, param: Any, *leaves: Any) -> Any:
        dz = cotangent(form)
        own = sharding_along((dz, None), *((dz, axis) for axis in range(dz.ndim)))
        return rule(
            with_cotangent(form, on_mesh(lambda dz: lax.all_gather(dz, AXIS), own, dz)), param, *leaves
        )

    return Reader(gathered, like=like)


def check_fisher(who: str, loss: Objective, fisher: str) -> None:
    """Raise unless `fisher` is known, and the loss has the likelihood that it asks for."""
    if fisher not in FISHERS:
        raise InputError(
            who, f"fisher to be one of {FISHERS}", repr(fisher), f'fnn.{who}(net, loss, "exact")'
        )
    if fisher != "empirical" and loss.likelihood is None:
        fix = 'fisher="empirical", or fnn.Loss(rule, likelihood=...)'
        raise InputError(who, "a loss whose output Hessian is known", repr(loss), fix)


def curvature_seeds(
    loss: Objective,
    fisher: str,
    y: Any,
    target: Any,
    key: Any = None,
    samples: int = 1,
    per_token: bool = False,
) -> Any:
    """Return seeds s, (c, *y.shape), with sum_c s_c s_c^T the curvature of the loss at the output, row by
    row.

    "exact": the columns of the Hessian's root, one for each of the k outputs; "sampled": gradients at
    targets drawn from the model, divided by sqrt(samples), whose products have that Hessian as their
    mean; "empirical": the gradient at the data's own target (which is not the Hessian: Kunstner et al. 2019).
    The loss's reduction is in the seeds: after a mean each row has its share 1 / rows.
    `per_token` gives the rows of one example, its tokens, seeds of their own: products between tokens are
    then
    zero, as they are in the Hessian, at c times as many seeds.
    """
    check_loss_uncoupled("curvature_seeds", loss, y, target)
    y, target = canonical((y, target))
    wide = jax.tree.map(widened, y)
    if fisher == "exact":
        root = loss.likelihood.root  # pyright: ignore[reportOptionalMemberAccess]
        if isinstance(y, jax.Array):
            own = sharding_along((y, None), *((y, axis) for axis in range(y.ndim)))
            seeds = on_mesh(root, own, wide, target)
        else:
            seeds = root(wide, target)
    elif fisher == "sampled":
        check_key("curvature_seeds", key, "jax.random.key(0)")
        draw = loss.likelihood.sample  # pyright: ignore[reportOptionalMemberAccess]
        seeds = jax.vmap(lambda key: draw(key, wide, target))(jax.random.split(key, samples))
        seeds = jax.tree.map(lambda seed: seed / samples**0.5, seeds)
    else:
        each = loss.with_reduction("none")
        dy = each.pull((), wide, target, None, Stacked(as_factors, ((),)))[1]
        seeds = jax.tree.map(lambda seed: seed[None], dy)
    tokens = {leaf.shape[1:-1] for leaf in jax.tree.leaves(y)}
    if per_token and len(tokens) > 1:
        got = f"outputs {describe(y)}"
        raise InputError("curvature_seeds", "as many tokens in all outputs", got, 'fisher="empirical"')

    def finished(seeds: Any, y: Any) -> Any:
        weights = loss.row_weights(y.shape[:-1], seeds.dtype)
        if weights is not None:
            seeds = seeds * jnp.sqrt(weights)[None, ..., None]
        if per_token and y.ndim > 2:
            tokens = y[0, ..., 0].size
            mask = jnp.eye(tokens, dtype=seeds.dtype).reshape(tokens, 1, 1, *y.shape[1:-1], 1)
            seeds = (mask * seeds[None]).reshape(-1, *y.shape)
        return seeds.astype(y.dtype)

    return jax.tree.map(finished, seeds, y)


def factor_types(net: Layer, params: Params, x: Any) -> Any:
    """Return the type of each param's factor, a tree like the params; nothing is computed."""

    def factors(params: Params, x: Any) -> Any:
        y, residuals = forward(net, params, x)
        return backward(net, params, residuals, jax.tree.map(jnp.zeros_like, y), read=as_factors)[0]

    shapes = jax.eval_shape(factors, *(shapes_of("factor_types", tree) for tree in (params, x)))
    return jax.tree.map(lambda factor, _: type(factor), shapes, params, is_leaf=is_factor)
