"""Backward passes from several seeds at once, such as the columns of a root of the output Hessian.

A backward pass is linear in `dy`, so `jax.vmap` runs it for a matrix of seeds. Residuals and inputs x are not
copied; dz alone has an axis of seeds. A seeded reader sees this axis: its rule is called with factors in
their plain form whose dz is (c, n, t, j), seeds first, and whose x is (n, t, k).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import register_dataclass

from fnn.arrays import canonical, shapes_of, widened
from fnn.core import Layer, Params, Residuals, backward, forward
from fnn.errors import InputError, describe
from fnn.factors import Examples, Form, Outer, cotangent, is_factor, with_cotangent
from fnn.keys import check_key
from fnn.losses.objective import Objective
from fnn.reader import Reader, as_factors
from fnn.readers.coupling import check_loss_uncoupled
from fnn.readers.examples import materialised
from fnn.reading import Stacked
from fnn.sharding import on_mesh, sharding_along

AXIS = "fnn seeds"
FISHERS = ("exact", "sampled", "empirical")


@register_dataclass
@dataclass(frozen=True)
class Mutual(Outer):
    """The factor of a weight used as it is and transposed: dz of one use lies beside x of the other.

    Both arrays depend on the seed, so that a seeded reader reads the gradients of the examples.
    """


def backward_seeds(
    net: Layer, params: Params, residuals: Residuals, seeds: Any, *trees: Any, read: Reader
) -> Any:
    """Run the network backwards from each of several seeds.

    Args:
        net: the network, any layer.
        params: its params.
        residuals: those that `fnn.forward` returned.
        seeds: c cotangents of the output, (c, *y.shape), in the structure of the output.
        trees: further trees that begin like the params, for the leaves of the reader.
        read: a reader made by `seeded_reader`.

    Returns:
        the readings, a tree like the params.

    >>> import fnn
    >>> net, params, x = fnn.Bias(), {"bias": jnp.zeros(2)}, jnp.ones((3, 2))
    >>> y, residuals = fnn.forward(net, params, x)
    >>> size = fnn.readers.seeded_reader(lambda factor, param: jnp.array(factor.dz.shape))
    >>> print(fnn.readers.backward_seeds(net, params, residuals, jnp.ones((5, 3, 2)), read=size))
    {'bias': Array([5, 3, 1, 2], dtype=int32)}
    """

    def one(dy: Any) -> Any:
        return backward(net, params, residuals, dy, *trees, read=read)[0]

    return jax.vmap(one, axis_name=AXIS, out_axes=None)(seeds)


def seeded_reader(rule: Callable[..., Any], like: Any = None) -> Reader:
    """Return a reader of several seeds, which `backward_seeds` alone can run.

    Args:
        rule: `rule(factor, param, *leaves)`, for a factor in its plain form with dz (c, n, t, j).
        like: what the reading is like, as for `fnn.readers.Reader`.

    >>> seeded_reader(lambda factor, param: factor.dz.sum((1, 2))).joins is None
    True
    """

    @wraps(rule)
    def gathered(form: Form, param: Any, *leaves: Any) -> Any:
        if isinstance(form, Mutual):
            form = Examples(materialised(form, param), form.rank)
        dz = cotangent(form)
        own = sharding_along((dz, None), *((dz, axis) for axis in range(dz.ndim)))
        return rule(
            with_cotangent(form, on_mesh(lambda dz: lax.all_gather(dz, AXIS), own, dz)), param, *leaves
        )

    return Reader(gathered, like=like)


def check_fisher(who: str, loss: Objective, fisher: str) -> None:
    """Raise unless a loss has what a kind of Fisher matrix needs.

    Args:
        who: the name of the caller, for the error message.
        loss: one of `fnn.losses`.
        fisher: "exact", "sampled" or "empirical".

    Raises:
        InputError: where `fisher` is none of these, or the loss has no likelihood and `fisher` needs one.
    """
    fix = f'fnn.curvature.{who}(net, loss, "empirical")'
    if fisher not in FISHERS:
        raise InputError(who, f"fisher to be one of {FISHERS}", repr(fisher), fix)
    if fisher != "empirical" and loss.likelihood is None:
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
    """Return seeds s with sum_c s_c s_c^T the curvature of the loss at the output, row by row.

    Args:
        loss: one of `fnn.losses`; its reduction is in the seeds: a mean gives each row its share 1 / rows.
        fisher: "exact": the columns of the Hessian's root, one for each of the k outputs. "sampled":
            gradients at targets drawn from the model, divided by sqrt(samples); the mean of their products is
            the Hessian. "empirical": the gradient at the target of the data; this is not the Hessian
            (Kunstner et al. 2019).
        y: the output of the network, (n, ..., k), or a pytree of such arrays.
        target: the targets of the loss.
        key: the random key for "sampled".
        samples: how many targets are drawn for each row.
        per_token: whether each token of an example gets seeds of its own. Products between tokens are then
            zero, as in the Hessian, for t times as many seeds.

    Returns:
        an array (c, *y.shape) in the dtype of `y`, or a pytree of these.

    Raises:
        InputError: where `fisher` is "sampled" and there is no key, or the loss couples examples.
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
        got, fix = f"outputs {describe(y)}", 'fnn.curvature.ggn_diagonal(net, loss, "empirical")'
        raise InputError("curvature_seeds", "as many tokens in all outputs", got, fix)

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
    """Return the type of each param's factor; nothing is computed.

    Args:
        net: the network, any layer.
        params: its params.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.

    Returns:
        a tree like the params, with a type such as `Outer` at each.
    """

    def factors(params: Params, x: Any) -> Any:
        y, residuals = forward(net, params, x)
        return backward(net, params, residuals, jax.tree.map(jnp.zeros_like, y), read=as_factors)[0]

    shapes = jax.eval_shape(factors, *(shapes_of("factor_types", tree) for tree in (params, x)))
    return jax.tree.map(lambda factor, _: type(factor), shapes, params, is_leaf=is_factor)
