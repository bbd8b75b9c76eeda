"""The rule of a loss: a function that returns a value and a gradient, or a value alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import InputError, describe

# rule(y, target, **options) -> value (...) and dy like y, or the value alone
Rule = Callable[..., Any]
FIX = "fnn.Loss(lambda y, t: jnp.square(y - t).sum(-1))"


def checked(who: object, returned: Any, y: Any) -> tuple[Any, Any]:
    """Return a rule's value for each row, and its gradient, None where autodiff has to compute it.

    Args:
        who: the loss, for the error message.
        returned: what the rule returned.
        y: the outputs, (..., k), or a tree of such arrays, in float32 or wider.

    Returns:
        the value (...) and a tree like `y`, in the dtypes of `y`.

    Raises:
        InputError: where the rule returned anything else.
    """
    pair = isinstance(returned, (tuple, list))
    if pair and len(returned) != 2:
        raise InputError(who, "a rule that returns (value, dy) or a value", describe(returned), FIX)
    value, dy = returned if pair else (returned, None)
    value = _value(who, value, y)
    if not pair:
        return value, None
    shapes, wanted = (jax.tree.map(jnp.shape, tree) for tree in (dy, y))
    if jax.tree.structure(dy) != jax.tree.structure(y) or shapes != wanted:
        raise InputError(who, f"a rule whose dy is like y, {describe(y)}", describe(dy), FIX)
    for leaf in jax.tree.leaves(dy):
        _check_real(who, leaf, "dy")
    return value, jax.tree.map(lambda d, like: jnp.asarray(d).astype(like.dtype), dy, y)


def rowwise(leaf: Any, weights: Any) -> Any:
    """Multiply each row of an array by a number.

    Args:
        leaf: the array (..., k).
        weights: a number for each row, (...), or one number, ().
    """
    return leaf * weights.reshape(*weights.shape, *(1,) * (leaf.ndim - weights.ndim if weights.ndim else 0))


def rowwise_pull(who: object, rule: Rule, y: Any, target: Any, value: Any, weights: Any) -> Any:
    """Return the gradient of the sum of weighted row values by the outputs, by autodiff.

    Args:
        who: the loss, for the error message.
        rule: its rule.
        y: the outputs, (..., k), or a tree of such arrays.
        target: the targets.
        value: the rows' values, (...).
        weights: the weights of the rows, (...), or None.
    """
    _, pull = jax.vjp(lambda y: _value(who, rule(y, target), y), y)
    return pull(jnp.ones_like(value) if weights is None else weights)[0]


def _value(who: object, value: Any, y: Any) -> Any:
    """Return a value for each row, in the dtype of `y`; values of single outputs are added up."""
    _check_real(who, value, "a value")
    leaves = jax.tree.leaves(y)
    value = jnp.asarray(value).astype(leaves[0].dtype)
    if len(leaves) == 1 and leaves[0] is y:
        if value.shape == y.shape:
            return value.sum(-1)
        good = value.shape == y.shape[:-1]
    else:  # rows are what all outputs have in common
        good = value.ndim > 0 and all(leaf.shape[: value.ndim] == value.shape for leaf in leaves)
    if not good:
        rows = y.shape[:-1] if len(leaves) == 1 and leaves[0] is y else leaves[0].shape[:1]
        raise InputError(who, f"a rule whose value is one for each row, {rows}", describe(value), FIX)
    return value


def _check_real(who: object, value: Any, what: str) -> None:
    kind = getattr(value, "dtype", None) if not isinstance(value, (bool, int, float)) else jnp.float32
    if kind is None or jnp.issubdtype(kind, jnp.complexfloating):
        raise InputError(who, f"a rule that returns {what} of real numbers", describe(value), FIX)
