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

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.arrays import PyTree, canonical, widened
from fnn.autodiff import with_rule
from fnn.errors import InputError, check_array, check_floating, describe
from fnn.losses.objective import Likelihood, Objective, Reduction, by_row
from fnn.losses.rule import Rule, checked, rowwise, rowwise_pull
from fnn.reading import Reading

Logits = Float[Array, "*n k"]
Values = Float[Array, "*n"]


@dataclass(frozen=True, repr=False)
class Loss(Objective):
    """A loss: call it for the value, or take value and gradient at once.

    Args:
        rule: `rule(y, target, **options)`, for `y` (..., k) in float32 or wider, or a tree of such outputs.
            It returns `(value (...), dy)`, dy like y, or the value alone, which autodiff differentiates. A
            value for each output, (..., k), as optax's losses of regression return it, is summed over the
            row. Wherever a loss is expected, the rule itself may be given: `lambda y, t: ...`.
        options: keyword arguments of the rule, as pairs.
        reduction: "mean" divides by the number of rows (by the sum of the weights, where given; an empty
            batch has mean 0), "sum" adds the rows, "none" returns one value for each row.
        likelihood: the model of the output whose negative logarithm the loss is, for readers of curvature;
            None where there is none.
        couples_examples: whether the value of one row depends on other rows; None where it is not known:
            readers of examples then try it on two.

    Raises:
        InputError: where `reduction` is another, or, on use, the rule returns anything else.

    >>> loss = Loss(lambda y, t: jnp.square(y - t))
    >>> print(loss(jnp.array([[1.0, 3.0]]), jnp.zeros((1, 2))))
    10.0
    """

    rule: Rule
    options: tuple[tuple[str, Any], ...] = ()
    reduction: Reduction = "mean"
    likelihood: Likelihood | None = None
    couples_examples: bool | None = None

    def __post_init__(self) -> None:
        own = str(getattr(self.rule, "__module__", "")).startswith("fnn.losses.")
        fix = f'fnn.losses.{self._name()}(reduction="mean")' if own else 'fnn.Loss(rule, reduction="mean")'
        check_reduction(self._name(), self.reduction, fix)

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
        self, params: tuple[()], y: Any, target: Any, weights: Any, read: Reading, scale: Any = None
    ) -> tuple[Any, Any, tuple[()]]:
        """Return the value, its gradient by `y`, and no readings."""
        return *self.value_and_grad(y, target, weights, scale), ()

    def __call__(self, y: Any, target: Any, weights: Any = None) -> Any:
        """Return the value, () or, for "none", (...); `jax.grad` goes through our rule.

        Reverse mode only: for `jax.jvp`, `jax.jacfwd` or `jax.linearize` call `loss.value`.
        """

        def run(y: Any, target: Any, weights: Any) -> tuple[Any, Any]:
            value, dy, by_autodiff = self._evaluated(y, target, weights)
            return value, (None if by_autodiff else dy, y, target, weights)

        def pull(saved: Any, dvalue: Any) -> tuple[Any, Any, Any]:
            dy, y, target, weights = saved
            if dy is None:
                return jax.vjp(self.value, y, target, weights)[1](dvalue)
            by_others = jax.vjp(lambda *data: self.value(y, *data), target, weights)[1]
            dy = jax.tree.map(lambda d: rowwise(d, dvalue.astype(d.dtype)), dy)  # wide until it is scaled
            return (_narrowed(dy, y), *by_others(dvalue))

        plain = "loss.value(y, target, weights)"
        return with_rule(self, plain, run, pull, *canonical((y, target, weights)))

    def value(self, y: Any, target: Any, weights: Any = None) -> Any:
        """Return the value alone, as plain code: for forward mode and for derivatives of any order."""
        return self._evaluated(y, target, weights)[0]

    def value_and_grad(
        self, y: PyTree[Logits], target: Any, weights: Any = None, scale: Any = None
    ) -> tuple[Float[Array, "..."], PyTree[Logits]]:
        """Return the value and its gradient by `y`: (...) or (), and `dy` with `y`'s shape and dtype.

        Args: `y` (..., k) floating, or a tree of such arrays if the rule takes one; `target` as the loss
        says; `weights` (...), one for each row, or (n,), one for each example; `scale`, a number that dy is
        multiplied by before it is rounded to y's dtype (the value is not): float16 loses what is below 6e-8.
        Returns: with reduction "none" dy is the gradient of the sum of the values.
        Raises: InputError where they do not fit.
        """
        value, dy, _ = self._evaluated(y, target, weights)
        if scale is not None:
            dy = jax.tree.map(lambda d: d * jnp.asarray(scale, d.dtype), dy)
        return value, _narrowed(dy, y)

    def _evaluated(self, y: Any, target: Any, weights: Any) -> tuple[Any, Any, bool]:
        """Return value and gradient as reduced, in float32 or wider, and whether it is autodiff's."""
        y, target, weights = canonical((y, target, weights))
        for leaf in jax.tree.leaves(y):
            check_floating(self, leaf, "y")
            if leaf.ndim == 0:
                raise InputError(self, "y of shape (..., k)", describe(leaf), "y.reshape(1)")
        wide = jax.tree.map(widened, y)
        rule = partial(self.rule, **dict(self.options))
        value, dy = checked(self, rule(wide, target), wide)
        weights = self._weights(value, weights)
        by_autodiff = dy is None
        if by_autodiff:
            # The weights go through the rule, so that a value that depends on several rows is right, too.
            dy = rowwise_pull(self, rule, wide, target, value, weights)
        elif weights is not None:
            dy = jax.tree.map(lambda d: rowwise(d, weights), dy)
        if weights is not None:
            # A weight of zero counts a row out, whatever its value: padding may hold NaN.
            axes = value.ndim
            finite = [jnp.isfinite(d).all(tuple(range(axes, d.ndim))) for d in (value, *jax.tree.leaves(dy))]
            out = (weights == 0) & ~jnp.stack(finite).all(0)
            value = jnp.where(out, 0, value * weights)
            dy = jax.tree.map(lambda d: jnp.where(out.reshape(*out.shape, *(1,) * (d.ndim - axes)), 0, d), dy)
        return value if self.reduction == "none" else value.sum(), dy, by_autodiff

    def _weights(self, value: Any, weights: Any) -> Any:
        """Return what each row's value is multiplied by, None for one everywhere."""
        if weights is not None:
            weights = jnp.asarray(weights)
            rows = by_row(weights, value.shape)
            if rows.shape != value.shape:
                wanted = f"weights of shape {value.shape}, one for each row"
                raise InputError(self, wanted, describe(weights), f"jnp.ones({value.shape})")
            weights = rows.astype(value.dtype)
        return self.row_weights(value.shape, value.dtype, weights)

    def _name(self) -> str:
        return getattr(self.rule, "__name__", "loss").lstrip("_")


