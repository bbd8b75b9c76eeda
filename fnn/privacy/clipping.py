"""Clipped sums of example gradients in one backward pass: norms and sum are both read from the factors."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import accumulator, canonical
from fnn.chunks import by_shard, cut_up, own_key, put_together, shares_axes
from fnn.core import Layer, Params
from fnn.errors import InputError, check_number, check_size, describe, is_array
from fnn.factors import is_factor
from fnn.keys import check_noise
from fnn.losses.objective import LossLike, as_objective
from fnn.readers.examples import weighted_gradient
from fnn.readers.norms import norm_and_factor
from fnn.readers.seeding import losses_and_readings
from fnn.readings import sum_over_params, unzip
from fnn.sharding import as_cotangent, placed_like, shards_of, varying_like, zeros_like

STABILITY = 0.01  # what Bu et al. 2023 add to a norm before they divide by it


class Clipped(NamedTuple):
    """The sum of the clipped example gradients, and figures of each example.

    Args:
        gradient: the sum over the examples, a tree like the params.
        losses: the loss of each example, (n,).
        norms: the norm of each example's whole gradient before it is clipped, (n,); zero where it is masked
            out.
        finite: (n,), False where a norm is not finite: that example adds zero.

    >>> Clipped({"bias": jnp.zeros(2)}, jnp.ones(3), jnp.ones(3), jnp.ones(3, bool)).norms.shape
    (3,)
    """

    gradient: Any
    losses: Any
    norms: Any
    finite: Any


def clipped_gradient(
    net: Layer,
    loss: LossLike,
    norm: Any,
    *,
    per: str = "network",
    automatic: bool = False,
    microbatch: int | None = None,
) -> Callable[..., Clipped]:
    """Return a function `(params, x, target, key=None, mask=None, scale=None) -> Clipped`: a clipped sum.

    Each example's gradient g, that of its own loss (see `losses_and_readings`), is multiplied by c = min(1,
    norm / |g|), and the products are summed: one example changes the sum by no more than `norm`.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, or a function of your own, as for `fnn.Loss`.
        norm: the bound, a number > 0. It may be traced, and so adapted during training.
        per: "network" clips each whole gradient; "layer" clips the params of every layer by themselves (those
            of a `Repeat` for each of its runs), each to norm / sqrt(layers), which gives the sum the same
            bound.
        automatic: whether c is norm / (|g| + 0.01) instead (Bu et al. 2023).
        microbatch: the number of examples to process at a time, which bounds the memory; None for all.

    Args of the function:
        params: the params of `net`, and of the loss where it has some.
        x: the input (n, ..., k), examples on axis 0.
        target: the targets of the loss, examples on axis 0.
        key: the random key for dropout, or None for no noise.
        mask: booleans (n,), False for an example that is not counted; for batches padded to a fixed size.
        scale: a number > 0 that multiplies the gradient of every loss before it is rounded to the output's
            dtype, as in float16, where what is below 6e-8 is lost. Norms and sum are divided by it again.

    Returns of the function:
        a `Clipped`. An example whose gradient is not finite adds zero to the sum, and has `finite` False.

    Raises:
        InputError: as `losses_and_readings`; where `norm` <= 0, `per` is unknown, the mask is not (n,), or
            `microbatch` does not divide n.

    Cost: one forward and one backward pass, 2n(k + j) flops for the norms of a layer and 2nkj for the sum;
    the second backward pass of "ghost clipping" (Li et al. 2022) is not needed. The factors of all layers are
    kept until the norms are known: n j numbers a layer more than for the gradient, as x is kept in any case.
    Where a layer's norms take the example gradients (many tokens), these are kept instead, and summed.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> clipped = clipped_gradient(net, loss, norm=2.0)(params, jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1)))
    >>> print(clipped.norms, clipped.gradient["kernel"])
    [1. 9.] [[3.]]
    """
    loss = as_objective("clipped_gradient", loss, net)
    fix = "fnn.privacy.clipped_gradient(net, loss, 1.0)"
    check_number("clipped_gradient", "norm > 0", norm, lambda norm: norm > 0, fix)
    if automatic:
        check_number("clipped_gradient", "0 < norm < inf", norm, lambda norm: norm < math.inf, fix)
    if microbatch is not None:
        fix = "fnn.privacy.clipped_gradient(net, loss, norm, microbatch=1)"
        check_size("clipped_gradient", "microbatch", microbatch, fix)
    if per not in ("network", "layer"):
        fix = 'fnn.privacy.clipped_gradient(net, loss, norm, per="layer")'
        raise InputError("clipped_gradient", 'per "network" or "layer"', repr(per), fix)
    factors_of = losses_and_readings(net, loss, norm_and_factor)

    def whole(scale: Any, params: Params, x: Any, target: Any, key: Any, mask: Any) -> Clipped:
        losses, readings = factors_of(params, x, target, key, scale=scale)
        squares, factors = unzip(params, readings)
        squares = divided(squares, scale, 2)
        total = sum_over_params(squares)
        finite = jnp.isfinite(total)
        counted = finite if mask is None else finite & mask.astype(bool)
        if per == "network":
            groups, share = jax.tree.map(lambda _: total, squares), norm
        else:
            groups, layers = by_layer(params, squares)
            share = norm / layers**0.5
        coefficients = jax.tree.map(
            lambda square, own: jnp.broadcast_to(_coefficient(square, share, counted, automatic), own.shape),
            groups,
            squares,
        )
        gradient = jax.tree.map(weighted_gradient, factors, params, coefficients, is_leaf=is_factor)
        gradient = divided(gradient, scale, 1)
        out = jnp.zeros_like(finite) if mask is None else ~mask.astype(bool)
        return Clipped(gradient, losses, jnp.where(out, 0, jnp.sqrt(total)), finite | out)

    # outside of jit, too, traced once
    in_parts = None if microbatch is None else jax.jit(partial(_in_parts, whole, microbatch))

    def run(
        params: Params, x: Any, target: Any, key: Any = None, mask: Any = None, scale: Any = None
    ) -> Clipped:
        params, x, target, mask = canonical((params, x, target, mask))
        rows = jnp.shape(jax.tree.leaves(x)[0])[:1] if jax.tree.leaves(x) else ()
        if mask is not None and (not is_array(mask) or mask.shape != rows):
            wanted, fix = f"mask of shape {rows}", f"jnp.ones({rows}, bool)"
            raise InputError("clipped_gradient", wanted, describe(mask), fix)
        check_noise("clipped_gradient", key, "jax.random.key(0)")
        if scale is not None:
            fix = "fnn.privacy.clipped_gradient(net, loss, norm)(params, x, target, scale=2.0**10)"
            check_number("clipped_gradient", "scale > 0", scale, lambda scale: scale > 0, fix)
        if in_parts is None:
            return whole(scale, params, x, target, key, mask)
        return in_parts(params, (x, target, mask), key, scale)

    return run


def divided(tree: Any, scale: Any, times: int) -> Any:
    """Divide a tree of arrays by a number.

    Args:
        tree: the arrays.
        scale: the number, or None not to divide.
        times: how often, 1 or 2.
    """
    if scale is None:
        return tree

    def one(leaf: Any) -> Any:
        by = 1 / jnp.asarray(scale, accumulator(leaf.dtype))
        wide = leaf.astype(by.dtype) * by
        return (wide if times == 1 else wide * by).astype(leaf.dtype)

    return jax.tree.map(one, tree)


def by_layer(params: Params, squares: Any) -> tuple[Any, int]:
    """Sum the squared norms within each layer, and count the layers.

    Args:
        params: the params. A layer's are the leaves of one innermost container; stacked layers count each.
        squares: a tree like the params of squared norms, (..., n), n examples.

    Returns:
        a tree like the params, with the sum of its layer at each leaf, and the number of layers.
    """
    paths = [path[:-1] for path, _ in jax.tree.leaves_with_path(params)]
    leaves, structure = jax.tree.flatten(squares)
    sums: dict[Any, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        sums[path] = sums[path] + leaf if path in sums else leaf
    layers = sum(total.size // total.shape[-1] if total.shape[-1] else 1 for total in sums.values())
    return jax.tree.unflatten(structure, [sums[path] for path in paths]), layers


def _coefficient(square: Any, norm: Any, counted: Any, automatic: bool) -> Any:
    """Return min(1, norm / |g|) without a division by zero, or norm / (|g| + 0.01); 0 where not counted."""
    length = jnp.sqrt(square)
    norm = jnp.asarray(norm, length.dtype)
    keep = jnp.broadcast_to(counted, length.shape)  # the examples' axis is the last
    if automatic:
        return jnp.where(keep, norm / (jnp.where(keep, length, 0) + STABILITY), 0)
    longer = keep & (length > norm)
    return jnp.where(longer, norm / jnp.where(longer, length, 1), jnp.where(keep, 1, 0))


def _in_parts(
    whole: Callable[..., Clipped], size: int, params: Params, data: tuple, key: Any, scale: Any
) -> Clipped:
    """Run `whole` on parts of `size` examples in a scan, and sum the gradients."""
    n = jax.tree.leaves(data)[0].shape[0]
    if n % size:
        wanted = f"a microbatch that divides the {n} examples"
        largest = max(part for part in range(1, size) if n % part == 0)
        fix = f"fnn.privacy.clipped_gradient(net, loss, norm, microbatch={largest})"
        raise InputError("clipped_gradient", wanted, repr(size), fix)
    run, shared = partial(_scanned, whole, n // size), (params, key, scale)
    if size % max(map(shards_of, jax.tree.leaves(data))) or shares_axes(params, data):
        gradient, each = run(shared, data)
    else:
        gradient, each = by_shard(run, shared, data)
    return Clipped(jax.tree.map(placed_like, gradient, params), *each)


def _scanned(
    whole: Callable[..., Clipped], parts: int, shared: tuple[Params, Any, Any], data: tuple
) -> tuple[Any, tuple]:
    (params, key, scale), n = shared, jax.tree.leaves(data)[0].shape[0]
    shards = math.gcd(
        n // parts, max(map(shards_of, jax.tree.leaves(data)))
    )  # a part has examples of all of them
    keys = None if key is None else jax.random.split(own_key(key, data), parts)
    own = varying_like(params, data)  # so that shards are added up once, and not part by part

    def step(total: Any, part: Any) -> tuple[Any, tuple]:
        (x, target, mask), key = part
        gradient, *rest = whole(scale, own, x, target, key, mask)
        return jax.tree.map(jnp.add, total, gradient), tuple(rest)

    cut = jax.tree.map(lambda leaf: cut_up(leaf, parts, shards), data)
    total, rest = lax.scan(step, jax.tree.map(zeros_like, own), (cut, keys))
    return as_cotangent(total, params), tuple(put_together(leaf, shards) for leaf in rest)
