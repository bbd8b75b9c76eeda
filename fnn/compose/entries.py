"""Layers for the entries of a dict or tuple: one for each entry of an input, one for each of an output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fnn.compose.checks import check_layers, coupled
from fnn.compose.names import Name, check_shares, gathered, named, own_key, place_of, quoted, share
from fnn.core import Composition, Layer, Part, pull, sides
from fnn.errors import InputError, at, describe
from fnn.reading import Reading
from fnn.sharding import added


@dataclass(frozen=True, init=False, repr=False)
class Each(Composition):
    """Run a layer on each entry of a dict or tuple: `Each({"categories": f, "numbers": g})`, `Each((f, g))`.

    The output has the entries of the input. params: a dict with those of each entry whose layer has any, or a
    tuple. What the layers' backwards read are entries of the input and of the output, so nothing is kept
    beside these two. A layer draws its params by the entry's name, whatever other entries there are.
    """

    layers: tuple[Layer, ...]
    names: tuple[Name, ...]

    def __init__(self, layers: Mapping[str, Layer] | Sequence[Layer]):
        _describe(self, named("Each", layers))

    def __repr__(self) -> str:
        return _spelled("Each", self.layers, self.names)

    def __getitem__(self, name: Name) -> Layer:
        """Return the layer of an entry."""
        return dict(zip(self.names, self.layers, strict=True))[name]

    def with_layers(self, *layers: Layer) -> "Each":
        """Return other layers for the same entries."""
        return Each(_like(self.names, layers))

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layers, each on its entry."""
        return [
            Part(place_of(name), layer, share(params, name), x[name], key, entry=name)
            for name, layer in zip(self.names, self.layers, strict=True)
        ]

    def init(self, key: Any, x: Any) -> Any:
        """Make each layer's params for the shape of its entry."""
        self._check(x)
        made = {}
        for name, layer in zip(self.names, self.layers, strict=True):
            with at(place_of(name)):
                made[name] = layer.init(own_key(key, name), x[name])
        return gathered(made)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Any, ...]]:
        """y[name] = the layer of that name at x[name]"""
        check_shares("Each", params, self.names)
        self._check(x)
        outputs, extras = {}, []
        for name, layer in zip(self.names, self.layers, strict=True):
            with at(place_of(name)):
                outputs[name], extra = layer.forward(share(params, name), x[name], own_key(key, name))
            extras.append(extra)
        return _like(self.names, outputs.values()), tuple(extras)

    def recompute(self, params: Any, x: Any, extras: tuple[Any, ...]) -> Any:
        """y[name] = the layer of that name at x[name]"""
        of_layers = zip(self.names, self.layers, extras, strict=True)
        outputs = [f.recompute(share(params, name), x[name], extra) for name, f, extra in of_layers]
        return _like(self.names, outputs)

    def backward(
        self, params: Any, x: Any, y: Any, extras: tuple[Any, ...], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx[name] = the dx of the layer of that name at dy[name]"""
        _check_cotangent(self, dy, self.names)
        readings, dxs = {}, {}
        for name, layer, extra in zip(self.names, self.layers, extras, strict=True):
            ends = sides(layer, None if x is None else x[name], None if y is None else y[name])
            own = read.mapped(lambda tree, name=name: share(tree, name))
            with at(place_of(name)):
                readings[name], dxs[name] = pull(layer, share(params, name), *ends, extra, dy[name], own)
        return gathered(readings, params), _like(self.names, dxs.values())

    def inside(self, params: Any, x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List the layers, each on its entry."""
        parts = [
            Part(place_of(name), layer, share(params, name), None if x is None else x[name])
            for name, layer in zip(self.names, self.layers, strict=True)
        ]
        return list(zip(parts, _entries(self.names, y), extras, strict=True))

    def _check(self, x: Any) -> None:
        """Raise unless `x` is a dict, or a tuple, with just these entries."""
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
class Heads(Composition):
    """Run layers on one input, for several outputs: `Heads({"actor": f, "critic": g})`, `Heads((f, g))`.

    The output is a dict or tuple with what each gives. params: a dict with those of each that has any, or a
    tuple. What the layers' backwards read are the input and entries of the output. A layer draws its params
    by its name, whatever other heads there are. To join the outputs again see `fnn.Parallel`.
    """

    layers: tuple[Layer, ...]
    names: tuple[Name, ...]

    def __init__(self, layers: Mapping[str, Layer] | Sequence[Layer]):
        _describe(self, named("Heads", layers))

    def __repr__(self) -> str:
        return _spelled("Heads", self.layers, self.names)

    def __getitem__(self, name: Name) -> Layer:
        """Return the layer of an output."""
        return dict(zip(self.names, self.layers, strict=True))[name]

    def with_layers(self, *layers: Layer) -> "Heads":
        """Return other layers for the same outputs."""
        return Heads(_like(self.names, layers))

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layers, all on the input."""
        return [
            Part(place_of(name), layer, share(params, name), x, key)
            for name, layer in zip(self.names, self.layers, strict=True)
        ]

    def init(self, key: Any, x: Any) -> Any:
        """Make each layer's params."""
        made = {}
        for name, layer in zip(self.names, self.layers, strict=True):
            with at(place_of(name)):
                made[name] = layer.init(own_key(key, name), x)
        return gathered(made)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Any, ...]]:
        """y[name] = the layer of that name at x"""
        check_shares("Heads", params, self.names)
        outputs, extras = [], []
        for name, layer in zip(self.names, self.layers, strict=True):
            with at(place_of(name)):
                output, extra = layer.forward(share(params, name), x, own_key(key, name))
            outputs.append(output)
            extras.append(extra)
        return _like(self.names, outputs), tuple(extras)

    def recompute(self, params: Any, x: Any, extras: tuple[Any, ...]) -> Any:
        """y[name] = the layer of that name at x"""
        of_layers = zip(self.names, self.layers, extras, strict=True)
        return _like(self.names, [f.recompute(share(params, name), x, extra) for name, f, extra in of_layers])

    def backward(
        self, params: Any, x: Any, y: Any, extras: tuple[Any, ...], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx = the sum of the layers' dx, each at dy[name]"""
        _check_cotangent(self, dy, self.names)
        readings, dx = {}, None
        for name, layer, extra in zip(self.names, self.layers, extras, strict=True):
            ends = sides(layer, x, None if y is None else y[name])
            own = read.mapped(lambda tree, name=name: share(tree, name))
            with at(place_of(name)):
                readings[name], more = pull(layer, share(params, name), *ends, extra, dy[name], own)
            dx = more if dx is None else added(dx, more)
        return gathered(readings, params), dx

    def inside(self, params: Any, x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List the layers, each with its entry of the output."""
        return list(zip(self.parts(params, x), _entries(self.names, y), extras, strict=True))


def _describe(layer: Each | Heads, layers: dict[Name, Layer]) -> None:
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


def _entries(names: tuple[Name, ...], tree: Any) -> list[Any]:
    """Return the entries of a tree that may not be known."""
    return [None if tree is None else tree[name] for name in names]


def _spelled(who: str, layers: tuple[Layer, ...], names: tuple[Name, ...]) -> str:
    if isinstance(names[0], str):
        return f"{who}({{{', '.join(f'{quoted(n)}: {f!r}' for n, f in zip(names, layers, strict=True))}}})"
    return f"{who}(({', '.join(map(repr, layers))},))"


def _check_cotangent(who: object, dy: Any, names: tuple[Name, ...]) -> None:
    """Raise unless `dy` has an entry for each name."""
    if jax.tree.structure(_like(names, names)) != jax.tree.structure(dy, is_leaf=lambda v: v is not dy):
        wanted = f"dy like y, with the entries {', '.join(map(quoted, names))}"
        raise InputError(who, wanted, describe(dy), "jax.tree.map(jnp.ones_like, y)")
