"""The pass behind all per-example readings: every example seeded with its own loss."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import Layer, Params, Reader, backward, forward
from fnn.errors import InputError, at, describe
from fnn.losses import Loss


def losses_and_readings(net: Layer, loss: Any, read: Reader) -> Callable[..., tuple[Any, Any]]:
    """Give a function `(params, x, target, key=None, *, weights=None, trees=()) -> (losses, readings)`.

    An example is an index of axis 0 of `x`; its loss is the sum over its rows (its tokens), whatever the
    reduction of `loss`. `losses` are these, (n,). The backward is seeded with the gradient of their SUM,
    so the dz of an example is that of its own loss and no reader meets a division by n.
    `weights` are per row, as the loss takes them, or (n,), per example. `readings` is what
    `read(factor, param, *leaves)` makes of every factor; `trees` are the further trees with these leaves.
    With `fnn.LinearCrossEntropy` as the loss, `params`, `trees` and `readings` are pairs, the network's and
    the head's.

    Cost: one forward and one backward pass without the products that make gradients, and the reader's.
    Raises InputError for a layer that couples examples (it has a true attribute `couples_examples`), an
    input without examples, and a tree that does not begin like the params.

    >>> import fnn
    >>> net, x, label = fnn.Dense(3), jnp.ones((4, 2)), jnp.zeros(4, jnp.int32)
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> read = fnn.losses_and_readings(net, fnn.softmax_cross_entropy(), fnn.squared_norm)
    >>> losses, readings = read(params, x, label)
    >>> losses.shape, fnn.over_params(readings).shape
    ((4,), (4,))
    """
    check_loss("losses_and_readings", loss, heads=True)

    def run(
        params: Params, x: Any, target: Any, key: Any = None, *, weights: Any = None, trees: tuple = ()
    ) -> tuple[Any, Any]:
        has_params = hasattr(loss, "through")
        check_apart("losses_and_readings", net, params[0] if has_params else params, x)
        for tree in trees:
            check_begins("losses_and_readings", tree, params)
        if has_params:
            own = dataclasses.replace(loss, reduction="none").through(net, read)
            losses, readings = own(params, x, target, key, _by_row(weights, target.shape), trees)
            return losses.sum(tuple(range(1, losses.ndim))), readings
        y, residuals = forward(net, params, x, key)
        losses, dy = row_losses(loss, y, target, weights)
        readings, _ = backward(net, params, residuals, dy, *trees, read=read)
        return losses, readings

    return run


def row_losses(loss: Loss, y: Any, target: Any, weights: Any = None) -> tuple[Any, Any]:
    """Give each example's loss, (n,), and the gradient of their sum by `y`, whatever the reduction."""
    if y.ndim < 2:
        raise InputError(
            "losses_and_readings", "examples on axis 0 of x, outputs (n, ..., k)", describe(y), "x[None]"
        )
    weights = _by_row(weights, y.shape[:-1])
    losses, dy = dataclasses.replace(loss, reduction="none").value_and_grad(y, target, weights)
    return losses.sum(tuple(range(1, losses.ndim))), dy


def _by_row(weights: Any, rows: tuple[int, ...]) -> Any:
    """Give weights that are one for each example, (n,), as those of its rows, (n, ...)."""
    if weights is None or weights.shape != rows[:1]:
        return weights
    return jnp.broadcast_to(weights.reshape(-1, *(1,) * (len(rows) - 1)), rows)


def check_loss(who: str, loss: Any, heads: bool = False) -> None:
    """Raise unless `loss` is one of `fnn.losses` or, where `heads`, one that has params."""
    if not isinstance(loss, Loss) and not (heads and hasattr(loss, "through")):
        name = getattr(loss, "__name__", "softmax_cross_entropy")
        raise InputError(who, "a loss", describe(loss), f"fnn.{who}(net, fnn.{name}(), ...)")


def refuted(condition: Any) -> bool:
    """Tell whether a condition on numbers is known to be false; that of a traced number is not known."""
    try:
        return not condition
    except jax.errors.ConcretizationTypeError:
        return False


def check_apart(who: str, net: Layer, params: Params, x: Any) -> None:
    """Raise where `x` has no axis of examples, or a layer's output for one depends on the others.

    A layer that couples examples, such as batch normalisation by the batch's own statistics, says so by
    `couples_examples = True`: there "the gradient of one example" has no meaning.
    """
    if not hasattr(x, "shape") or not x.shape:
        raise InputError(who, "examples on axis 0 of x", describe(x), "x[None]")
    _check_layers(who, net, params, jax.ShapeDtypeStruct(x.shape, x.dtype))


def _check_layers(who: str, layer: Any, params: Any, x: Any) -> None:
    if getattr(layer, "couples_examples", False):
        wanted = "layers that keep examples apart"
        raise InputError(who, wanted, f"{layer!r}, which couples them", "fnn.LayerNorm()")
    parts = layer.parts(params, x) if hasattr(layer, "parts") else ()
    for place, part, own, shape in parts:
        with at(place):
            _check_layers(who, part, own, shape)


def check_begins(
    who: str, tree: Any, params: Params, name: str = "tree", fix: str = "jax.tree.map(jnp.zeros_like, params)"
) -> None:
    """Raise unless `tree` begins like the params: a subtree, or an array, in the place of each of theirs."""
    try:
        jax.tree.structure(params).flatten_up_to(tree)
    except (ValueError, TypeError, KeyError):
        wanted = f"a {name} that begins like the params, {jax.tree.structure(params)}"
        raise InputError(who, wanted, str(jax.tree.structure(tree)), fix) from None


def check_like(who: str, tree: Any, params: Params, name: str = "direction") -> None:
    """Raise unless `tree` has the structure and the shapes of the params."""
    check_begins(who, tree, params, name)
    ours, theirs = (jax.tree.map(jnp.shape, t) for t in (params, tree))
    if ours != theirs:
        fix = "jax.tree.map(jnp.zeros_like, params)"
        raise InputError(who, f"a {name} like the params, {describe(params)}", describe(tree), fix)
