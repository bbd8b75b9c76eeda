"""Losses whose outputs are logits. A row's value is the sum over its outputs."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import as_index
from fnn.errors import InputError, check_array, check_range, describe
from fnn.losses.likelihoods import BERNOULLI, CATEGORICAL
from fnn.losses.loss import Logits, Loss, Reduction, Values, check_outputs, known, like, times
from fnn.sharding import placed, sharding_of


def softmax_cross_entropy(label_smoothing: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Make the loss that sums -t log softmax(y) over a row.

    Gradient: p sum(t) - t, with p = softmax(y). A label outside of 0 .. k - 1 raises an error in eager code;
    under jit, where its value is not known, value and gradient are NaN. An output masked by a logit of -inf,
    with a target of zero, adds nothing to value and gradients.

    Outputs `y`: logits (..., k). Targets: integer labels (...), or soft ones (..., k).
    Source: Bridle 1990; label smoothing: Szegedy et al. 2016, section 7.

    Args:
        label_smoothing: e, 0 <= e < 1: t becomes (1 - e) t + e sum(t) / k.
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: where a number is out of its range, or, on use, outputs and targets do not fit.

    >>> loss, y = softmax_cross_entropy(), jnp.zeros((1, 4))
    >>> f"{loss(y, jnp.array([2])):.4f}"
    '1.3863'
    """
    if not 0 <= label_smoothing < 1:
        wanted, fix = "0 <= label_smoothing < 1", "fnn.softmax_cross_entropy(label_smoothing=0.1)"
        raise InputError("softmax_cross_entropy", wanted, repr(label_smoothing), fix)
    return known(_softmax_cross_entropy, (("label_smoothing", label_smoothing),), reduction, CATEGORICAL)


def _softmax_cross_entropy(y: Logits, target: Any, label_smoothing: float = 0.0) -> tuple[Values, Logits]:
    t = _labels(_softmax_cross_entropy, y, target)
    if label_smoothing:
        t = (1 - label_smoothing) * t + label_smoothing / y.shape[-1] * t.sum(-1, keepdims=True)
    log_p, p, rest, top = _log_softmax(y)
    one_hot = jnp.issubdtype(target.dtype, jnp.integer) and not label_smoothing
    if one_hot:
        dy = jnp.where(placed(t == 0, sharding_of(p)), p, -t * rest)
    else:
        dy = _difference(p, rest, top, t)
    return -_times_log(t, log_p, y).sum(-1), dy


def kl_divergence(reduction: Reduction = "mean") -> Loss:
    """Make the loss that sums t log(t / p) over a row, with p = softmax(y).

    Gradient: p sum(t) - t. A target of zero adds nothing. Its derivative by the target is -log p, for t log t
    counts as a constant there.

    Outputs `y`: logits (..., k). Targets: probabilities (..., k). Source: Kullback, Leibler 1951.

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> print(kl_divergence()(jnp.zeros((1, 2)), jnp.array([[0.5, 0.5]])))
    0.0
    """
    return known(_kl_divergence, (), reduction, CATEGORICAL)


def _kl_divergence(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_kl_divergence, y, target)
    log_p, p, rest, top = _log_softmax(y)
    log_t = jnp.log(jnp.where(t == 0, 1, t))
    return (t * log_t - _times_log(t, log_p, y)).sum(-1), _difference(p, rest, top, t)


def binary_cross_entropy(reduction: Reduction = "mean") -> Loss:
    """Make the loss that sums -t log p - (1 - t) log(1 - p) over a row, with p = sigmoid(y).

    Gradient: p - t, computed as (1 - t) sigmoid(y) - t sigmoid(-y), which has no cancellation where p is near
    t. Value and gradient are finite for every finite logit.

    Outputs `y`: logits (..., k). Targets: numbers in [0, 1], (..., k).

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> f"{binary_cross_entropy()(jnp.zeros((1, 1)), jnp.ones((1, 1))):.4f}"
    '0.6931'
    """
    return known(_binary_cross_entropy, (), reduction, BERNOULLI)


def _binary_cross_entropy(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_binary_cross_entropy, y, target)
    small = jnp.exp(-jnp.abs(y))  # never overflows
    p, q = jnp.where(y >= 0, 1, small) / (1 + small), jnp.where(y >= 0, small, 1) / (1 + small)
    value = times(t, jnp.where(y >= 0, 0, -y)) + times(1 - t, jnp.where(y >= 0, y, 0)) + jnp.log1p(small)
    return value.sum(-1), (1 - t) * p - t * q


def hinge(reduction: Reduction = "mean") -> Loss:
    """Make the loss that sums max(0, 1 - t y) over a row.

    Gradient: -t where t y < 1, else 0. Outputs `y`: (..., k). Targets: -1 or 1, (..., k).
    Source: Cortes, Vapnik 1995.

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> print(hinge()(jnp.array([[0.25, 2.0]]), jnp.ones((1, 2))))
    0.75
    """
    return known(_hinge, (), reduction)


