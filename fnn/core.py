"""The contract of fnn on one page: what a layer is, and the functions that everything is made of.


    params = fnn.init(net, key, x);                          y, residuals = fnn.forward(net, params, x)
    grads, dx = fnn.backward(net, params, residuals, dy);    y = fnn.apply(net, params, x)

`forward` runs the network. Every layer declares which of its two sides its backward reads (`needs`); these
boundaries are kept, with small extras (a norm's statistics, a dropout key): the residuals. `backward` runs
the layers in reverse. A leaf gets its params, the boundaries that it needs and the cotangent `dy` of its
output; it returns `dx`, the cotangent of its input, and for every param a *factor*, which its composition
passes to a *reader*, by default the sum to the gradient. All is pure, for any batch shape, and for trees.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
from jaxtyping import Array

from fnn.arrays import PyTree, canonical, shapes_of
from fnn.autodiff import with_rule
from fnn.contract import check_residuals, checked_pair, make, run, sides
from fnn.factors import Factor
from fnn.keys import check_key, check_noise
from fnn.reader import Read, as_reader, gradient
from fnn.reading import Reading, Stacked
from fnn.sharding import as_cotangent

Params = PyTree[Array]
Sides = frozenset[Literal["input", "output"]]
Kept = Literal["input", "output", "key"]
Equations = tuple[tuple[str, ...], tuple[str, ...]]  # of a layer's forward and backward, for `fnn.explain`


class Layer(ABC):
    """A function with params, as a frozen, hashable dataclass; derive from `Leaf` or `Composition`.

    Args of its methods: `params`, its own; `x` and `y`, input and output (in `backward` None if not in
    `needs`); `key`, random or None; `extras`, of `forward`; `dy`, the cotangent of `y`; `read`, a `Reading`.
    """

    needs: ClassVar[Sides] = frozenset(("input", "output"))  # that `backward` reads, else None there
    noisy: ClassVar[bool] = False  # whether training wants a key, for noise
    cheap: ClassVar[bool] = False  # whether `recompute` takes no matrix product
    couples_examples: ClassVar[bool | None] = None  # whether one example sees others; None: not declared

    @abstractmethod
    def init(self, key: Array, x: PyTree[jax.ShapeDtypeStruct]) -> Params:
        """Make the params for inputs of the shapes `x`; `()` for none."""

    @abstractmethod
    def forward(self, params: Params, x: Any, key: Array | None) -> tuple[Any, Any]:
        """Return `(y, extras)`: the output, and what `backward` needs beside `x` and `y`."""

    def recompute(self, params: Params, x: Any, extras: Any) -> Any:
        """Return the same `y` again, with the noise of the extras. Chains call it on cheap layers only."""
        return self.forward(params, x, None)[0]


class Leaf(Layer):
    """A layer that computes: two equations, `forward` and `backward`. It never sees a reader."""

    equations: ClassVar[Equations | None] = None  # with {x}, {y}, params in braces; d{x}: a cotangent
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # the names of each param's axes, for sharding rules

    @abstractmethod
    def backward(self, params: Params, x: Any, y: Any, extras: Any, dy: Any) -> tuple[PyTree[Factor], Any]:
        """Return `(factors, dx)`; the factors have the structure of the params, `dx` is like `x`."""


class Part(NamedTuple):
    """One layer of a composition, as the composition runs it."""

    place: str  # where it stands, an attribute or index such as ".layers[2]"
    layer: Layer
    params: Params  # of one run, arrays or shapes
    x: Any  # the shape of its input
    key: Any = None  # of one run, where there is one
    times: int = 1  # how often it runs in one run of the composition
    copies: int = 1  # how many sets of params it has for these runs
    keeps: frozenset[Kept] = frozenset()  # what the composition keeps for each of its runs
    again: bool = False  # whether the backward runs it again: its residuals live only there
    takes: Literal["input", "previous", "other"] = "input"  # the composition's input, the last part's output
    entry: str | int | None = None  # the entry of that which it takes; None: the whole


class Composition(Layer):
    """A layer made of layers. `parts` declares its structure, of which descriptions and plans are folds."""

    layers: tuple[Layer, ...]  # that it is made of
    equations: ClassVar[Equations | None] = None  # how parts' outputs {f0}, ... make {y}; None: a chain
    rebuilds: ClassVar[bool] = False  # whether `rebuild` makes the output from params and extras, cheaply
    reverses: ClassVar[bool] = False  # whether `backward_and_input` finds the input from the output

    @abstractmethod
    def with_layers(self, *layers: Layer) -> "Composition":
        """Return the same composition of other layers."""

    @abstractmethod
    def parts(self, params: Params, x: Any, key: Any = None) -> list[Part]:
        """List what `forward` runs, in that order. Params, input and key are arrays or shapes."""

    @abstractmethod
    def backward(
        self, params: Params, x: Any, y: Any, extras: Any, dy: Any, read: Reading
    ) -> tuple[PyTree[Any], Any]:
        """Return `(readings, dx)`: run each layer backwards by `pull`, with its share of `read`."""

    def inside(self, params: Params, x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List `(part, y, extras)` of each layer, stacked where it runs often, None for what is unknown."""
        return []

    def rebuild(self, params: Params, extras: Any) -> Any:
        """Return the output again, without the input. Called only where `rebuilds`."""
        raise NotImplementedError

    def backward_and_input(
        self, params: Params, y: Any, extras: Any, dy: Any, read: Reading
    ) -> tuple[PyTree[Any], Any, Any]:
        """Return `(readings, dx, x)`, without the input. Called only where `reverses`."""
        raise NotImplementedError


