"""Losses: values and their hand-written gradients.

A loss is a rule for one row, with options and a reduction. A row is the last axis of the network's output
`y`, (..., k); all axes before it are examples (or tokens of examples). The rule's value is the *sum* over a
row's outputs (divide by k for a mean over outputs). Everything is computed in float32 or wider. By `y`
the gradient is ours; by `target` and `weights` it is autodiff's.

>>> from fnn.losses.regression import half_squared_error
>>> loss = half_squared_error(reduction="sum")
>>> value, dy = loss.value_and_grad(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]]))
>>> print(value, dy)
2.5 [[1. 2.]]
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.arrays import accumulator, canonical, placed_like
from fnn.core import with_rule
from fnn.errors import InputError, check_array, check_floating, describe
from fnn.objective import Likelihood, Objective, Reduction, by_row
from fnn.reading import Reading

Rule = Callable[..., tuple[Any, Any]]  # rule(y, target, **options) -> value (...), dy (..., k), for each row
Logits = Float[Array, "*n k"]
Values = Float[Array, "*n"]


@dataclass(frozen=True, repr=False)
class Loss(Objective):
    """A loss: call it for the value, or take value and gradient at once. Make one with a function below.

    A rule of one's own: `Loss(rule)`, with `rule(y (..., k), target) -> (value (...), dy (..., k))`.

    `reduction="mean"` divides by the number of rows (by the sum of the weights, where given; an empty
    batch has mean 0), "sum" adds the rows up, "none" gives one value for each row. `likelihood` is the model
    of the output whose negative logarithm the loss is, where it is one: readers of curvature ask for it.
    """

    rule: Rule
    options: tuple[tuple[str, Any], ...] = ()
    reduction: Reduction = "mean"
    likelihood: Likelihood | None = None

    def __post_init__(self):
        check_reduction(self._name(), self.reduction)

    def __repr__(self) -> str:
        options = (*self.options, *(() if self.reduction == "mean" else (("reduction", self.reduction),)))
        return f"{self._name()}({', '.join(f'{name}={value!r}' for name, value in options)})"

    def init(self, key: Any, y: Any) -> tuple[()]:
        """No params."""
        return ()

    def with_reduction(self, reduction: Reduction) -> "Loss":
        """Return the same loss, reduced in another way."""
        return replace(self, reduction=reduction)

    def pull(
        self, params: tuple[()], y: Any, target: Any, weights: Any, read: Reading
    ) -> tuple[Any, Any, tuple[()]]:
        """Return the value, its gradient by `y`, and no readings."""
        return *self.value_and_grad(y, target, weights), ()

    def __call__(self, y: Any, target: Any, weights: Any = None) -> Any:
        """Return the value, () or, for "none", (...); `jax.grad` goes through our rule."""

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
        """Return the value and its gradient by `y`: (...) or (), and `dy` with `y`'s shape and dtype.

        `y` (..., k) floating, `target` as the loss says, `weights` (...), one for each row. With reduction
        "none", `dy` is the gradient of the sum of the values. Raises InputError where they do not fit.
        """
        y, target, weights = canonical((y, target, weights))
        check_floating(self, y, "y")
        check_array(self, target, "target")
        if y.ndim == 0:
            raise InputError(self, "y of shape (..., k)", describe(y), "y.reshape(1)")
        wide = y.astype(accumulator(y.dtype))
        value, dy = self.rule(wide, target, **dict(self.options))
        if weights is not None:
            check_array(self, weights, "weights")
            weights = by_row(weights, value.shape)
            if weights.shape != value.shape:
                wanted = f"weights of shape {value.shape}, one for each row"
                raise InputError(self, wanted, describe(weights), f"jnp.broadcast_to(weights, {value.shape})")
            weights = weights.astype(value.dtype)
        weights = self.row_weights(value.shape, value.dtype, weights)
        if weights is not None:
            # A weight of zero counts a row out, whatever its value: padding may hold NaN.
            out = (weights == 0) & ~(jnp.isfinite(value) & jnp.isfinite(dy).all(-1))
            value = jnp.where(out, 0, value * weights)
            dy = jnp.where(out[..., None], 0, dy * weights[..., None])
        return value if self.reduction == "none" else value.sum(), placed_like(dy.astype(y.dtype), y)

    def _name(self) -> str:
        return getattr(self.rule, "__name__", "loss").lstrip("_")


def like(rule: Rule, y: Logits, target: Any) -> Logits:
    """Give a target of y's shape in y's dtype."""
    if target.shape != y.shape:
        size = "target[..., None]" if target.shape == y.shape[:-1] else f"target.reshape{y.shape}"
        name = rule.__name__.lstrip("_")
        raise InputError(name, f"target of y's shape {y.shape}", describe(target), size)
    return target.astype(y.dtype)


def check_reduction(who: str, reduction: Any) -> None:
    """Raise unless `reduction` is a known one."""
    if reduction not in get_args(Reduction):
        wanted = f"reduction to be one of {get_args(Reduction)}"
        raise InputError(who, wanted, repr(reduction), f'fnn.{who}(reduction="mean")')
