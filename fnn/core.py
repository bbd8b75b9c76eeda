"""The whole of fnn on one page: what a layer is, and the four functions that everything is made of.

    params       = fnn.init(net, key, x)
    y, residuals = fnn.forward(net, params, x, key=None)
    grads, dx    = fnn.backward(net, params, residuals, dy)
    y            = fnn.apply(net, params, x, key=None)          # jax.grad just works

Data flows like this. `forward` runs the network; every layer says which of its two sides its backward
reads (`needs`), and just these boundaries are kept, beside small extras (a norm's statistics, a dropout
key): the residuals. `backward` walks the layers in reverse. A layer takes its params, the boundaries it
asked for and the cotangent `dy` of its output; it gives `dx`, the cotangent of its input, and for every
param a *factor* (see factors.py), which it hands to `read` at once. The default reader sums a factor up
to the gradient; any other pure function of a factor can take its place.

All is pure, runs eagerly and under jit, vmap, scan and shard_map, and takes any batch shape `(..., k)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from fnn.errors import InputError, describe
from fnn.factors import gradient, is_factor

Params = Any  # a pytree of arrays
Side = str  # "input" or "output"
Reader = Callable[..., Any]  # read(factor, param, *leaves)
Equations = tuple[tuple[str, ...], tuple[str, ...]]  # of a layer's forward and backward, for `fnn.explain`


@runtime_checkable
class Layer(Protocol):
    """An immutable, hashable description of a function with params: a frozen dataclass, no arrays inside."""

    @property
    def needs(self) -> frozenset[Side]:
        """Which sides `backward` reads; a side that it does not name arrives there as None."""
        ...

    @property
    def cheap(self) -> bool:
        """Whether `recompute` costs no matrix product."""
        ...

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> Params:
        """Make the params for inputs of this shape and dtype."""
        ...

    def forward(self, params: Params, x: Any, key: Any) -> tuple[Any, Any]:
        """Give `(y, extras)`: the output, and what `backward` wants beside `x` and `y`."""
        ...

    def recompute(self, params: Params, x: Any, extras: Any) -> Any:
        """Give the same `y` again, bit for bit."""
        ...

    def backward(
        self, params: Params, x: Any, y: Any, extras: Any, dy: Any, read: "Reading"
    ) -> tuple[Any, Any]:
        """Give `(read(factors), dx)`; the factors have the structure of the params."""
        ...


class Residuals(NamedTuple):
    """What a forward pass leaves for the backward: a pytree, to keep, move along a scan, or look at."""

    x: Any  # the network's input, or None where no layer reads it
    y: Any  # its output, likewise
    extras: Any  # the inner boundaries that were kept, and the layers' extras


@dataclass(frozen=True)
class Reading:
    """A reader with the trees that it reads by: the params first, then the further trees.

    With a `place`, it replaces: the second tree has a row in the place of each param, a tuple that begins
    with the param or its stack; `read(factor, param, row, place=place)` gives the row with what stands at
    `place`, an index for each stacked axis, made new. A composition that reads in a loop carries the rows,
    so that they are written where they lie. In the body of a loop (`looped`) the compiler sees nothing of
    the forward, so that what is made again cannot be merged with it.
    """

    reader: Reader
    trees: tuple[Any, ...]
    place: tuple[Any, ...] | None = None
    looped: bool = False

    def __getitem__(self, part: Any) -> "Reading":
        """Give the reading of one part of a composition."""
        return replace(self, trees=tuple(tree[part] for tree in self.trees))

    def __call__(self, factors: Any) -> Any:
        """Read a tree of factors."""
        read = self.reader if self.place is None else partial(self.reader, place=self.place)
        return jax.tree.map(read, factors, *self.trees, is_leaf=is_factor)


def init(net: Layer, key: Any, x: Any) -> Params:
    """Make the params of `net` for inputs like `x`, an array or a `jax.ShapeDtypeStruct` of shape (..., k).

    Params have the dtype of `x`, float32 at least. Raises InputError where `x` does not fit.
    """
    if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key) and jnp.shape(key) != (2,):
        raise InputError("init", "a random key", describe(key), "fnn.init(net, jax.random.key(0), x)")
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise InputError("init", "an array or shape as x", describe(x), "fnn.init(net, key, jnp.asarray(x))")
    return net.init(key, jax.ShapeDtypeStruct(x.shape, x.dtype))


def forward(net: Layer, params: Params, x: Any, key: Any = None) -> tuple[Any, Residuals]:
    """Run the network: give its output, (..., j) for an input (..., k), and the residuals.

    `key` is the randomness (dropout); without a key there is no noise. Plain code all through, so
    forward-mode differentiates it. Raises InputError, with the place in the network, where params or `x`
    do not fit.
    """
    y, extras = net.forward(params, x, key)
    return y, Residuals(x if "input" in net.needs else None, y if "output" in net.needs else None, extras)


def backward(
    net: Layer, params: Params, residuals: Residuals, dy: Any, *trees: Any, read: Reader = gradient
) -> tuple[Any, Any]:
    """Run the network backwards: give what `read` makes of every param's factor, and `dx`.

    `dy` is the cotangent of the output, of its shape and dtype; `dx` that of the input (float0 for an
    integer input). Linear in `dy`. `read(factor, param, *leaves)` is called once for each leaf of the
    params, where its factor is born; `trees` are further trees that begin like the params, such as an
    optimizer's state, and `leaves` are theirs. The default gives the gradients, `fnn.unread` the factors.
    """
    return net.backward(params, *residuals, dy, Reading(read, (params, *trees)))


def apply(net: Layer, params: Params, x: Any, key: Any = None) -> Any:
    """Run the network for its output alone: `jax.grad` and its kin go through our backward."""

    def run(params: Params, x: Any, key: Any) -> tuple[Any, Any]:
        y, residuals = forward(net, params, x, key)
        return y, (params, residuals)

    def pull(saved: Any, dy: Any) -> tuple[Any, Any, None]:
        return *backward(net, *saved, dy), None

    return with_rule(run, pull, params, x, key)


def with_rule(run: Callable, pull: Callable, *args: Any, alone: Callable | None = None) -> Any:
    """Give `run(*args)[0]`, differentiated by our rule: the one place where fnn meets autodiff.

    `run(*args)` gives `(value, saved)`; `pull(saved, dvalue)` gives a cotangent for each of `args`.
    `alone(*args)` gives the same value where nothing is differentiated, if there is a cheaper way to it.
    """
    return _with_rule(alone or (lambda *args: run(*args)[0]), run, pull, *args)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _with_rule(alone: Callable, run: Callable, pull: Callable, *args: Any) -> Any:
    return alone(*args)


_with_rule.defvjp(
    lambda alone, run, pull, *args: run(*args),
    lambda alone, run, pull, saved, dvalue: pull(saved, dvalue),
)


def value_and_grad(net: Layer, loss: Any, read: Reader = gradient) -> Callable[..., tuple[Any, Any]]:
    """Give a function `(params, x, target, key=None, weights=None) -> (value, grads)`.

    `loss` is one of `fnn.losses`; `weights` are per example, as the loss takes them. `grads` is what
    `read` makes of the factors of the loss's value (with reduction "none": of the sum of the values).
    A loss that has params itself, `fnn.LinearCrossEntropy`, takes them beside the network's: `params` and
    `grads` are then pairs.
    """
    if hasattr(loss, "through"):
        return loss.through(net, read)
    if not hasattr(loss, "value_and_grad"):
        name = getattr(loss, "__name__", "loss")
        raise InputError("value_and_grad", "a loss", describe(loss), f"fnn.value_and_grad(net, {name}())")

    def run(params: Params, x: Any, target: Any, key: Any = None, weights: Any = None) -> tuple[Any, Any]:
        y, residuals = forward(net, params, x, key)
        value, dy = loss.value_and_grad(y, target, weights)
        grads, _ = backward(net, params, residuals, dy, read=read)
        return value, grads

    return run
