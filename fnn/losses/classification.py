"""Losses whose outputs are logits. A row's value is the sum over its outputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import as_index
from fnn.errors import InputError, check_range, describe
from fnn.losses.likelihoods import BERNOULLI, CATEGORICAL
from fnn.losses.loss import Logits, Loss, Reduction, Values, known, like


def softmax_cross_entropy(label_smoothing: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Sum of -t log softmax(y) over a row; `y` logits, `target` integer labels (...) or soft ones (..., k).

    Gradient p sum(t) - t, with p = softmax(y). `label_smoothing` e replaces t by (1 - e) t + e sum(t) / k.
    A label out of 0 .. k - 1 raises in eager code; where only the compiler sees it, value and gradient are
    NaN.
    """
    if not 0 <= label_smoothing < 1:
        wanted, fix = "0 <= label_smoothing < 1", "fnn.softmax_cross_entropy(label_smoothing=0.1)"
        raise InputError("softmax_cross_entropy", wanted, repr(label_smoothing), fix)
    return known(_softmax_cross_entropy, (("label_smoothing", label_smoothing),), reduction, CATEGORICAL)


def _softmax_cross_entropy(y: Logits, target: Any, label_smoothing: float = 0.0) -> tuple[Values, Logits]:
    t = _labels(_softmax_cross_entropy, y, target)
    if label_smoothing:
        t = (1 - label_smoothing) * t + label_smoothing / y.shape[-1] * t.sum(-1, keepdims=True)
    log_p, p = _log_softmax(y)
    return -_times_log(t, log_p).sum(-1), p * t.sum(-1, keepdims=True) - t


def kl_divergence(reduction: Reduction = "mean") -> Loss:
    """Sum of t log(t / p) over a row, p = softmax(y); `y` logits, `target` (..., k) probabilities.

    Gradient p sum(t) - t. A target of zero adds nothing. Source: Kullback, Leibler 1951.
    """
    return known(_kl_divergence, (), reduction, CATEGORICAL)


def _kl_divergence(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_kl_divergence, y, target)
    log_p, p = _log_softmax(y)
    log_t = jnp.log(jnp.where(t == 0, 1, t))
    return (t * log_t - _times_log(t, log_p)).sum(-1), p * t.sum(-1, keepdims=True) - t


def binary_cross_entropy(reduction: Reduction = "mean") -> Loss:
    """Sum of -t log p - (1 - t) log(1 - p) over a row, p = sigmoid(y); `target` (..., k) in [0, 1].

    `y` are logits. Gradient p - t, computed as (1 - t) sigmoid(y) - t sigmoid(-y), which keeps its digits
    where p is near t. Finite for every finite logit, where the chain of sigmoid and logarithm gives NaN.
    """
    return known(_binary_cross_entropy, (), reduction, BERNOULLI)


def _binary_cross_entropy(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_binary_cross_entropy, y, target)
    small = jnp.exp(-jnp.abs(y))  # never overflows
    p, q = jnp.where(y >= 0, 1, small) / (1 + small), jnp.where(y >= 0, small, 1) / (1 + small)
    value = t * jnp.where(y >= 0, 0, -y) + (1 - t) * jnp.where(y >= 0, y, 0) + jnp.log1p(small)
    return value.sum(-1), (1 - t) * p - t * q


def hinge(reduction: Reduction = "mean") -> Loss:
    """Sum of max(0, 1 - t y) over a row; `target` (..., k) of -1 and 1. Gradient -t inside the margin."""
    return known(_hinge, (), reduction)


def _hinge(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_hinge, y, target)
    inside = 1 - t * y > 0
    return jnp.where(inside, 1 - t * y, 0).sum(-1), jnp.where(inside, -t, 0)


def _labels(rule: Callable[..., Any], y: Logits, target: Any) -> Logits:
    """Return labels as soft ones: a label out of range as a row of NaN."""
    name, k = rule.__name__.lstrip("_"), y.shape[-1]
    if target.shape == y.shape and not jnp.issubdtype(target.dtype, jnp.integer):
        return target.astype(y.dtype)
    if target.shape != y.shape[:-1] or not jnp.issubdtype(target.dtype, jnp.integer):
        wanted = f"integer target of shape {y.shape[:-1]} or soft target of shape {y.shape}"
        fix = "target.astype(jnp.int32)" if target.shape == y.shape[:-1] else "target.reshape(y.shape[:-1])"
        raise InputError(name, wanted, describe(target), fix)
    check_range(name, target, k, "labels", "fnn.Dense({least}) as the last layer")
    target = as_index(target)
    valid = (target >= 0) & (target < k)
    return jnp.where(valid[..., None], jax.nn.one_hot(target, k, dtype=y.dtype), jnp.nan)


def _log_softmax(y: Logits) -> tuple[Logits, Logits]:
    """Return log softmax and softmax.

    The largest logits are counted, not summed, so that a sure row keeps its digits: 1 + others is the sum
    of the exponentials, and log1p sees the others alone.
    """
    shifted = y - jax.lax.stop_gradient(y.max(-1, keepdims=True))
    e = jnp.exp(shifted)
    top = shifted == 0
    count = top.sum(-1, keepdims=True).astype(y.dtype)
    others = jnp.where(top, e - 1, e).sum(-1, keepdims=True) + (count - 1)
    return shifted - jnp.log1p(others), e / (1 + others)


def _times_log(t: Any, log_p: Any) -> Any:
    """Return t log p, zero where t is, even at log p = -inf."""
    return jnp.where(t == 0, 0, t * log_p)
