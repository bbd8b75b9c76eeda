"""Layers side by side: a skip connection, and several branches of one input."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from fnn.columns import cut, joined
from fnn.compose.checks import check_layers, check_params, check_same, coupled, key_of
from fnn.contract import make, run
from fnn.core import Composition, Equations, Layer, Part, pull, sides
from fnn.errors import InputError, at, brief, describe
from fnn.reading import Reading
from fnn.sharding import added, placed_like


@dataclass(frozen=True, repr=False)
class Skip(Composition):
    """Add a layer's output to its input, y = x + f(x). params: the layer's own.

    The backward reads what the layer's backward reads; if that is the layer's output, it is among the extras,
    as the chain outside does not have it. Source: He et al. 2016.

    Args:
        layer: the layer f, which must keep shape and dtype.

    Raises:
        InputError: where `layer` is no layer, or, on use, changes shape or dtype.

    >>> import fnn
    >>> fnn.apply(fnn.Skip(fnn.relu), (), jnp.array([-1.0, 2.0]))
    Array([-1.,  4.], dtype=float32)
    """

    layer: Layer
    __repr__ = brief
    equations: ClassVar[Equations | None] = ("{y} = {x} + {f0}",), ("d{x} = d{y}", "d{f0} = d{y}")

    def __post_init__(self) -> None:
        check_layers("Skip", (self.layer,), "fnn.Skip(fnn.Serial(a, b))")
        inner = self.layer
        vars(self).update(
            layers=(inner,),
            cheap=inner.cheap,
            needs=inner.needs & {"input"},
            couples_examples=inner.couples_examples,
        )

    def with_layers(self, *layers: Layer) -> "Skip":
        """Return a skip connection around another layer."""
        return replace(self, layer=layers[0])

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the one layer; its output is kept if its backward reads it."""
        return [Part(".layer", self.layer, params, x, key, keeps=self.layer.needs & {"output"})]

    def init(self, key: Any, x: Any) -> Any:
        """Make the layer's params."""
        with at(".layer"):
            params = make(self.layer, key, x)
            y, _ = jax.eval_shape(partial(run, self.layer), params, x, None)
        self._check(x, y)
        return params

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Any, Any]]:
        """y = x + f(x)"""
        with at(".layer"):
            f, extras = run(self.layer, params, x, key)
        self._check(x, f)
        return jax.tree.map(jnp.add, x, placed_like(f, x)), (
            f if "output" in self.layer.needs else None,
            extras,
        )

    def recompute(self, params: Any, x: Any, extras: tuple[Any, Any]) -> Any:
        """y = x + f(x)"""
        with at(".layer"):
            f = self.layer.recompute(params, x, extras[1])
        return jax.tree.map(jnp.add, x, placed_like(f, x))

    def backward(
        self, params: Any, x: Any, y: None, extras: tuple[Any, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx = dy + the layer's dx at dy"""
        with at(".layer"):
            readings, dx = pull(self.layer, params, x, *extras, dy, read)
        return readings, added(dy, dx)

    def inside(self, params: Any, x: Any, y: Any, extras: tuple[Any, Any]) -> list[tuple[Part, Any, Any]]:
        """List the layer, with its output where that is kept."""
        return [(Part(".layer", self.layer, params, x), *extras)]

    def _check(self, x: Any, f: Any) -> None:
        check_same(self, x, f, "fnn.Parallel(layer, fnn.Dense(j))")


@dataclass(frozen=True, init=False, repr=False)
class Parallel(Composition):
    """Run layers on the same input, and add or concatenate their outputs. params: a tuple with those of each.

    A skip connection with a projection is `Parallel(f, Dense(j))`. Outputs that the layers' backwards read
    are extras under "sum", slices of the output under "concatenate".

    Args:
        layers: the layers, one or more.
        join: "sum", for outputs of one shape and dtype; or "concatenate", along the last axis.

    Raises:
        InputError: where an argument is no layer, `join` is another, or, on use, the outputs do not fit.

    >>> import fnn
    >>> fnn.apply(fnn.Parallel(fnn.relu, fnn.identity), ((), ()), jnp.array([-1.0, 2.0]))
    Array([-1.,  4.], dtype=float32)
    """

    layers: tuple[Layer, ...]
    join: Literal["sum", "concatenate"]

    def __init__(self, *layers: Layer, join: Literal["sum", "concatenate"] = "sum") -> None:
        check_layers("Parallel", layers, "fnn.Parallel(a, b)")
        if join not in ("sum", "concatenate"):
            fix = 'fnn.Parallel(a, b, join="sum")'
            raise InputError("Parallel", 'join "sum" or "concatenate"', repr(join), fix)
        needs = frozenset().union(*(layer.needs for layer in layers))
        vars(self).update(
            layers=layers,
            join=join,
            equations=_join_equations(layers, join),
            needs=needs - {"output"} if join == "sum" else needs,  # the output only where it holds theirs
            cheap=all(layer.cheap for layer in layers),
            couples_examples=coupled(layers),
        )

    def __repr__(self) -> str:
        return f"Parallel({', '.join(map(repr, self.layers))}, join={self.join!r})"

    def with_layers(self, *layers: Layer) -> "Parallel":
        """Return other layers side by side, joined in the same way."""
        return Parallel(*layers, join=self.join)

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layers; under "sum" each keeps its output if its backward reads it."""
        held = frozenset({"output"}) if self.join == "sum" else frozenset()
        return [
            Part(f".layers[{i}]", layer, params[i], x, key, keeps=layer.needs & held)
            for i, layer in enumerate(self.layers)
        ]

    def init(self, key: Any, x: Any) -> tuple[Any, ...]:
        """Make each layer's params."""
        params = []
        for i, layer in enumerate(self.layers):
            with at(f".layers[{i}]"):
                params.append(make(layer, jax.random.fold_in(key, i), x))
        jax.eval_shape(self.forward, tuple(params), x, None)
        return tuple(params)

    def forward(self, params: tuple[Any, ...], x: Any, key: Any) -> tuple[Any, tuple[Any, Any]]:
        """y = f_0(x) + f_1(x) + ..., or the outputs concatenated"""
        check_params("Parallel", params, len(self.layers))
        outputs, extras = [], []
        for i, layer in enumerate(self.layers):
            with at(f".layers[{i}]"):
                output, extra = run(layer, params[i], x, key_of(key, i))
            outputs.append(output)
            extras.append(extra)
        return self._join(outputs), (self._kept(outputs), tuple(extras))

    def recompute(self, params: tuple[Any, ...], x: Any, extras: tuple[Any, Any]) -> Any:
        """y = f_0(x) + f_1(x) + ..., or the outputs concatenated"""
        layers = zip(self.layers, params, extras[1], strict=True)
        return self._join([layer.recompute(param, x, extra) for layer, param, extra in layers])

    def backward(
        self, params: tuple[Any, ...], x: Any, y: Any, extras: tuple[Any, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx = the sum of the layers' dx, each at dy or at its slice of dy"""
        check_params("Parallel", params, len(self.layers))
        kept, extras = extras
        if self.join == "sum":
            outputs, dys = kept, [dy] * len(self.layers)
        else:
            dys = cut(dy, kept)
            outputs = [None] * len(self.layers) if y is None else cut(y, kept)
        readings, dx = [], None
        for i, layer in enumerate(self.layers):
            share = read.mapped(lambda tree, i=i: tree[i])
            with at(f".layers[{i}]"):
                ends = sides(layer, x, outputs[i])
                reading, own = pull(layer, params[i], *ends, extras[i], dys[i], share)
            readings.append(reading)
            dx = own if dx is None else added(dx, own)
        return tuple(readings), dx

    def inside(self, params: Any, x: Any, y: Any, extras: tuple[Any, Any]) -> list[tuple[Part, Any, Any]]:
        """List the layers, with the outputs that are kept, or that are slices of a known one."""
        kept, extras = extras
        if self.join == "sum":
            outputs = kept
        else:
            outputs = [None] * len(self.layers) if y is None else jnp.split(y, list(kept), axis=-1)
        parts = [Part(f".layers[{i}]", f, params[i], x) for i, f in enumerate(self.layers)]
        return list(zip(parts, outputs, extras, strict=True))

    def _kept(self, outputs: list[Any]) -> Any:
        """Keep the outputs that are read, or, where they are slices of the output, the places of the cuts."""
        if self.join == "sum":
            pairs = zip(self.layers, outputs, strict=True)
            return tuple(output if "output" in layer.needs else None for layer, output in pairs)
        ends, end = [], 0
        for output in outputs[:-1]:
            end += output.shape[-1]
            ends.append(end)
        return Cuts(ends)

    def _join(self, outputs: list[Any]) -> Any:
        first, fix = outputs[0], "fnn.Parallel(fnn.Dense(j), fnn.Dense(j))"
        for output in outputs[1:]:
            if self.join == "sum":
                check_same(self, first, output, fix, "outputs alike")
            elif output.shape[:-1] != first.shape[:-1] or output.dtype != first.dtype:
                got = ", ".join(map(describe, outputs))
                raise InputError(
                    self, f"outputs like {describe(first)}", got, "fnn.Parallel(fnn.Dense(j), fnn.Dense(j))"
                )
        if self.join == "concatenate":
            return joined(outputs)
        total = first
        for output in outputs[1:]:
            total = jax.tree.map(jnp.add, total, placed_like(output, total))
        return total


def _join_equations(layers: tuple[Layer, ...], join: str) -> Equations:
    """Return how the outputs are joined, and how the cotangent is cut up again."""
    names = [f"{{f{i}}}" for i in range(len(layers))]
    if join == "sum":
        return (f"{{y}} = {' + '.join(names)}",), tuple(f"d{name} = d{{y}}" for name in names)
    back = []
    for i, (name, layer) in enumerate(zip(names, layers, strict=True)):
        back += [f"{name} = {{y}}[slice {i}]"] if "output" in layer.needs else []
        back.append(f"d{name} = d{{y}}[slice {i}]")
    return (f"{{y}} = concatenate({', '.join(names)})",), tuple(back)


@jax.tree_util.register_static
class Cuts(tuple[int, ...]):
    """The indices at which the concatenated output is cut: static, so a part of the residuals' structure."""
