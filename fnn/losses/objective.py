"""An objective is a network's end: the contract of all losses, and `value_and_grad`."""

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from fnn.arrays import canonical
from fnn.core import Composition, Layer, Params, forward, pull
from fnn.errors import InputError, describe
from fnn.reader import Read, as_reader, gradient
from fnn.reading import Reading, Stacked

Reduction = Literal["mean", "sum", "none"]


class Likelihood(NamedTuple):
    """A model of the output: a root of the loss's Hessian by the output, and a way to draw from the model.

    `root(y, target)` returns columns r_c, (c, ..., k), with sum_c r_c r_c^T the Hessian of each row's loss
    by its `y`. `sample(key, y, target)` returns the loss's gradient by `y`, (..., k), at a target drawn from
    the model: its mean square is the same Hessian (Martens 2020). `target` gives the mass of a row of soft
    labels alone.
    """

    root: Callable[[Any, Any], Any]
    sample: Callable[[Any, Any, Any], Any]


def by_row(weights: Any, rows: tuple[int, ...]) -> Any:
    """Return weights that are one for each example, (n,), as those of its rows, (n, ...)."""
    if weights is None or len(rows) < 2 or weights.shape != rows[:1]:
        return weights
    return jnp.broadcast_to(weights.reshape(-1, *(1,) * (len(rows) - 1)), rows)


