"""Losses: values and their hand-written gradients.

A loss is a rule for one row, with options and a reduction. A row is the last axis of the network's output
`y`, (..., k); all axes before it are examples (or tokens of examples). The rule's value is the *sum* over a
row's outputs (divide by k for a mean over outputs). Everything is computed in float32 or wider. By `y`
the gradient is ours; by `target` and `weights` it is autodiff's.

>>> loss = half_squared_error(reduction="sum")
>>> value, dy = loss.value_and_grad(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]]))
>>> print(value, dy)
2.5 [[1. 2.]]
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.core import with_rule
from fnn.errors import InputError, check_array, check_floating, check_range, describe
from fnn.factors import accumulator
from fnn.likelihoods import BERNOULLI, CATEGORICAL, NORMAL, NORMAL_HALF, POISSON, Likelihood

Rule = Callable[..., tuple[Any, Any]]  # rule(y, target, **options) -> value (...), dy (..., k), for each row
Logits = Float[Array, "*n k"]
Values = Float[Array, "*n"]
REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True, repr=False)
class Loss:
    """A loss: call it for the value, or take value and gradient at once. Make one with a function below.

    A rule of one's own: `Loss(rule)`, with `rule(y (..., k), target) -> (value (...), dy (..., k))`.

    `reduction="mean"` divides by the number of rows (by the sum of the weights, where given; an empty
    batch has mean 0), "sum" adds the rows up, "none" gives one value for each row. `likelihood` is the model
    of the output whose negative logarithm the loss is, where it is one: readers of curvature ask for it.
    """

    rule: Rule
    options: tuple[tuple[str, Any], ...] = ()
    reduction: str = "mean"
    likelihood: Likelihood | None = None

    def __post_init__(self):
        if self.reduction not in REDUCTIONS:
            fix = f'fnn.{self._name()}(reduction="mean")'
            raise InputError(self._name(), f"reduction to be one of {REDUCTIONS}", repr(self.reduction), fix)

    def __repr__(self) -> str:
        options = (*self.options, *(() if self.reduction == "mean" else (("reduction", self.reduction),)))
        return f"{self._name()}({', '.join(f'{name}={value!r}' for name, value in options)})"

    def __call__(self, y: Any, target: Any, weights: Any = None) -> Any:
        """Give the value, () or, for "none", (...); `jax.grad` goes through our rule."""

        def run(y: Any, target: Any, weights: Any) -> tuple[Any, Any]:
            value, dy = self.value_and_grad(y, target, weights)
            return value, (dy, y, target, weights)

        def pull(saved: Any, dvalue: Any) -> tuple[Any, Any, Any]:
            dy, y, target, weights = saved
            by_others = jax.vjp(lambda *data: self.value_and_grad(y, *data)[0], target, weights)[1]
            by_row = dvalue[..., None] if dvalue.ndim else dvalue
            return (dy * by_row.astype(dy.dtype), *by_others(dvalue))

        return with_rule(run, pull, y, target, weights)

    def value_and_grad(
        self, y: Logits, target: Any, weights: Any = None
    ) -> tuple[Float[Array, "..."], Logits]:
        """Give the value and its gradient by `y`: (...) or (), and `dy` with `y`'s shape and dtype.

        `y` (..., k) floating, `target` as the loss says, `weights` (...), one for each row. With reduction
        "none", `dy` is the gradient of the sum of the values. Raises InputError where they do not fit.
        """
        check_floating(self, y, "y")
        check_array(self, target, "target")
        if y.ndim == 0:
            raise InputError(self, "y of shape (..., k)", describe(y), "y.reshape(1)")
        wide = y.astype(accumulator(y.dtype))
        value, dy = self.rule(wide, target, **dict(self.options))
        weights = self.row_weights(value, weights)
        if weights is not None:
            # A weight of zero counts a row out, whatever its value: padding may hold NaN.
            out = (weights == 0) & ~(jnp.isfinite(value) & jnp.isfinite(dy).all(-1))
            value = jnp.where(out, 0, value * weights)
            dy = jnp.where(out[..., None], 0, dy * weights[..., None])
        return value if self.reduction == "none" else value.sum(), dy.astype(y.dtype)

    def row_weights(self, value: Any, weights: Any = None) -> Any:
        """Give what each row's loss is multiplied by, like `value` (...); None for one everywhere."""
        if weights is not None:
            check_array(self, weights, "weights")
            if weights.shape != value.shape:
                wanted = f"weights of shape {value.shape}, one for each row"
                raise InputError(self, wanted, describe(weights), f"jnp.broadcast_to(weights, {value.shape})")
            weights = weights.astype(value.dtype)
        if self.reduction == "mean":  # a mean is a weighted sum, and so is its gradient
            weights = jnp.ones(value.shape, value.dtype) if weights is None else weights
            total = weights.sum()
            weights = weights / jnp.where(total == 0, 1, total)
        return weights

    def _name(self) -> str:
        return getattr(self.rule, "__name__", "loss").lstrip("_")


