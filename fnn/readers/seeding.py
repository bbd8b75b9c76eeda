"""The pass behind all readings of examples: every example is seeded with its own loss."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import canonical
from fnn.core import Layer, Params, forward, output
from fnn.errors import InputError, describe
from fnn.losses.objective import LossLike, Objective, as_objective
from fnn.reader import Read, as_reader, gradient
from fnn.readers.coupling import check_loss_uncoupled, check_rows, check_uncoupled
from fnn.reading import Stacked


def losses_and_readings(net: Layer, loss: LossLike, read: Read) -> Callable[..., tuple[Any, Any]]:
    """Return a function `(params, x, target, key=None, *, weights=None, trees=(), scale=None)`.

    It returns `(losses, readings)`. An example is an index of axis 0 of `x`. Its loss is the sum over its
    rows (tokens), whatever the reduction of `loss`. The backward is seeded with the gradient of the SUM of
    these, so that the dz of an example is that of its own loss, without a division by n. Where the loss has
    params (`fnn.LinearCrossEntropy`), `params`, `trees` and `readings` are pairs: those of the network and
    those of the loss.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, or a function of your own, as for `fnn.Loss`.
        read: the reader, called as `read(factor, param, *leaves)` for each param.

    Args of the function:
        params: the params.
        x: the input (n, ..., k), or a pytree of such arrays, examples on axis 0.
        target: the targets of the loss, examples on axis 0.
        key: the random key for dropout, or None for no noise.
        weights: what multiplies the loss of each row, as the loss takes them, or of each example, (n,).
        trees: further trees that begin like the params; the `leaves` are theirs.
        scale: a number that multiplies the gradient of every loss before it is rounded to the output's dtype.

    Returns of the function:
        the losses (n,), and the readings, a tree like the params.

    Raises:
        InputError: where a layer or the loss couples examples (see `fnn.Layer.couples_examples`), the input
            has no axis of examples, or a tree does not begin like the params.

    Cost: one forward and one backward pass without the products that make gradients, and that of the reader.

    >>> import fnn
    >>> net, x, label = fnn.Dense(3), jnp.ones((4, 2)), jnp.zeros(4, jnp.int32)
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> read = fnn.readers.losses_and_readings(net, fnn.softmax_cross_entropy(), fnn.readers.squared_norm)
    >>> losses, readings = read(params, x, label)
    >>> losses.shape, fnn.readers.sum_over_params(readings).shape
    ((4,), (4,))
    """
    loss = as_objective("losses_and_readings", loss, net)
    own, reader = loss.with_reduction("none"), as_reader(read)

    def run(
        params: Params,
        x: Any,
        target: Any,
        key: Any = None,
        *,
        weights: Any = None,
        trees: tuple = (),
        scale: Any = None,
    ) -> tuple[Any, Any]:
        params, x, target, weights, trees = canonical((params, x, target, weights, trees))
        check_uncoupled("losses_and_readings", net, loss.split(params)[0], x)
        if loss.couples_examples is not False:
            of_net = loss.split(params)[0]
            y = jax.eval_shape(lambda of_net, x: forward(net, of_net, x, key)[0], of_net, x)
            check_rows("losses_and_readings", y, x)
            check_loss_uncoupled("losses_and_readings", loss, y, target)
        for tree in trees:
            check_begins("losses_and_readings", tree, params)
        reading = Stacked(reader, (params, *trees))
        losses, readings = own.through(net, params, x, target, key, weights, reading, scale)
        if losses.ndim == 0:
            of_net = loss.split(params)[0]
            check_rows("losses_and_readings", jax.eval_shape(partial(output, net), of_net, x, key), x)
        return by_example(losses), readings

    return run


def row_losses(loss: Objective, y: Any, target: Any, weights: Any = None) -> tuple[Any, Any]:
    """Compute each example's loss and the gradient of their sum by the output, whatever the reduction.

    Args:
        loss: a loss without params.
        y: the output of the network, (n, ..., k).
        target: the targets of the loss.
        weights: per row or per example, as in `losses_and_readings`.

    Returns:
        the losses (n,), and the gradient, of the shape of `y`.
    """
    check_loss_uncoupled("row_losses", loss, y, target)
    losses, dy, _ = loss.with_reduction("none").pull((), y, target, weights, Stacked(gradient, ((),)))
    return by_example(losses), dy


def by_example(losses: Any) -> Any:
    """Sum the losses of each example's rows, (n, ...) to (n,)."""
    return losses.sum(tuple(range(1, losses.ndim)))


def without_params(who: str, loss: LossLike, net: Layer) -> Objective:
    """Return `loss` as a loss without params of its own; a function is wrapped as by `as_objective`.

    Args:
        who: the name of the caller, for the error message.
        loss: a loss, or a function of outputs and target.
        net: the network that it is for.

    Raises:
        InputError: where it is no loss, or a loss with params of its own; where the network is no layer.
    """
    loss = as_objective(who, loss, net)
    if loss.has_params:
        raise InputError(who, "a loss without params", repr(loss), "fnn.softmax_cross_entropy()")
    return loss


def check_begins(
    who: str, tree: Any, params: Params, name: str = "tree", fix: str = "jax.tree.map(jnp.zeros_like, params)"
) -> None:
    """Raise unless a tree begins like the params: it has a subtree, or an array, at each of them.

    Args:
        who: the name of the caller, for the error message.
        tree: the tree to check.
        params: the params.
        name: what the tree is, for the error message.
        fix: code that makes a tree that is right.

    Raises:
        InputError: where the tree does not begin like the params.
    """
    try:
        jax.tree.structure(params).flatten_up_to(tree)
    except (ValueError, TypeError, KeyError):
        wanted = f"a {name} that begins like the params, {jax.tree.structure(params)}"
        raise InputError(who, wanted, str(jax.tree.structure(tree)), fix) from None


def check_like(who: str, tree: Any, params: Params, name: str = "direction") -> None:
    """Raise unless a tree has the structure and the shapes of the params.

    Args:
        who: the name of the caller, for the error message.
        tree: the tree to check.
        params: the params.
        name: what the tree is, for the error message.

    Raises:
        InputError: where structure or shapes differ.
    """
    check_begins(who, tree, params, name)
    ours, theirs = (jax.tree.map(jnp.shape, t) for t in (params, tree))
    if ours != theirs:
        fix = "jax.tree.map(jnp.zeros_like, params)"
        raise InputError(who, f"a {name} like the params, {describe(params)}", describe(tree), fix)
