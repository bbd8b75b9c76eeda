"""Losses whose target is a number for each output. A row's value is the sum over its outputs."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import InputError
from fnn.losses.likelihoods import NORMAL, NORMAL_HALF, POISSON
from fnn.losses.loss import Logits, Loss, Reduction, Values, known, like, times


def squared_error(reduction: Reduction = "mean") -> Loss:
    """Make the loss that sums (y - t)^2 over a row.

    Gradient: 2 (y - t). Outputs `y` and targets: (..., k).

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> print(squared_error()(jnp.array([[1.0, 3.0]]), jnp.zeros((1, 2))))
    10.0
    """
    return known(_squared_error, (), reduction, NORMAL_HALF)


def _squared_error(y: Logits, target: Any) -> tuple[Values, Logits]:
    d = y - like(_squared_error, y, target)
    return jnp.square(d).sum(-1), 2 * d


def half_squared_error(reduction: Reduction = "mean") -> Loss:
    """Make the loss that is half the sum of (y - t)^2 over a row.

    Gradient: y - t. Outputs `y` and targets: (..., k).

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> print(half_squared_error()(jnp.array([[1.0, 3.0]]), jnp.zeros((1, 2))))
    5.0
    """
    return known(_half_squared_error, (), reduction, NORMAL)


def _half_squared_error(y: Logits, target: Any) -> tuple[Values, Logits]:
    d = y - like(_half_squared_error, y, target)
    return jnp.square(d).sum(-1) / 2, d


def absolute_error(reduction: Reduction = "mean") -> Loss:
    """Make the loss that sums |y - t| over a row.

    Gradient: sign(y - t), zero where they are equal. Outputs `y` and targets: (..., k).

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> print(absolute_error()(jnp.array([[1.0, -3.0]]), jnp.zeros((1, 2))))
    4.0
    """
    return known(_absolute_error, (), reduction)


def _absolute_error(y: Logits, target: Any) -> tuple[Values, Logits]:
    d = y - like(_absolute_error, y, target)
    return jnp.abs(d).sum(-1), jnp.sign(d)


def huber(delta: float = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make the loss that is half the squared error up to |y - t| = delta, linear beyond, summed over a row.

    Gradient: clip(y - t, -delta, delta). Outputs `y` and targets: (..., k). Source: Huber 1964.

    Args:
        delta: the error beyond which the loss is linear, a number > 0.
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: where delta is not > 0, or, on use, outputs and targets do not fit.

    >>> print(huber()(jnp.array([[0.5, 3.0]]), jnp.zeros((1, 2))))
    2.625
    """
    if not delta > 0:
        raise InputError("huber", "delta > 0", repr(delta), "fnn.huber(delta=1.0)")
    return known(_huber, (("delta", delta),), reduction)


def _huber(y: Logits, target: Any, delta: float) -> tuple[Values, Logits]:
    d = y - like(_huber, y, target)
    dy = jnp.clip(d, -delta, delta)
    return (dy * (d - dy / 2)).sum(-1), dy


def poisson(reduction: Reduction = "mean") -> Loss:
    """Make the loss that sums exp(y) - t y over a row: that of counts, without the constant log(t!).

    Gradient: exp(y) - t. Outputs `y`: log rates (..., k). Targets: counts (..., k).

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> print(poisson()(jnp.zeros((1, 2)), jnp.ones((1, 2))))
    2.0
    """
    return known(_poisson, (), reduction, POISSON)


def _poisson(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_poisson, y, target)
    rate = jnp.exp(y)
    value = jnp.where(jnp.isposinf(rate), rate, rate - times(t, y))  # as exp(y) outgrows t y
    return value.sum(-1), rate - t


def cosine(reduction: Reduction = "mean") -> Loss:
    """Make the loss 1 - cos(y, t) of a row.

    Gradient: (cos y/|y| - t/|t|) / |y|. A row of zeros, in outputs or targets, has cosine and gradient zero.
    Outputs `y` and targets: (..., k).

    Args:
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.

    Raises:
        InputError: on use, where outputs and targets do not fit.

    >>> print(cosine()(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])))
    1.0
    """
    return known(_cosine, (), reduction)


def _cosine(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = like(_cosine, y, target)
    (y_unit, y_norm, y_root), (t_unit, t_norm, _) = _unit(y), _unit(t)
    both = (y_norm != 0) & (t_norm != 0)
    apart = t_unit - y_unit  # 1 - cos is half its square, which keeps the digits of nearly parallel rows
    value = jnp.where(both, jnp.square(apart).sum(-1, keepdims=True) / 2, 1)
    dy = -(apart + value * y_unit) / jnp.where(y_norm == 0, 1, y_norm) / y_root / y_root
    return value[..., 0], jnp.where(both, dy, 0)


def _unit(v: Any) -> tuple[Any, Any, Any]:
    """Return v / |v|, and n and r with |v| = n r^2, of every row; zeros stay zeros, and n is zero there.

    r^2 is the largest number, so that no square overflows; its root, so that 1 / r^2 does not underflow.
    """
    largest = jax.lax.stop_gradient(jnp.abs(v).max(-1, keepdims=True))  # v / |v| does not depend on it
    root = jnp.sqrt(jnp.where(largest == 0, 1, largest))
    v = v / root / root
    norm = jnp.sqrt(jnp.where(largest == 0, 1, jnp.square(v).sum(-1, keepdims=True)))
    return v / norm, jnp.where(largest == 0, 0, norm), root
