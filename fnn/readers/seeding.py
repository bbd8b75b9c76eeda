"""The pass behind all per-example readings: every example seeded with its own loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import canonical
from fnn.core import Layer, Params, forward
from fnn.errors import InputError, describe
from fnn.losses.objective import Objective, as_objective
from fnn.reader import Read, as_reader, gradient
from fnn.readers.coupling import check_loss_uncoupled, check_uncoupled
from fnn.reading import Stacked


def losses_and_readings(
    net: Layer, loss: Objective | Callable[..., Any], read: Read
) -> Callable[..., tuple[Any, Any]]:
    """Return a function `(params, x, target, key=None, *, weights=None, trees=(), scale=None)`.

    It returns `(losses, readings)`. `loss` may be a rule of one's own, see `fnn.Loss`.

    An example is an index of axis 0 of `x`; its loss is the sum over its rows (its tokens), whatever the
    reduction of `loss`. `losses` are these, (n,). The backward is seeded with the gradient of their SUM,
    so the dz of an example is that of its own loss and no reader meets a division by n.
    `weights` are per row, as the loss takes them, or (n,), per example. `readings` is what
    `read(factor, param, *leaves)` makes of every factor; `trees` are the further trees with these leaves.
    `scale` is a number that every loss's gradient is multiplied by before it is rounded to the output's
    dtype.
    With `fnn.LinearCrossEntropy` as the loss, `params`, `trees` and `readings` are pairs, the network's and
    the head's.

    Cost: one forward and one backward pass without the products that make gradients, and the reader's.
    Raises InputError for a layer or a loss that couples examples (see `fnn.Layer.couples_examples`), an
    input without examples, and a tree that does not begin like the params.

    >>> import fnn
    >>> net, x, label = fnn.Dense(3), jnp.ones((4, 2)), jnp.zeros(4, jnp.int32)
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> read = fnn.readers.losses_and_readings(net, fnn.softmax_cross_entropy(), fnn.readers.squared_norm)
    >>> losses, readings = read(params, x, label)
    >>> losses.shape, fnn.readers.sum_over_params(readings).shape
    ((4,), (4,))
    """
    loss = as_objective("losses_and_readings", loss)
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
            check_loss_uncoupled("losses_and_readings", loss, y, target)
        for tree in trees:
            check_begins("losses_and_readings", tree, params)
        reading = Stacked(reader, (params, *trees))
        losses, readings = own.through(net, params, x, target, key, weights, reading, scale)
        return by_example(losses), readings

    return run


def row_losses(loss: Objective, y: Any, target: Any, weights: Any = None) -> tuple[Any, Any]:
    """Return each example's loss, (n,), and the gradient of their sum by `y`, whatever the reduction."""
    check_loss_uncoupled("row_losses", loss, y, target)
    losses, dy, _ = loss.with_reduction("none").pull((), y, target, weights, Stacked(gradient, ((),)))
    return by_example(losses), dy


def by_example(losses: Any) -> Any:
    """Add the losses of an example's rows up: (n,). Raises InputError where there is no axis of examples."""
    if losses.ndim == 0:
        wanted, got = "examples on axis 0 of x, outputs (n, ..., k)", "one example without an axis"
        raise InputError("losses_and_readings", wanted, got, "x[None]")
    return losses.sum(tuple(range(1, losses.ndim)))


def without_params(who: str, loss: Any) -> Objective:
    """Return a loss, as `as_objective` does. Raises InputError for one that has params of its own."""
    loss = as_objective(who, loss)
    if loss.has_params:
        raise InputError(
            who, "a loss without params", repr(loss), "fnn.softmax_cross_entropy() behind fnn.Dense(V)"
        )
    return loss


def refuted(condition: Any) -> bool:
    """Tell whether a condition on numbers is known to be false; that of a traced number is not known."""
    try:
        return not condition
    except jax.errors.ConcretizationTypeError:
        return False


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
