"""Layers side by side: a skip connection, and several branches of one input."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import Layer, Reading
from fnn.errors import InputError, at, brief, describe


@dataclass(frozen=True, repr=False)
class Skip:
    """Add a layer's output to its input: y = x + f(x). params: the layer's own.

    The layer must keep shape and dtype. What the backward reads is what the layer's backward reads; an
    output that it reads is no boundary of the chain outside, so it is among the extras.
    Source: He et al. 2016.
    """

    layer: Layer
    __repr__ = brief

    def __post_init__(self):
        if not isinstance(self.layer, Layer):
            raise InputError("Skip", "a layer", repr(self.layer), "fnn.Skip(fnn.Serial(a, b))")

    @property
    def cheap(self) -> bool:
        """Whether the layer is."""
        return self.layer.cheap

    @property
    def needs(self) -> frozenset[str]:
        """The input, if the layer reads it."""
        return self.layer.needs & {"input"}

    def parts(self, params: Any, x: Any) -> list[tuple[str, Layer, Any, Any]]:
        """List the one layer: place, layer, its params, and the shape of its input."""
        return [(".layer", self.layer, params, x)]

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> Any:
        """Make the layer's params."""
        with at(".layer"):
            params = self.layer.init(key, x)
            y, _ = jax.eval_shape(self.layer.forward, params, x, None)
        _check_same(self, x, y)
        return params

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Any, Any]]:
        """y = x + f(x)"""
        with at(".layer"):
            f, extras = self.layer.forward(params, x, key)
        _check_same(self, x, f)
        return x + f, (f if "output" in self.layer.needs else None, extras)

    def recompute(self, params: Any, x: Any, extras: tuple[Any, Any]) -> Any:
        """y = x + f(x)"""
        return x + self.layer.recompute(params, x, extras[1])

    def backward(
        self, params: Any, x: Any, y: None, extras: tuple[Any, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx = dy + the layer's dx at dy"""
        with at(".layer"):
            grads, dx = self.layer.backward(params, x, *extras, dy, read)
        return grads, dy + dx


@dataclass(frozen=True, init=False, repr=False)
class Parallel:
    """Run layers on the same input and join their outputs. params: a tuple with the params of each.

    `join="sum"` adds the outputs, which must agree in shape and dtype (a skip with a projection is
    `Parallel(f, Dense(j))`); `join="concatenate"` puts them behind each other on the last axis. Outputs
    that the layers' backwards read are extras under "sum", slices of the output under "concatenate".
    """

    layers: tuple[Layer, ...]
    join: str

    def __init__(self, *layers: Layer, join: str = "sum"):
        if not layers or not all(isinstance(layer, Layer) for layer in layers):
            raise InputError("Parallel", "one or more layers", repr(layers), "fnn.Parallel(a, b)")
        if join not in ("sum", "concatenate"):
            fix = 'fnn.Parallel(a, b, join="sum")'
            raise InputError("Parallel", 'join "sum" or "concatenate"', repr(join), fix)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "join", join)

    def __repr__(self) -> str:
        return f"Parallel({', '.join(map(repr, self.layers))}, join={self.join!r})"

    @property
    def cheap(self) -> bool:
        """Whether every layer is."""
        return all(layer.cheap for layer in self.layers)

    @property
    def needs(self) -> frozenset[str]:
        """What the layers read; the output only where it holds theirs."""
        needs = frozenset[str]().union(*(layer.needs for layer in self.layers))
        return needs - {"output"} if self.join == "sum" else needs

    def parts(self, params: Any, x: Any) -> list[tuple[str, Layer, Any, Any]]:
        """List the layers: place, layer, its params, and the shape of its input."""
        return [(f".layers[{i}]", layer, params[i], x) for i, layer in enumerate(self.layers)]

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[Any, ...]:
        """Make each layer's params."""
        params = []
        for i, layer in enumerate(self.layers):
            with at(f".layers[{i}]"):
                params.append(layer.init(jax.random.fold_in(key, i), x))
        jax.eval_shape(self.forward, tuple(params), x, None)
        return tuple(params)

    def forward(self, params: tuple[Any, ...], x: Any, key: Any) -> tuple[Any, tuple[Any, Any]]:
        """y = f_0(x) + f_1(x) + ..., or the outputs behind each other"""
        self._check(params)
        outputs, extras = [], []
        for i, layer in enumerate(self.layers):
            with at(f".layers[{i}]"):
                key_i = None if key is None else jax.random.fold_in(key, i)
                output, extra = layer.forward(params[i], x, key_i)
            outputs.append(output)
            extras.append(extra)
        return self._join(outputs), (self._kept(outputs), tuple(extras))

    def recompute(self, params: tuple[Any, ...], x: Any, extras: tuple[Any, Any]) -> Any:
        """y = f_0(x) + f_1(x) + ..., or the outputs behind each other"""
        layers = zip(self.layers, params, extras[1], strict=True)
        return self._join([layer.recompute(param, x, extra) for layer, param, extra in layers])

    def backward(
        self, params: tuple[Any, ...], x: Any, y: Any, extras: tuple[Any, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx = the sum of the layers' dx, each at dy or at its slice of dy"""
        self._check(params)
        kept, extras = extras
        if self.join == "sum":
            outputs, dys = kept, [dy] * len(self.layers)
        else:
            ends = list(kept)
            dys = jnp.split(dy, ends, axis=-1)
            outputs = [None] * len(self.layers) if y is None else jnp.split(y, ends, axis=-1)
        grads, dxs = [], []
        for i, layer in enumerate(self.layers):
            v_in, v_out = (
                x if "input" in layer.needs else None,
                outputs[i] if "output" in layer.needs else None,
            )
            with at(f".layers[{i}]"):
                grad, dx = layer.backward(params[i], v_in, v_out, extras[i], dys[i], read[i])
            grads.append(grad)
            dxs.append(dx)
        return tuple(grads), dxs[0] if dxs[0].dtype == jax.dtypes.float0 else sum(dxs[1:], dxs[0])

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
        first = outputs[0]
        for output in outputs[1:]:
            same = slice(0, -1) if self.join == "concatenate" else slice(None)
            if output.shape[same] != first.shape[same] or output.dtype != first.dtype:
                got = ", ".join(map(describe, outputs))
                raise InputError(self, f"outputs like {describe(first)}", got, "fnn.Dense(j) in every branch")
        return sum(outputs[1:], first) if self.join == "sum" else jnp.concatenate(outputs, axis=-1)

    def _check(self, params: Any) -> None:
        if not isinstance(params, (tuple, list)) or len(params) != len(self.layers):
            wanted = f"a tuple of params for {len(self.layers)} layers"
            raise InputError("Parallel", wanted, describe(params), "params = fnn.init(net, key, x)")


@jax.tree_util.register_static
class Cuts(tuple[int, ...]):
    """Where the concatenated output is cut: part of the residuals' structure, not of their data."""


def _check_same(skip: Skip, x: Any, f: Any) -> None:
    if x.shape != f.shape or x.dtype != f.dtype:
        fix = "fnn.Parallel(layer, fnn.Dense(j))"
        raise InputError(skip, f"the layer's output like its input, {describe(x)}", describe(f), fix)