def squared_error(reduction: str = "mean") -> Loss:
    """Sum of (y - t)^2 over a row; `target` (..., k). Gradient 2 (y - t)."""
    return Loss(_squared_error, (), reduction, NORMAL_HALF)


def _squared_error(y: Logits, target: Any) -> tuple[Values, Logits]:
    d = y - _like(_squared_error, y, target)
    return jnp.square(d).sum(-1), 2 * d


def half_squared_error(reduction: str = "mean") -> Loss:
    """Half the sum of (y - t)^2 over a row; `target` (..., k). Gradient y - t."""
    return Loss(_half_squared_error, (), reduction, NORMAL)


def _half_squared_error(y: Logits, target: Any) -> tuple[Values, Logits]:
    d = y - _like(_half_squared_error, y, target)
    return jnp.square(d).sum(-1) / 2, d


def absolute_error(reduction: str = "mean") -> Loss:
    """Sum of |y - t| over a row; `target` (..., k). Gradient sign(y - t), zero where they are equal."""
    return Loss(_absolute_error, (), reduction)


def _absolute_error(y: Logits, target: Any) -> tuple[Values, Logits]:
    d = y - _like(_absolute_error, y, target)
    return jnp.abs(d).sum(-1), jnp.sign(d)


def huber(delta: float = 1.0, reduction: str = "mean") -> Loss:
    """Half the squared error up to |y - t| = `delta`, linear beyond, summed over a row; `target` (..., k).

    Gradient clip(y - t, -delta, delta). Source: Huber 1964.
    """
    if not delta > 0:
        raise InputError("huber", "delta > 0", repr(delta), "fnn.huber(delta=1.0)")
    return Loss(_huber, (("delta", delta),), reduction)


def _huber(y: Logits, target: Any, delta: float) -> tuple[Values, Logits]:
    d = y - _like(_huber, y, target)
    dy = jnp.clip(d, -delta, delta)
    return (dy * (d - dy / 2)).sum(-1), dy


def binary_cross_entropy(reduction: str = "mean") -> Loss:
    """Sum of -t log p - (1 - t) log(1 - p) over a row, p = sigmoid(y); `target` (..., k) in [0, 1].

    `y` are logits. Gradient p - t, computed as (1 - t) sigmoid(y) - t sigmoid(-y), which keeps its digits
    where p is near t. Finite for every finite logit, where the chain of sigmoid and logarithm gives NaN.
    """
    return Loss(_binary_cross_entropy, (), reduction, BERNOULLI)