def pull(
    layer: Layer, params: Params, x: Any, y: Any, extras: Any, dy: Any, read: Reading
) -> tuple[PyTree[Any], Any]:
    """Run `layer` of a composition backwards: return its readings, and `dx` with the sharding of `x`."""
    if isinstance(layer, Composition):
        readings, dx = checked_pair(layer, x, layer.backward(params, x, y, extras, dy, read))
    else:
        assert isinstance(layer, Leaf)
        factors, dx = checked_pair(layer, x, layer.backward(params, x, y, extras, dy))
        readings = read(factors, layer)
    return readings, dx if x is None else as_cotangent(dx, x)


class Residuals(NamedTuple):
    """What a forward pass leaves for the backward: a pytree, to keep, move along a scan, or look at."""

    x: Any  # the network's input, or None where no layer reads it
    y: Any  # its output, likewise
    extras: Any  # the inner boundaries that were kept, and the layers' extras


def init(net: Layer, key: Array, x: Any) -> Params:
    """Make the params of `net`, any layer, for inputs like `x`.

    Args: `key`, a random key; `x`, arrays or shapes (..., k). Returns: the params, float32 or wider.
    """
    check_key("init", key, "fnn.init(net, jax.random.key(0), x)")
    return make(net, key, shapes_of("init", x))


def forward(net: Layer, params: Params, x: Any, key: Array | None = None) -> tuple[Any, Residuals]:
    """Run `net`, any layer, as plain code: `output` is the same without the residuals.

    Args: `params` from `init`; `x`, the input (..., k); `key`, a random key for dropout: no key, no noise.
    Returns: the output (..., j), the residuals. Raises: InputError, with the place in the network.
    """
    check_noise("forward", key, "fnn.forward(net, params, x, jax.random.key(0))")
    params, x = canonical((params, x))
    y, extras = run(net, params, x, key)
    return y, Residuals(*sides(net, x, y), extras)


def backward(
    net: Layer, params: Params, residuals: Residuals, dy: Any, *trees: Any, read: Read = gradient
) -> tuple[PyTree[Any], Any]:
    """Run `net` backwards. Linear in `dy`.

    Args: `params`, `residuals`, those of `forward`; `dy`, the output's cotangent, of its shape and dtype;
    `read(factor, param, *leaves)`, called for each leaf of the params as soon as its factor exists (the
    default makes the gradient); `trees`, further trees that begin like the params and have the `leaves`.
    Returns: the readings, like the params, and `dx`, like `x` (float0 for integers). Raises: InputError.
    """
    check_residuals(residuals, Residuals)
    params, residuals, dy, trees = canonical((params, residuals, dy, trees))
    return pull(net, params, *residuals, dy, Stacked(as_reader(read), (params, *trees)))


def output(net: Layer, params: Params, x: Any, key: Array | None = None) -> Any:
    """Run the network for its output alone, as plain code, for forward mode; arguments as for `forward`."""
    return forward(net, params, x, key)[0]


def apply(net: Layer, params: Params, x: Any, key: Array | None = None) -> Any:
    """Run `net` for its output alone; reverse mode, such as `jax.grad`, runs `backward`.

    Args: `params`, `x`, `key` as for `forward`. Reverse mode only: `fnn.output` has both. Within `shard_map`
    cotangents are added up over unvarying axes.
    """

    def ours(params: Params, x: Any, key: Any) -> tuple[Any, Any]:
        y, residuals = forward(net, params, x, key)
        return y, (params, residuals)

    plain = "fnn.output(net, params, x, key)"
    return with_rule("apply", plain, ours, lambda kept, dy: (*backward(net, *kept, dy), None), params, x, key)
