"""A chain of layers, described by its boundaries."""

from dataclasses import dataclass
from typing import Any

import jax

from fnn.core import Layer, Reading
from fnn.errors import InputError, at, describe

Boundaries = dict[int, Any]  # v[0] is the chain's input, v[i + 1] the output of layer i


def kept_boundaries(layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Choose the smallest set of boundaries from which all needed ones follow by cheap layers alone.

    Walk the chain once. A needed boundary is within reach if cheap layers lead to it from a kept one; if
    it is not, it is kept. For dense-gelu-dense that leaves the pre-activation only, for dense-relu-dense
    the activation only.
    """
    needed = {i + (side == "output") for i, layer in enumerate(layers) for side in layer.needs}
    kept, reachable = [], False
    for i in range(len(layers) + 1):
        reachable = reachable and layers[i - 1].cheap
        if i in needed and not reachable:
            kept.append(i)
            reachable = True
    return tuple(kept)


@dataclass(frozen=True, init=False, repr=False)
class Serial:
    """Run layers one after the other. params: a tuple with the params of each.

    A chain inside a chain is one longer chain: `Serial(a, Serial(b, c))` is `Serial(a, b, c)`. So the
    choice of boundaries is made for the whole. The extras are the kept inner boundaries by their number,
    and the layers' extras; the two ends belong to whoever runs the chain.
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer):
        for layer in layers:
            if not isinstance(layer, Layer):
                fix = "fnn.Serial(a, b)" if isinstance(layer, (list, tuple)) else "fnn.activation(f)"
                raise InputError("Serial", "layers", repr(layer), fix)
        spliced = (layer.layers if isinstance(layer, Serial) else (layer,) for layer in layers)
        object.__setattr__(self, "layers", sum(spliced, ()))

    def __repr__(self) -> str:
        return f"Serial({', '.join(map(repr, self.layers))})"

    @property
    def cheap(self) -> bool:
        """Whether every layer is."""
        return all(layer.cheap for layer in self.layers)

    @property
    def needs(self) -> frozenset[str]:
        """The ends among the kept boundaries."""
        kept, ends = kept_boundaries(self.layers), {0: "input", len(self.layers): "output"}
        return frozenset(ends[i] for i in kept if i in ends)

    def parts(self, params: Any, x: Any) -> list[tuple[str, Layer, Any, Any]]:
        """List the layers: place, layer, its params, and the shape of its input."""
        found = []
        for i, layer in enumerate(self.layers):
            found.append((f".layers[{i}]", layer, params[i], x))
            x, _ = jax.eval_shape(layer.forward, params[i], x, None)
        return found

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[Any, ...]:
        """Make each layer's params for the shape that reaches it."""
        params = []
        for i, layer in enumerate(self.layers):
            with at(f".layers[{i}]"):
                params.append(layer.init(jax.random.fold_in(key, i), x))
                x, _ = jax.eval_shape(layer.forward, params[i], x, None)
        return tuple(params)

    def forward(self, params: tuple[Any, ...], x: Any, key: Any) -> tuple[Any, tuple[Boundaries, Any]]:
        """v[i + 1] = layer i of v[i]"""
        self._check(params)
        kept, inner, extras = kept_boundaries(self.layers), {}, []
        for i, layer in enumerate(self.layers):
            if i in kept and i > 0:
                inner[i] = x
            with at(f".layers[{i}]"):
                x, extra = layer.forward(params[i], x, None if key is None else jax.random.fold_in(key, i))
            extras.append(extra)
        return x, (inner, tuple(extras))

    def recompute(self, params: tuple[Any, ...], x: Any, extras: tuple[Boundaries, Any]) -> Any:
        """v[i + 1] = layer i of v[i]"""
        for layer, param, extra in zip(self.layers, params, extras[1], strict=True):
            x = layer.recompute(param, x, extra)
        return x

    def backward(
        self, params: tuple[Any, ...], x: Any, y: Any, extras: tuple[Boundaries, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dv[i] = the backward of layer i at dv[i + 1]: the chain rule, last layer first."""
        self._check(params)
        inner, extras = extras
        known = {0: x, len(self.layers): y} | inner
        known = {i: v for i, v in known.items() if v is not None}

        def boundary(i: int) -> Any:
            """Give v[i], run again by cheap layers from the kept boundary before it where need be."""
            start = max(j for j in known if j <= i)
            for j in range(start, i):
                known[j + 1] = self.layers[j].recompute(params[j], known[j], extras[j])
            return known[i]

        grads = []
        for i, layer in reversed(list(enumerate(self.layers))):
            v_in = boundary(i) if "input" in layer.needs else None
            v_out = boundary(i + 1) if "output" in layer.needs else None
            with at(f".layers[{i}]"):
                grad, dy = layer.backward(params[i], v_in, v_out, extras[i], dy, read[i])
            known.pop(i + 1, None)  # its last use: it may be freed
            grads.append(grad)
        return tuple(reversed(grads)), dy

    def _check(self, params: Any) -> None:
        if not isinstance(params, (tuple, list)) or len(params) != len(self.layers):
            wanted = f"a tuple of params for {len(self.layers)} layers"
            raise InputError("Serial", wanted, describe(params), "params = fnn.init(net, key, x)")
