"""A residual block that can be run backwards: in a `Repeat`, its depth costs no memory."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from fnn.columns import cut, joined
from fnn.compose.checks import check_layers, coupled, key_of
from fnn.compose.ordering import with_dependency
from fnn.contract import make, run
from fnn.core import Composition, Equations, Layer, Part, Sides, pull, sides
from fnn.errors import InputError, at, brief, check_cotangent, check_floating, describe
from fnn.reading import Reading
from fnn.sharding import placed_like


@dataclass(frozen=True, repr=False)
class Reversible(Composition):
    """Add to the halves of the last axis in turn, y1 = x1 + f(x2), y2 = x2 + g(y1): (..., 2k) -> (..., 2k).

    params: `(params of f, params of g)`. The backward reads the output and finds the input from it, x2 = y2 -
    g(y1), x1 = y1 - f(x2), by a second run of f and g, which makes again what f and g keep. So
    `Repeat(Reversible(f, g), n)` keeps its last output alone (and the keys of noise), however large n is.
    Input and gradients are found up to rounding, some n unit roundoffs: use float32 or wider.
    Source: Gomez et al. 2017.

    Args:
        f: a layer (..., k) -> (..., k) that keeps shape and dtype.
        g: another such layer.

    Raises:
        InputError: where one is no layer, or, on use, changes shape or dtype, or the last axis of x is odd.

    >>> import fnn
    >>> y = fnn.apply(fnn.Reversible(fnn.relu, fnn.relu), ((), ()), jnp.array([1.0, 2.0]))
    >>> print(y)
    [3. 5.]
    """

    f: Layer
    g: Layer
    __repr__ = brief
    needs: ClassVar[Sides] = frozenset(("output",))
    reverses = True
    equations: ClassVar[Equations | None] = (
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

    def __post_init__(self) -> None:
        check_layers("Reversible", (self.f, self.g), "fnn.Reversible(f, g)")
        vars(self).update(layers=(self.f, self.g), couples_examples=coupled((self.f, self.g)))

    def with_layers(self, *layers: Layer) -> "Reversible":
        """Return a reversible block of other layers."""
        return Reversible(*layers)

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layers f and g, both run again; the key is kept, once."""
        half = jax.ShapeDtypeStruct((*x.shape[:-1], x.shape[-1] // 2), x.dtype)
        return [
            Part(".f", self.f, params[0], half, key, keeps=frozenset({"key"}), again=True, takes="other"),
            Part(".g", self.g, params[1], half, key, again=True, takes="other"),
        ]

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[Any, Any]:
        """Make the params of f and of g."""
        self._check(x)
        made = []
        for i, part in enumerate(self.parts((None, None), x)):
            with at(part.place):
                made.append(make(part.layer, jax.random.fold_in(key, i), part.x))
        jax.eval_shape(self.forward, tuple(made), x, None)
        return made[0], made[1]

    def forward(self, params: tuple[Any, Any], x: Any, key: Any) -> tuple[Any, Any]:
        """y1 = x1 + f(x2), y2 = x2 + g(y1), and the key"""
        return self.recompute(params, x, key), key

    def recompute(self, params: tuple[Any, Any], x: Any, extras: Any) -> Any:
        """y1 = x1 + f(x2), y2 = x2 + g(y1)"""
        self._check(x)
        x1, x2 = self._halves(x)
        y1 = x1 + self._run(0, params, x2, extras)[0]
        return joined([y1, x2 + self._run(1, params, y1, extras)[0]], like=x)

    def backward(
        self, params: tuple[Any, Any], x: None, y: Any, extras: Any, dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx1 = dy1 + the dx of g at dy2, dx2 = dy2 + the dx of f at dx1"""
        return self.backward_and_input(params, y, extras, dy, read)[:2]

    def backward_and_input(
        self, params: tuple[Any, Any], y: Any, extras: Any, dy: Any, read: Reading
    ) -> tuple[Any, Any, Any]:
        """Return the readings, dx, and the x that y comes from: x2 = y2 - g(y1), x1 = y1 - f(x2)."""
        check_cotangent(self, dy, y.shape, y.dtype)
        y = with_dependency(y, dy)
        (y1, y2), (dy1, dy2) = self._halves(y), self._halves(dy)
        g, of_g = self._run(1, params, y1, extras)
        x2 = y2 - g
        of_y1, dy1_by_g = self._pull(1, params, y1, g, of_g, dy2, read)
        f, of_f = self._run(0, params, x2, extras)
        dx1 = dy1 + dy1_by_g
        of_x2, dy2_by_f = self._pull(0, params, x2, f, of_f, dx1, read)
        dx = joined([dx1, dy2 + dy2_by_f], like=dy)
        return (of_x2, of_y1), dx, joined([y1 - f, x2], like=y)

    def inside(self, params: tuple[Any, Any], x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List f and g, run again from the output."""
        y1, y2 = jnp.split(y, 2, -1)
        g, of_g = self._run(1, params, y1, extras)
        f, of_f = self._run(0, params, y2 - g, extras)
        return [
            (Part(".f", self.f, params[0], y2 - g), f, of_f),
            (Part(".g", self.g, params[1], y1), g, of_g),
        ]

    def _run(self, which: int, params: tuple[Any, Any], x: Any, key: Any) -> tuple[Any, Any]:
        place, layer = (".f", ".g")[which], self.layers[which]
        with at(place):
            y, extras = run(layer, params[which], x, key_of(key, which))
        if y.shape != x.shape or y.dtype != x.dtype:
            wanted = f"{place[1:]}'s output like its input, {describe(x)}"
            raise InputError(self, wanted, describe(y), f"fnn.Dense({x.shape[-1]})")
        return placed_like(y, x), extras

    def _halves(self, x: Any) -> list[Any]:
        return cut(x, [x.shape[-1] // 2])

    def _pull(self, which: int, params: Any, x: Any, y: Any, extras: Any, dy: Any, read: Reading) -> Any:
        layer, own = self.layers[which], read.mapped(lambda tree: tree[which]).placed(in_loop=False)
        with at((".f", ".g")[which]):
            return pull(layer, params[which], *sides(layer, x, y), extras, dy, own)

    def _check(self, x: Any) -> None:
        check_floating(self, x)
        if x.ndim == 0 or x.shape[-1] % 2:
            raise InputError(self, "x of shape (..., 2k)", describe(x), "jnp.concatenate([x, x], -1)")