def known(
    rule: Rule,
    options: tuple[tuple[str, Any], ...],
    reduction: Reduction,
    likelihood: Likelihood | None = None,
) -> Loss:
    """Return a loss whose rows are known not to depend on each other.

    Args: `rule`, `options`, `reduction` and `likelihood` are those of `Loss`.
    """
    return Loss(rule, options, reduction, likelihood, couples_examples=False)


def like(rule: Rule, y: Logits, target: Any) -> Logits:
    """Return a target of y's shape in y's dtype.

    Args:
        rule: the rule, for the error message.
        y: the outputs, (..., k).
        target: the targets.

    Raises:
        InputError: where they have another shape.
    """
    name = rule.__name__.lstrip("_")
    check_array(name, target, "target")
    check_outputs(name, y)
    if jnp.shape(target) != y.shape:
        fix = "jnp.zeros_like(y)"
        if jnp.size(target) == y.size:
            fix = f"target.reshape{y.shape}" if y.ndim > 1 else f"y.reshape{jnp.shape(target)}"
        elif jnp.shape(target) == y.shape[:-1] and jnp.issubdtype(target.dtype, jnp.integer):  # classes
            fix = f"jax.nn.one_hot(target, {y.shape[-1]}, dtype=y.dtype)"
        elif jnp.shape(target) == y.shape[:-1]:
            fix = "jnp.broadcast_to(target[..., None], y.shape)"
        raise InputError(name, f"target of y's shape {y.shape}", describe(target), fix)
    return target.astype(y.dtype)


def times(weight: Any, value: Any) -> Any:
    """Multiply values by weights; a weight of zero times an infinite value is zero.

    Args: `weight`, the weights; `value`, the values.
    """
    return weight * jnp.where((weight == 0) & jnp.isinf(value), 0, value)


def check_outputs(name: str, y: Any) -> None:
    """Check that a row has outputs.

    Args:
        name: the name of the loss, for the error message.
        y: the outputs, (..., k).

    Raises:
        InputError: where k is 0.
    """
    if y.shape[-1] == 0:
        raise InputError(name, "one or more outputs in a row", describe(y), "fnn.Dense(1)")


def check_reduction(who: str, reduction: Any, fix: str) -> None:
    """Check that a reduction is known.

    Args:
        who: the name of the loss, for the error message.
        reduction: "mean", "sum" or "none".
        fix: a call with a known one, for the error message.

    Raises:
        InputError: where it is another.
    """
    if reduction not in get_args(Reduction):
        wanted = f"reduction to be one of {get_args(Reduction)}"
        raise InputError(who, wanted, repr(reduction), fix)


def _narrowed(dy: Any, y: Any) -> Any:
    return jax.tree.map(lambda d, like: d.astype(like.dtype), dy, y)