def _binary_cross_entropy(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = _like(_binary_cross_entropy, y, target)
    small = jnp.exp(-jnp.abs(y))  # never overflows
    p, q = jnp.where(y >= 0, 1, small) / (1 + small), jnp.where(y >= 0, small, 1) / (1 + small)
    value = t * jnp.where(y >= 0, 0, -y) + (1 - t) * jnp.where(y >= 0, y, 0) + jnp.log1p(small)
    return value.sum(-1), (1 - t) * p - t * q


def softmax_cross_entropy(label_smoothing: float = 0.0, reduction: str = "mean") -> Loss:
    """Sum of -t log softmax(y) over a row; `y` logits, `target` integer labels (...) or soft ones (..., k).

    Gradient p sum(t) - t, with p = softmax(y). `label_smoothing` e replaces t by (1 - e) t + e sum(t) / k.
    A label out of 0 .. k - 1 raises in eager code; where only the compiler sees it, value and gradient are
    NaN.
    """
    if not 0 <= label_smoothing < 1:
        wanted, fix = "0 <= label_smoothing < 1", "fnn.softmax_cross_entropy(label_smoothing=0.1)"
        raise InputError("softmax_cross_entropy", wanted, repr(label_smoothing), fix)
    return Loss(_softmax_cross_entropy, (("label_smoothing", label_smoothing),), reduction, CATEGORICAL)


def _softmax_cross_entropy(y: Logits, target: Any, label_smoothing: float = 0.0) -> tuple[Values, Logits]:
    t = _labels(_softmax_cross_entropy, y, target)
    if label_smoothing:
        t = (1 - label_smoothing) * t + label_smoothing / y.shape[-1] * t.sum(-1, keepdims=True)
    log_p, p = _log_softmax(y)
    return -_times_log(t, log_p).sum(-1), p * t.sum(-1, keepdims=True) - t


def kl_divergence(reduction: str = "mean") -> Loss:
    """Sum of t log(t / p) over a row, p = softmax(y); `y` logits, `target` (..., k) probabilities.

    Gradient p sum(t) - t. A target of zero adds nothing. Source: Kullback, Leibler 1951.
    """
    return Loss(_kl_divergence, (), reduction, CATEGORICAL)


def _kl_divergence(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = _like(_kl_divergence, y, target)
    log_p, p = _log_softmax(y)
    log_t = jnp.log(jnp.where(t == 0, 1, t))
    return (t * log_t - _times_log(t, log_p)).sum(-1), p * t.sum(-1, keepdims=True) - t


def hinge(reduction: str = "mean") -> Loss:
    """Sum of max(0, 1 - t y) over a row; `target` (..., k) of -1 and 1. Gradient -t inside the margin."""
    return Loss(_hinge, (), reduction)


def _hinge(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = _like(_hinge, y, target)
    inside = 1 - t * y > 0
    return jnp.where(inside, 1 - t * y, 0).sum(-1), jnp.where(inside, -t, 0)


def cosine(reduction: str = "mean") -> Loss:
    """1 - cos(y, t) of a row; `target` (..., k). Gradient (cos y/|y| - t/|t|) / |y|.

    A row of zeros, in `y` or `target`, has cosine and gradient zero.
    """
    return Loss(_cosine, (), reduction)


def _cosine(y: Logits, target: Any) -> tuple[Values, Logits]:
    y_unit, y_norm = _unit(y)
    t_unit, _ = _unit(_like(_cosine, y, target))
    cos = (y_unit * t_unit).sum(-1, keepdims=True)
    dy = (cos * y_unit - t_unit) / jnp.where(y_norm == 0, 1, y_norm)
    return 1 - cos[..., 0], jnp.where(y_norm == 0, 0, dy)


def poisson(reduction: str = "mean") -> Loss:
    """Sum of exp(y) - t y over a row; `y` log rates, `target` (..., k) counts. Gradient exp(y) - t.

    The negative log likelihood of counts but for log(t!), which no `y` changes.
    """
    return Loss(_poisson, (), reduction, POISSON)


def _poisson(y: Logits, target: Any) -> tuple[Values, Logits]:
    t = _like(_poisson, y, target)
    rate = jnp.exp(y)
    return (rate - t * y).sum(-1), rate - t


def _like(rule: Rule, y: Logits, target: Any) -> Logits:
    """Give a target of y's shape in y's dtype."""
    if target.shape != y.shape:
        size = "target[..., None]" if target.shape == y.shape[:-1] else f"target.reshape{y.shape}"
        name = rule.__name__.lstrip("_")
        raise InputError(name, f"target of y's shape {y.shape}", describe(target), size)
    return target.astype(y.dtype)


def _labels(rule: Rule, y: Logits, target: Any) -> Logits:
    """Give labels as soft ones: a label out of range as a row of NaN."""
    name, k = rule.__name__.lstrip("_"), y.shape[-1]
    if target.shape == y.shape and not jnp.issubdtype(target.dtype, jnp.integer):
        return target.astype(y.dtype)
    if target.shape != y.shape[:-1] or not jnp.issubdtype(target.dtype, jnp.integer):
        wanted = f"integer target of shape {y.shape[:-1]} or soft target of shape {y.shape}"
        fix = "target.astype(jnp.int32)" if target.shape == y.shape[:-1] else "target.reshape(y.shape[:-1])"
        raise InputError(name, wanted, describe(target), fix)
    check_range(name, target, k, "labels", "fnn.Dense({least}) as the last layer")
    valid = (target >= 0) & (target < k)
    return jnp.where(valid[..., None], jax.nn.one_hot(target, k, dtype=y.dtype), jnp.nan)


def _log_softmax(y: Logits) -> tuple[Logits, Logits]:
    """Give log softmax and softmax.

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
    """Give t log p, zero where t is, even at log p = -inf."""
    return jnp.where(t == 0, 0, t * log_p)


def _unit(v: Any) -> tuple[Any, Any]:
    """Give v / |v| and |v| of every row, scaled on the way so that no square overflows; zeros stay zeros."""
    size = jnp.abs(v).max(-1, keepdims=True)
    v = v / jnp.where(size == 0, 1, size)
    norm = jnp.sqrt(jnp.where(size == 0, 1, jnp.square(v).sum(-1, keepdims=True)))
    return v / norm, norm * size
