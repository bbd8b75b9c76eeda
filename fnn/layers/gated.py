"""The gate of gated linear units, without the product before it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fnn.activations.table import Activation, silu, wide
from fnn.columns import cut, joined
from fnn.core import Leaf, Sides
from fnn.errors import InputError, brief, check_cotangent, check_floating, check_size, describe
from fnn.sharding import reshaped

In = Float[Array, "*n j2"]
Out = Float[Array, "*n j"]


@dataclass(frozen=True, repr=False)
class Gate(Leaf):
    """Split the last axis into a gate g and a value u, and return f(g) * u: (..., 2j) -> (..., j). No params.

    With a dense layer of 2j features before it, one product for both halves, this is SwiGLU for silu, GEGLU
    for gelu, GLU for sigmoid; `fnn.gated` builds the two. The backward reads the input. Half precision is
    computed in float32 and rounded once. Source: Shazeer 2020.

    Args:
        activation: the activation f.
        blocks: how many blocks of equal size the last axis is made of, each with a part of the gate and then
            the same part of the value. Where the last axis is sharded over as many devices, or over a number
            that divides this, each has both parts of its features, and nothing moves; with 1 the devices
            exchange their halves, forwards and backwards.

    Raises:
        InputError: where `blocks` is no integer >= 1, or, on use, x is not floating-point, or its last axis
            is not so divided.

    >>> import fnn, jax.numpy as jnp
    >>> fnn.apply(fnn.Gate(fnn.relu), (), jnp.array([2.0, -1.0, 10.0, 10.0]))
    Array([20.,  0.], dtype=float32)
    """

    activation: Activation = silu
    blocks: int = 1
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset(("input",))

    couples_examples: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        check_size("Gate", "blocks", self.blocks, "fnn.Gate()")
        f = self.activation
        split = "split({x})" if self.blocks == 1 else f"split({{x}}, blocks={self.blocks})"
        forward = f"g, u = {split}", f"{{y}} = {f}(g) * u"
        dg, du = f"dg = d{{y}} * u * {f}'(g)", f"du = d{{y}} * {f}(g)"
        vars(self).update(equations=(forward, (forward[0], dg, du, "d{x} = concatenate(dg, du)")))

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> tuple[()]:
        """No params."""
        self._check_input(x)
        return ()

    def forward(self, params: tuple[()], x: In, key: Any) -> tuple[Out, tuple[()]]:
        """y = f(g) u"""
        self._check_input(x)
        return self.recompute(params, x, ()), ()

    def recompute(self, params: tuple[()], x: In, extras: tuple[()]) -> Out:
        """y = f(g) u"""
        g, u = map(wide, self._halves(x))
        return (self.activation.recompute((), g, ()) * u).astype(x.dtype)

    def backward(self, params: tuple[()], x: In, y: None, extras: tuple[()], dy: Out) -> tuple[Any, In]:
        """dg = dy u f'(g), du = dy f(g)"""
        check_cotangent(self, dy, (*x.shape[:-1], x.shape[-1] // 2), x.dtype)
        g, u = map(wide, self._halves(x))
        f, d = self.activation.recompute((), g, ()), wide(dy)
        _, dg = self.activation.backward((), g, f, (), d * u)
        return (), self._whole(dg.astype(x.dtype), (d * f).astype(x.dtype), x)

    def _halves(self, x: Any) -> list[Any]:
        """Return the gate and the value."""
        if self.blocks == 1:
            return cut(x, [x.shape[-1] // 2])
        rows, size = x.shape[:-1], x.shape[-1] // 2
        axes, own = [(x, i) for i in range(x.ndim - 1)], (x, x.ndim - 1)
        shape = *rows, self.blocks, 2, size // self.blocks
        parts = reshaped(x, shape, *axes, own, (x, None), (x, None))
        halves = [lax.index_in_dim(parts, i, x.ndim, keepdims=False) for i in range(2)]
        return [reshaped(half, (*rows, size), *axes, own) for half in halves]

    def _whole(self, g: Any, u: Any, like: Any) -> Any:
        """Undo `_halves`."""
        if self.blocks == 1:
            return joined([g, u], like=like)
        axes, own = [(like, i) for i in range(like.ndim - 1)], (like, like.ndim - 1)
        shape = *like.shape[:-1], self.blocks, 1, g.shape[-1] // self.blocks
        halves = [reshaped(half, shape, *axes, own, (like, None), (like, None)) for half in (g, u)]
        return reshaped(jnp.concatenate(halves, -2), like.shape, *axes, own)

    def _check_input(self, x: Any) -> None:
        check_floating(self, x)
        if x.ndim == 0 or x.shape[-1] % (2 * self.blocks):
            fix, length = "fnn.gated(j)", "2j"
            if self.blocks > 1:
                fix, length = f"fnn.gated({self.blocks} * j, blocks={self.blocks})", f"2 * {self.blocks} * j"
            raise InputError(self, f"x of shape (..., {length})", describe(x), fix)