class Objective(ABC):
    """An immutable, hashable description of a loss: a frozen dataclass, no arrays inside.

    Its params, where it has any, stand beside the network's: `split` and `merge` say how.
    """

    reduction: Reduction
    has_params: bool = False  # whether it has params of its own
    likelihood: Likelihood | None = None  # the model of the output whose negative logarithm it is
    couples_examples: bool | None = None  # whether one row's value depends on others; None: not declared
    reads_net: bool = False  # whether `through` reads the network's params too, as a tied head does

    @abstractmethod
    def init(self, key: Array, y: PyTree[jax.ShapeDtypeStruct]) -> Params:
        """Make the loss's own params for outputs of this shape; `()` for none."""

    @abstractmethod
    def with_reduction(self, reduction: Reduction) -> "Objective":
        """Return the same loss, reduced in another way."""

    @abstractmethod
    def pull(
        self, params: Params, y: Any, target: Any, weights: Any, read: Reading, scale: Any = None
    ) -> tuple[Array, Any, PyTree[Any]]:
        """Return `(value, dy, readings)`: the value, its gradient by `y`, what is read of the own params.

        `scale` is a number that the gradients are multiplied by while they are in float32 or wider; the
        value is not.
        """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of (own params, if any,) `y` and `target`; `jax.grad` works through it."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def value(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of the same arguments, without what the gradient would need."""
        raise NotImplementedError(f"{type(self).__name__} has no value")

    def value_and_grad(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of the same arguments and its gradient by `y`, and by own params if it has any."""
        raise NotImplementedError(f"{type(self).__name__} has no value_and_grad")

    def row_weights(self, rows: tuple[int, ...], dtype: Any, weights: Any = None) -> Any:
        """Return what each row's loss is multiplied by, of shape `rows`; None for one everywhere."""
        if self.reduction != "mean":
            return weights
        weights = jnp.ones(rows, dtype) if weights is None else weights
        total = weights.sum()
        return weights / jnp.where(total == 0, 1, total)

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Return the network's and the loss's own part of params, or of a tree that begins like them."""
        return tree, ()

    def merge(self, of_net: Any, of_loss: Any) -> Any:
        """Put the two parts together again."""
        return of_net

    def through(
        self,
        net: Layer,
        params: Params,
        x: Any,
        target: Any,
        key: Any,
        weights: Any,
        read: Reading,
        scale: Any = None,
    ) -> tuple[Array, PyTree[Any]]:
        """Run network and loss forwards and backwards: return the value and the readings of all params."""
        of_net, own = self.split(params)
        y, residuals = forward(net, of_net, x, key)
        of_own = read.mapped(lambda tree: self.split(tree)[1])
        value, dy, of_loss = self.pull(own, y, target, weights, of_own, scale)
        read = read.mapped(lambda tree: self.split(tree)[0])
        readings, _ = pull(net, of_net, *residuals, dy, read)
        return value, self.merge(readings, of_loss)

    def on(self, key: int | str) -> "Objective":
        """Return the loss of one entry of outputs and targets that are dicts or tuples."""
        from fnn.losses.combined import picked

        return picked(self, key)

    def __add__(self, other: Any) -> "Objective":
        from fnn.losses.combined import summed  # which is made of objectives

        return summed(self, other)

    def __radd__(self, other: Any) -> "Objective":
        return self if isinstance(other, int) and other == 0 else self + other  # as `sum` begins

    def __mul__(self, factor: Any) -> "Objective":
        from fnn.losses.combined import weighted

        return weighted(self, factor)

    __rmul__ = __mul__


def as_objective(who: str, loss: Any) -> Objective:
    """Return a loss; a bare function `(y, target) -> value`, or -> (value, dy), is wrapped as `fnn.Loss`.

    Raises InputError for anything else.
    """
    if isinstance(loss, Objective):
        return loss
    if callable(loss) and not isinstance(loss, (type, Layer)):
        from fnn.losses.loss import Loss  # which is made of this file

        if inspect.signature(loss).return_annotation in (Loss, "Loss"):  # what makes a loss, not yet called
            name = describe(loss)
            raise InputError(who, "a loss", name, f"fnn.losses.{inspect.unwrap(loss).__qualname__}()")
        return Loss(loss)
    raise InputError(who, "a loss", describe(loss), "fnn.softmax_cross_entropy()")


def value_and_grad(
    net: Layer, loss: Objective | Callable[..., Any], read: Read = gradient, *, noise: bool = True
) -> Callable[..., tuple[Array, PyTree[Any]]]:
    """Make the function `(params, x, target, key=None, weights=None, scale=None) -> (value, grads)`.

    Args: `loss`, one of `fnn.losses` or a rule of one's own (see `fnn.Loss`); `read`, what is made of the
    factors of the loss's value (with reduction "none": of the sum of the values). The function takes `x`
    (..., k), the loss's `target`, a random key for dropout, `weights` per example, as the loss takes them,
    and `scale`, a number that the loss's gradient is multiplied by before it is rounded to the output's dtype
    (grads are then that many times as large, the value is not): in float16 what is below 6e-8 is lost.
    Where a layer draws noise in training, a call without a key warns (UserWarning), unless `noise=False`
    says that none is wanted.
    Returns: the value, () or (...), and the readings, in the structure of the params. A loss that has params
    itself, `fnn.LinearCrossEntropy`, takes them beside the network's: params and grads are then pairs.
    """
    loss, reader = as_objective("value_and_grad", loss), as_reader(read)

    def run(
        params: Params, x: Any, target: Any, key: Any = None, weights: Any = None, scale: Any = None
    ) -> tuple[Any, Any]:
        params, x, target, weights = canonical((params, x, target, weights))
        if noise:
            warn_without_key(net, key, "fnn.value_and_grad(net, loss, noise=False)")
        return loss.through(net, params, x, target, key, weights, Stacked(reader, (params,)), scale)

    return run


def warn_without_key(net: Layer, key: Any, silent: str) -> None:
    """Warn where `key` is None and a layer draws noise in training; `silent` is the call that does not."""
    if key is None and _noisy(net):
        warnings.warn(f"a layer of {net!r} draws noise, which is left out without a key: pass `key`, or make "
                      f"the function by `{silent}`", UserWarning, stacklevel=3)  # fmt: skip


def _noisy(layer: Layer) -> bool:
    return any(map(_noisy, layer.layers)) if isinstance(layer, Composition) else layer.noisy