def _hinge(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_hinge, y, target)
    inside = 1 - t * y > 0
    return jnp.where(inside, 1 - t * y, 0).sum(-1), jnp.where(inside, -t, 0)


def _labels(rule: Callable[..., Any], y: Logits, target: Any) -> Logits:
    """Return labels as soft ones: a label out of range as a row of NaN."""
    name, k, rows = rule.__name__.lstrip("_"), y.shape[-1], y.shape[:-1]
    check_array(name, target, "target")
    check_outputs(name, y)
    integer = jnp.issubdtype(target.dtype, jnp.integer)
    if target.shape == y.shape and not integer:
        return target.astype(y.dtype)
    if target.shape != rows or not integer:
        wanted = f"integer target of shape {rows} or soft target of shape {y.shape}"
        fix = f"jnp.zeros({rows}, jnp.int32)"
        if target.shape == y.shape:  # one-hot labels
            fix = "target.astype(y.dtype)"
        elif target.shape == rows:
            fix = "target.astype(jnp.int32)"
        elif target.size == math.prod(rows):
            fix = f"target.reshape({rows}).astype(jnp.int32)"
        raise InputError(name, wanted, describe(target), fix)
    target = as_index(target)
    counted = f"((target >= 0) & (target < {k})).astype(y.dtype)"
    below = f"loss(y, jnp.clip(target, 0, {k - 1}), {counted})"
    check_range(name, target, k, "labels", "fnn.Dense({least})", below)
    valid = (target >= 0) & (target < k)
    return jnp.where(valid[..., None], jax.nn.one_hot(target, k, dtype=y.dtype), jnp.nan)


def _log_softmax(y: Logits) -> tuple[Logits, Logits, Logits, Any]:
    """Return log p, p, 1 - p, and which are the largest, with p = softmax(y); log p is finite, that of the
    limit at a masked logit.

    The largest logits are counted, not summed, so that a sure row keeps its digits: 1 + others is the sum
    of the exponentials, and log1p sees the others alone. No number on the way is infinite or NaN unless a
    result is.
    """
    masked = _masked(y)
    shifted = jnp.where(masked, 0, y) - jax.lax.stop_gradient(y.max(-1, keepdims=True))
    e = jnp.where(masked, 0, jnp.exp(jnp.where(masked, 0, shifted)))
    top = (shifted == 0) & ~masked
    count = top.astype(y.dtype).sum(-1, keepdims=True)  # a float: devices add it up with the other sum
    others = jnp.where(top, e - 1, e).sum(-1, keepdims=True) + (count - 1)
    return shifted - jnp.log1p(others), e / (1 + others), (others + (1 - e)) / (1 + others), top


def _masked(y: Any) -> Any:
    """Return where a logit is -inf, by no number that is infinite itself."""
    return ~jnp.isfinite(y) & (y < 0)


def _difference(p: Any, rest: Any, top: Any, t: Any) -> Any:
    """Return p sum(t) - t, as the sum of p_i t_j - p_j t_i over all j: digits stay where p sum(t) is near t.

    Over most j that is p (sum(t) - t) - (1 - p) t. Among the largest logits, which are equal, it is their p
    times t_j - t_i, which is nothing where the targets are equal too, beside what those p differ by: zero,
    but for derivatives.
    """
    largest = jax.nn.one_hot(t.argmax(-1), t.shape[-1], dtype=jnp.bool_)
    smaller = jnp.where(largest, 0, t).sum(-1, keepdims=True)
    others = jnp.where(largest, smaller, t.sum(-1, keepdims=True) - t)
    apart = p * others - rest * t
    p_top, t_top = jnp.where(top, p, 0), jnp.where(top, t, 0)
    count = top.sum(-1, keepdims=True).astype(p.dtype)
    at = jnp.where(top, t, -jnp.finfo(t.dtype).max).max(-1, keepdims=True)
    at = jnp.where(count > 0, at, 0)  # the target of one of the largest logits
    least = jax.lax.stop_gradient(p_top.max(-1, keepdims=True))
    differ = p_top - jnp.where(top, least, 0)  # zero
    from_top = least * (jnp.where(top, t - at, 0).sum(-1, keepdims=True) - count * (t - at))
    from_top += differ * t_top.sum(-1, keepdims=True) - t * differ.sum(-1, keepdims=True)
    below_p = jnp.where(top, 0, p).sum(-1, keepdims=True)
    from_below = p * jnp.where(top, 0, t).sum(-1, keepdims=True) - below_p * t
    return jnp.where(top & (count > 1), from_top + from_below, apart)


def _times_log(t: Any, log_p: Any, y: Any) -> Any:
    """Return t log p, at a masked logit zero or, where t is not, -inf."""
    masked = _masked(y)
    product = t * jnp.where(masked, 0, log_p)
    return jnp.where(masked & (t != 0), -jnp.inf, product)
