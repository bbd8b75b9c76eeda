"""Which layer of a network is the first that is wrong, walking from its output."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck import Report, Verdict, pair
from vjpcheck.checker import Level
from vjpcheck.intake import seed


def layers(
    net: Any,
    params: Any,
    x: Any,
    *,
    library: ModuleType | None = None,
    level: Level = "standard",
    key: Any = 0,
) -> Report:
    """Check every layer of `net` by itself, the last first, each composition after its layers; stop at a
    wrong one.

    A composition lists its layers with `parts(params, x)`, as `fnn.Part`s: one that takes the composition's
    input, or the last one's output, gets that, another an input drawn at random.

    Args:
        net: the network, any layer.
        params: its params.
        x: an input like those of training.
        library: the module whose `forward(net, params, x)` and `backward(net, params, residuals, dy)` run a
            layer; None for that of the network's classes.
        level: as for `gradient`.
        key: as for `gradient`.

    Returns:
        the report of the first wrong layer, which says in `where` which one it is; if none is wrong, that of
        the whole network.

    Raises:
        TypeError: where there is no such library.

    >>> import fnn, fnn.check, jax, jax.numpy as jnp
    >>> net, x = fnn.mlp([3, 4, 2], fnn.tanh), jnp.ones((5, 3))
    >>> report = fnn.check.layers(net, fnn.init(net, jax.random.key(0), x), x, level="quick")
    >>> report.verdict.name
    'PASS'
    """
    start = time.perf_counter()
    root = _Place(type(net).__name__, net, params, x)
    library = library or _library(root)
    checked, unsure = 0, []
    for place in _inside_out(root, library, seed(key)):
        report = _one(place, library, level, key)
        checked += 1
        if report.verdict is Verdict.FAIL:
            notes = (*report.notes, f"{checked - 1} layers after it are right")
            where = " ".join(
                filter(None, (f"{place.label}: {place.layer!r}", report.where and f"({report.where})"))
            )
            return replace(report, where=where, notes=notes, seconds=time.perf_counter() - start)
        unsure += [f for f in report.findings if report.verdict is Verdict.INCONCLUSIVE and place is not root]
        if place.layer is net:
            notes = (*report.notes, f"all {checked} layers and compositions were checked, the last first")
            return replace(
                report, notes=notes, findings=(*report.findings, *unsure), seconds=time.perf_counter() - start
            )
    raise AssertionError("a walk ends with its root")


@dataclass(frozen=True)
class _Place:
    label: str
    layer: Any
    params: Any
    x: Any


def _inside_out(place: _Place, library: ModuleType, number: int) -> Iterator[_Place]:
    """Return the parts of a composition, the last first, then itself."""
    for part in reversed(_parts(place, library, number)):
        yield from _inside_out(part, library, number + 1)
    yield place


def _parts(place: _Place, library: ModuleType, number: int) -> list[_Place]:
    """Place the layers of a composition: `parts` lists them with place, layer, params and the input's
    shape.
    """
    if not hasattr(place.layer, "parts"):
        return []
    found, value = [], None
    for i, part in enumerate(place.layer.parts(place.params, place.x)):
        given = {"input": place.x, "previous": value}.get(part.takes)
        given = given if part.entry is None or given is None else given[part.entry]
        given = given if _fits(given, part.x) else _draw(part.x, number * 1000 + i)
        found.append(_Place(place.label + part.place, part.layer, part.params, given))
        value = library.forward(part.layer, part.params, given)[0]
    return found


def _one(place: _Place, library: ModuleType, level: Level, key: Any) -> Report:
    def forward(params: Any, x: Any) -> Any:
        y, residuals = library.forward(place.layer, params, x)
        return y, (params, residuals)

    def backward(saved: Any, dy: Any) -> Any:
        return library.backward(place.layer, *saved, dy)

    report = pair(forward, backward, place.params, place.x, level=level, key=key)
    return replace(report, subject=f"{place.label} = {place.layer!r}")


def _fits(value: Any, shapes: Any) -> bool:
    """Tell whether arrays are there, and of these shapes."""
    leaves, wanted = jax.tree.leaves(value), jax.tree.leaves(shapes)
    same = [(v.shape, v.dtype) for v in leaves] == [(s.shape, s.dtype) for s in wanted]
    return same and all(isinstance(leaf, jax.Array) for leaf in leaves)


def _draw(shapes: Any, number: int) -> Any:
    rng = np.random.default_rng(number)

    def one(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype)
        return jnp.asarray(rng.integers(0, 2, leaf.shape), leaf.dtype)

    return jax.tree.map(one, shapes)


def _library(place: _Place) -> ModuleType:
    """Find the package of the network's class, or of a layer in it, that can run a network."""
    waiting = [place.layer]
    while waiting:
        layer = waiting.pop()
        package = sys.modules.get(type(layer).__module__.partition(".")[0])
        if package is not None and hasattr(package, "forward") and hasattr(package, "backward"):
            return package
        inner = getattr(layer, "layers", getattr(layer, "layer", ()))
        waiting += inner if isinstance(inner, tuple | list) else [inner]
    raise TypeError(
        f"expected a network whose package has forward and backward, got {type(place.layer).__name__}: "
        "name the package, as in `fnn.check.layers(net, params, x, library=fnn)`"
    )
