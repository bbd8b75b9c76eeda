"""The contract of all losses, which are the last part of a network, and `value_and_grad`."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.arrays import PyTree, canonical
from fnn.contract import check_layer
from fnn.core import Layer, Params, forward, pull
from fnn.errors import InputError, describe
from fnn.losses.noise import warn_without_key
from fnn.reader import Read, as_reader, gradient
from fnn.reading import Reading, Stacked

Reduction = Literal["mean", "sum", "none"]


class Likelihood(NamedTuple):
    """A model of the output: a root of the loss's Hessian by the output, and a way to draw from the model.

    Args:
        root: `root(y, target)` returns columns r_c, (c, ..., k), with sum_c r_c r_c^T the Hessian of each
            row's loss by its `y`.
        sample: `sample(key, y, target)` returns the loss's gradient by `y`, (..., k), at a target drawn from
            the model: its mean square is the same Hessian (Martens 2020). Of `target` only the mass of a row
            of soft labels is used.

    >>> import fnn
    >>> normal = fnn.half_squared_error().likelihood
    >>> print(normal.root(jnp.ones((1, 2)), jnp.zeros((1, 2)))[:, 0])
    [[1. 0.]
     [0. 1.]]
    """

    root: Callable[[Any, Any], Any]
    sample: Callable[[Any, Any, Any], Any]


def by_row(weights: Any, rows: tuple[int, ...]) -> Any:
    """Return weights of the examples, (n,), as weights of their rows, (n, ...).

    Args:
        weights: the weights of the examples or of the rows, or None.
        rows: the shape of the rows.
    """
    if weights is None or len(rows) < 2 or weights.shape != rows[:1]:
        return weights
    return jnp.broadcast_to(weights.reshape(-1, *(1,) * (len(rows) - 1)), rows)


class Objective(ABC):
    """The contract of a loss: a frozen, hashable dataclass without arrays. `fnn.Loss` is one for a rule.

    Its params, where it has any, stand beside the network's: `split` and `merge` say how.

    Args of its methods: `params`, its own; `y`, the outputs, (..., k), or a tree of such arrays; `target`,
    the targets; `weights`, those of the rows or of the examples, or None; `scale`, a number that multiplies
    the gradients, not the value, in float32 or wider, or None; `read`, a `Reading`; `key`, random, or None;
    `rows` and `dtype`, of the rows' values; `of_net`, `of_loss`, the network's and its own part of a tree;
    `net`, `x`, the network and its input; `args`, `kwargs`: (`params`, if any,) `y`, `target`,
    `weights=None`, `scale=None`.

    >>> import fnn
    >>> isinstance(fnn.huber(), Objective), isinstance(fnn.LinearCrossEntropy(10), Objective)
    (True, True)
    """

    reduction: Reduction
    has_params: bool = False  # whether it has params of its own
    likelihood: Likelihood | None = None  # the model of the output whose negative logarithm it is
    couples_examples: bool | None = None  # whether one row's value depends on others; None: not declared
    reads_net: bool = False  # whether `through` reads the network's params too, as a tied head does

    @abstractmethod
    def init(self, key: Array, y: PyTree[jax.ShapeDtypeStruct]) -> Params:
        """Make the loss's own params for outputs of the shapes `y`; `()` for none."""

    @abstractmethod
    def with_reduction(self, reduction: Reduction) -> "Objective":
        """Return the same loss, reduced in another way."""

    @abstractmethod
    def pull(
        self, params: Params, y: Any, target: Any, weights: Any, read: Reading, scale: Any = None
    ) -> tuple[Array, Any, PyTree[Any]]:
        """Return `(value, dy, readings)`: the value, its gradient by `y`, the readings of the own params."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of (own params, if any,) `y` and `target`; `jax.grad` works through it."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def value(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss alone."""
        raise NotImplementedError(f"{type(self).__name__} has no value")

    def value_and_grad(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss and its gradient by `y`, or by (own params, `y`) if it has params."""
        raise NotImplementedError(f"{type(self).__name__} has no value_and_grad")

    def row_weights(self, rows: tuple[int, ...], dtype: Any, weights: Any = None) -> Any:
        """Return what each row's loss is multiplied by, of shape `rows`; None for 1 everywhere."""
        if self.reduction != "mean":
            return weights
        weights = jnp.ones(rows, dtype) if weights is None else weights
        total = weights.sum()
        return weights / jnp.where(total == 0, 1, total)

    def coefficients(self, y: Any, target: Any, weights: Any = None) -> Any:
        """Return the `weights` with which "sum" has the value that this reduction has with those given.

        So the parts of a batch add up to the whole. Outputs are arrays or shapes.
        """
        each = self.with_reduction("none")
        value = jax.eval_shape(lambda y, target: each.pull((), y, target, None, Stacked(gradient, ((),)))[0],
                               y, target)  # fmt: skip
        ones = jnp.ones(value.shape, value.dtype) if weights is None else by_row(weights, value.shape)
        return self.row_weights(value.shape, value.dtype, ones)

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Return the network's and the loss's part of params, or of a tree that begins like them."""
        return tree, ()

    def merge(self, of_net: Any, of_loss: Any) -> Any:
        """Undo `split`."""
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
        with jax.named_scope("loss"):
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


LossLike = Objective | Callable[..., Any]  # a loss, or a rule `(y, target) -> value`


def as_objective(who: str, loss: LossLike, net: Layer | None = None) -> Objective:
    """Return a loss; a function `(y, target) -> value`, or -> (value, dy), is wrapped as `fnn.Loss`.

    Args:
        who: the name of the caller, for the error message.
        loss: the loss or function.
        net: the network that it is for, or None.

    Raises:
        InputError: for anything else, and where the network is no layer.
    """
    if net is not None:
        check_layer(who, net)
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
    net: Layer, loss: LossLike, read: Read = gradient, *, noise: bool = True
) -> Callable[..., tuple[Array, PyTree[Any]]]:
    """Return the function `(params, x, target, key=None, weights=None, scale=None) -> (value, grads)`.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, or a function of your own, as for `fnn.Loss`.
        read: the reader of the factors, those of the loss's value (with reduction "none": of the sum of
            values).
        noise: False where no noise is wanted; else a call without a key warns if a layer draws noise.

    Args of the function:
        params: the params of `net`; a pair of these and the loss's where the loss has params itself.
        x: the input (n, ..., k), or a tree of arrays.
        target: the targets of the loss.
        key: the random key for dropout, or None for no noise.
        weights: the weights of the examples or of the rows, as the loss takes them.
        scale: a number that multiplies the loss's gradient before it is rounded to the output's dtype, and so
            the grads, but not the value; for float16, which loses what is below 6e-8.

    Returns of the function:
        the value, () or (...), and the readings, a tree like the params.

    Raises:
        InputError: where `loss` is no loss, or, on a call, the arguments do not fit.

    >>> import fnn
    >>> of = value_and_grad(fnn.Dense(1, bias=False), fnn.half_squared_error())
    >>> of({"kernel": jnp.ones((1, 1))}, jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1)))
    (Array(2.5, dtype=float32), {'kernel': Array([[5.]], dtype=float32)})
    """
    loss, reader = as_objective("value_and_grad", loss, net), as_reader(read)

    def run(
        params: Params, x: Any, target: Any, key: Any = None, weights: Any = None, scale: Any = None
    ) -> tuple[Any, Any]:
        params, x, target, weights = canonical((params, x, target, weights))
        if noise:
            warn_without_key(net, key, "fnn.value_and_grad(net, loss, noise=False)")
        return loss.through(net, params, x, target, key, weights, Stacked(reader, (params,)), scale)

    return run
