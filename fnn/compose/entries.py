"""Layers for the entries of a dict or tuple: one for each entry of an input, one for each of an output."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fnn.compose.checks import check_layers, coupled
from fnn.compose.names import Name, check_shares, gathered, named, own_key, place_of, quoted, share
from fnn.contract import make, run
from fnn.core import Composition, Layer, Part, pull, sides
from fnn.errors import InputError, at, describe
from fnn.reading import Reading
from fnn.sharding import added


@dataclass(frozen=True, init=False, repr=False)
class ByName(Composition):
    """Layers by name, one for each entry of the output; a subclass says what each of them takes.

    The output is a dict or tuple. params: a dict with those of each layer that has any, or a tuple. What the
    layers' backwards read are the input and entries of the output, so nothing else is kept. A layer draws its
    params by its name, whatever other layers there are.

    Args:
        layers: a dict of layers, or a tuple, whose names are 0, 1, ...
    """

    layers: tuple[Layer, ...]
    names: tuple[Name, ...]

    def __init__(self, layers: Mapping[str, Layer] | Sequence[Layer]) -> None:
        _describe(self, named(type(self).__name__, layers))

    def __repr__(self) -> str:
        return _spelled(type(self).__name__, self.layers, self.names)

    def __getitem__(self, name: Name) -> Layer:
        """Return the layer of a name."""
        return dict(zip(self.names, self.layers, strict=True))[name]

    def with_layers(self, *layers: Layer) -> "ByName":
        """Return other layers under the same names."""
        return type(self)(_like(self.names, layers))

    @abstractmethod
    def check_input(self, x: Any) -> None:
        """Check that an input has what the layers take. Raises: InputError."""

    @abstractmethod
    def entry(self, name: Name) -> Name | None:
        """Return the entry of the input that a layer takes; None for the whole input."""

    @abstractmethod
    def with_cotangent(self, dx: Any, name: Name, more: Any) -> Any:
        """Return the input's cotangent with that of one layer's input put in.

        Args:
            dx: the input's cotangent so far; None before the first layer.
            name: the name of the layer.
            more: the cotangent of the layer's input.
        """

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layers, each with its input."""
        return [
            Part(place_of(name), f, share(params, name), self.input_of(x, name), key, entry=self.entry(name))
            for name, f in zip(self.names, self.layers, strict=True)
        ]

    def init(self, key: Any, x: Any) -> Any:
        """Make each layer's params for the shape of its input."""
        self.check_input(x)
        made = {}
        for name, layer in zip(self.names, self.layers, strict=True):
            with at(place_of(name)):
                made[name] = make(layer, own_key(key, name), self.input_of(x, name))
        return gathered(made)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Any, ...]]:
        """y[name] = the layer of that name at its input"""
        check_shares(type(self).__name__, params, self.names)
        self.check_input(x)
        outputs, extras = [], []
        for name, layer in zip(self.names, self.layers, strict=True):
            with at(place_of(name)):
                own = self.input_of(x, name)
                output, extra = run(layer, share(params, name), own, own_key(key, name))
            outputs.append(output)
            extras.append(extra)
        return _like(self.names, outputs), tuple(extras)

    def recompute(self, params: Any, x: Any, extras: tuple[Any, ...]) -> Any:
        """y[name] = the layer of that name at its input"""
        of_layers = zip(self.names, self.layers, extras, strict=True)
        return _like(
            self.names,
            [f.recompute(share(params, n), self.input_of(x, n), extra) for n, f, extra in of_layers],
        )

    def backward(
        self, params: Any, x: Any, y: Any, extras: tuple[Any, ...], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx = the layers' dx, each at dy[name], put together"""
        _check_cotangent(self, dy, self.names)
        readings, dx = {}, None
        for name, layer, extra in zip(self.names, self.layers, extras, strict=True):
            ends = sides(layer, self.input_of(x, name), None if y is None else y[name])
            own = read.mapped(lambda tree, name=name: share(tree, name))
            with at(place_of(name)):
                readings[name], more = pull(layer, share(params, name), *ends, extra, dy[name], own)
            dx = self.with_cotangent(dx, name, more)
        return gathered(readings, params), dx

    def inside(self, params: Any, x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List the layers, each with its entry of the output."""
        outputs = [None if y is None else y[name] for name in self.names]
        return list(zip(self.parts(params, x), outputs, extras, strict=True))

    def input_of(self, x: Any, name: Name) -> Any:
        """Return what a layer takes of an input.

        Args:
            x: the input, or None where it is not known.
            name: the name of the layer.
        """
        entry = self.entry(name)
        return x if x is None or entry is None else x[entry]


@dataclass(frozen=True, init=False, repr=False)
class Each(ByName):
    """Run a layer of its own on each entry of a dict or tuple. The output has the entries of the input.

    params: a dict with those of each entry whose layer has any, or a tuple. What the layers' backwards read
    are entries of the input and of the output, so nothing else is kept. A layer draws its params by the
    entry's name, whatever other entries there are.

    Args:
        layers: a dict of layers by the names of the entries, or a tuple of layers.

    Raises:
        InputError: where an entry is no layer, or, on use, the input has other entries.

    >>> import fnn, jax.numpy as jnp
    >>> fnn.apply(fnn.Each((fnn.relu, fnn.identity)), ((), ()), (-jnp.ones(1), -jnp.ones(1)))
    (Array([0.], dtype=float32), Array([-1.], dtype=float32))
    """

    def entry(self, name: Name) -> Name:
        """Return the layer's own name."""
        return name

    def with_cotangent(self, dx: Any, name: Name, more: Any) -> Any:
        """dx[name] = the dx of the layer of that name. Args: `dx`, `name`, `more`, as for `ByName`."""
        return {**(dx or {}), name: more} if isinstance(name, str) else (*(dx or ()), more)

    def check_input(self, x: Any) -> None:
        """Check that an input is a dict, or a tuple, with exactly these entries. Raises: InputError."""
        known = (
            list(x) if isinstance(x, dict) else list(range(len(x))) if isinstance(x, (tuple, list)) else []
        )
        kind = dict if isinstance(self.names[0], str) else tuple
        if type(x) is kind and set(known) == set(self.names):
            return
        names = ", ".join(map(quoted, self.names))
        if not known:
            fix = _spelled("fnn.Heads", self.layers, self.names)
        elif type(x) is kind and set(known) > set(self.names):
            fix = f"fnn.Serial(fnn.Select(({names},)), {_spelled('fnn.Each', self.layers, self.names)})"
        elif len(known) == len(self.names) and not isinstance(x, dict):
            fix = "tuple(x)" if kind is tuple else f"dict(zip(({names},), x))"
        else:
            fix = (
                "fnn.Each({name: layer for name in x})"
                if isinstance(x, dict)
                else "fnn.Each((layer,) * len(x))"
            )
        wanted = f"x to be a {kind.__name__} with the entries {names}"
        raise InputError(self, wanted, describe(x), fix)


@dataclass(frozen=True, init=False, repr=False)
class Heads(ByName):
    """Run layers on one input, for several outputs, which form a dict or tuple.

    `fnn.Parallel` joins them again. params: a dict with those of each layer that has any, or a tuple. What
    the layers' backwards read are the input and entries of the output. A layer draws its params by its name,
    whatever other heads there are.

    Args:
        layers: a dict of layers by the names of the outputs, or a tuple of layers.

    Raises:
        InputError: where one is no layer.

    >>> import fnn, jax.numpy as jnp
    >>> fnn.apply(fnn.Heads((fnn.relu, fnn.identity)), ((), ()), -jnp.ones(1))
    (Array([0.], dtype=float32), Array([-1.], dtype=float32))
    """

    def entry(self, name: Name) -> None:
        """Return None: every layer takes the whole input."""

    def with_cotangent(self, dx: Any, name: Name, more: Any) -> Any:
        """dx = the sum of the layers' dx. Args: `dx`, `name`, `more`, as for `ByName`."""
        return more if dx is None else added(dx, more)

    def check_input(self, x: Any) -> None:
        """Accept any input, as the layers check it themselves."""


def _describe(layer: ByName, layers: dict[Name, Layer]) -> None:
    """Set what both are by their layers: each reads what theirs read, entries of the output included."""
    who = type(layer).__name__
    check_layers(who, tuple(layers.values()), f'fnn.{who}({{"a": fnn.relu, "b": fnn.identity}})')
    shown = ", ".join(f"{name}: {{f{i}}}" for i, name in enumerate(layers))
    back = []
    for i, (name, inner) in enumerate(layers.items()):
        back += [f"{{f{i}}} = {{y}}[{name!r}]"] if "output" in inner.needs else []
        back.append(f"d{{f{i}}} = d{{y}}[{name!r}]")
    vars(layer).update(
        layers=tuple(layers.values()),
        names=tuple(layers),
        needs=frozenset().union(*(inner.needs for inner in layers.values())),
        cheap=all(inner.cheap for inner in layers.values()),
        couples_examples=coupled(tuple(layers.values())),
        equations=((f"{{y}} = ({shown})",), tuple(back)),
    )


def _like(names: tuple[Name, ...], values: Any) -> Any:
    """Return values by name: a dict, or a tuple where the names are numbers."""
    return dict(zip(names, values, strict=True)) if isinstance(names[0], str) else tuple(values)


def _spelled(who: str, layers: tuple[Layer, ...], names: tuple[Name, ...]) -> str:
    if isinstance(names[0], str):
        return f"{who}({{{', '.join(f'{quoted(n)}: {f!r}' for n, f in zip(names, layers, strict=True))}}})"
    return f"{who}(({', '.join(map(repr, layers))},))"


def _check_cotangent(who: object, dy: Any, names: tuple[Name, ...]) -> None:
    """Raise unless `dy` has an entry for each name."""
    if jax.tree.structure(_like(names, names)) != jax.tree.structure(dy, is_leaf=lambda v: v is not dy):
        wanted = f"dy like y, with the entries {', '.join(map(quoted, names))}"
        raise InputError(who, wanted, describe(dy), "jax.tree.map(jnp.ones_like, y)")
