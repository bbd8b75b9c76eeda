"""A residual block that can be run backwards: in a `Repeat`, its depth costs no memory."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn.compose.recomputed import after, sides
from fnn.core import Layer, Reading
from fnn.errors import InputError, at, brief, check_cotangent, check_floating, describe


@dataclass(frozen=True, repr=False)
class Reversible:
    """Add to the halves of the last axis in turn, y1 = x1 + f(x2), y2 = x2 + g(y1): (..., 2k) -> (..., 2k).

    params: `(params of f, params of g)`. f and g must keep shape and dtype; what they keep is made again.
    The backward reads the output and finds the input from it, x2 = y2 - g(y1), x1 = y1 - f(x2), by the same
    second run of f and g: so `Repeat(Reversible(f, g), n)` keeps its last output alone, however large n is
    (and the keys of noise). The input comes back up to rounding, and so do the gradients, to some n unit
    roundoffs: wants float32 or wider. Source: Gomez et al. 2017.
    """

    f: Layer
    g: Layer
    __repr__ = brief
    cheap = False
    needs = frozenset({"output"})
    equations = (
        ("x1, x2 = split({x})", "y1 = x1 + f(x2)", "y2 = x2 + g(y1)", "{y} = concatenate(y1, y2)"),
        (
            "y1, y2 = split({y})",
            "x2 = y2 - g(y1)",
            "x1 = y1 - f(x2)",
            "dx1 = dy1 + dy2 g'(y1)",
            "dx2 = dy2 + dx1 f'(x2)",
            "d{x} = concatenate(dx1, dx2)",
        ),
    )

    def __post_init__(self):
        for layer in (self.f, self.g):
            if not isinstance(layer, Layer):
                raise InputError("Reversible", "two layers", repr(layer), "fnn.Reversible(f, g)")

    def parts(self, params: Any, x: Any) -> list[tuple[str, Layer, Any, Any]]:
        """List f and g: place, layer, its params, and the shape of its input."""
        half = jax.ShapeDtypeStruct((*x.shape[:-1], x.shape[-1] // 2), x.dtype)
        return [(".f", self.f, params[0], half), (".g", self.g, params[1], half)]

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[Any, Any]:
        """Make the params of f and of g."""
        self._check(x)
        made = []
        for i, (place, layer, _, half) in enumerate(self.parts((None, None), x)):
            with at(place):
                made.append(layer.init(jax.random.fold_in(key, i), half))
        jax.eval_shape(self.forward, tuple(made), x, None)
        return made[0], made[1]

    def forward(self, params: tuple[Any, Any], x: Any, key: Any) -> tuple[Any, Any]:
        """y1 = x1 + f(x2), y2 = x2 + g(y1), and the key"""
        return self.recompute(params, x, key), key

    def recompute(self, params: tuple[Any, Any], x: Any, extras: Any) -> Any:
        """y1 = x1 + f(x2), y2 = x2 + g(y1)"""
        self._check(x)
        x1, x2 = jnp.split(x, 2, -1)
        y1 = x1 + self._run(0, params, x2, extras)[0]
        return jnp.concatenate([y1, x2 + self._run(1, params, y1, extras)[0]], -1)

    def backward(
        self, params: tuple[Any, Any], x: None, y: Any, extras: Any, dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx1 = dy1 + the dx of g at dy2, dx2 = dy2 + the dx of f at dx1"""
        return self.backward_and_input(params, y, extras, dy, read)[:2]

    def backward_and_input(
        self, params: tuple[Any, Any], y: Any, key: Any, dy: Any, read: Reading
    ) -> tuple[Any, Any, Any]:
        """Give the readings, dx, and the x that y comes from: x2 = y2 - g(y1), x1 = y1 - f(x2)."""
        check_cotangent(self, dy, y.shape, y.dtype)
        y = after(y, dy)
        (y1, y2), (dy1, dy2) = jnp.split(y, 2, -1), jnp.split(dy, 2, -1)
        g, of_g = self._run(1, params, y1, key)
        x2 = y2 - g
        of_y1, dy1_by_g = self.g.backward(params[1], *sides(self.g, y1, g), of_g, dy2, read[1])
        f, of_f = self._run(0, params, x2, key)
        dx1 = dy1 + dy1_by_g
        of_x2, dy2_by_f = self.f.backward(params[0], *sides(self.f, x2, f), of_f, dx1, read[0])
        dx = jnp.concatenate([dx1, dy2 + dy2_by_f], -1)
        return (of_x2, of_y1), dx, jnp.concatenate([y1 - f, x2], -1)

    def _run(self, which: int, params: tuple[Any, Any], x: Any, key: Any) -> tuple[Any, Any]:
        place, layer = ((".f", self.f), (".g", self.g))[which]
        with at(place):
            y, extras = layer.forward(
                params[which], x, None if key is None else jax.random.fold_in(key, which)
            )
        if y.shape != x.shape or y.dtype != x.dtype:
            wanted = f"{place[1:]}'s output like its input, {describe(x)}"
            raise InputError(self, wanted, describe(y), f"a last layer of {x.shape[-1]} features")
        return y, extras

    def _check(self, x: Any) -> None:
        check_floating(self, x)
        if x.ndim == 0 or x.shape[-1] % 2:
            raise InputError(self, "x of shape (..., 2k)", describe(x), "jnp.concatenate([x, x], -1)")
