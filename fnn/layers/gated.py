"""The gate of gated linear units, without the product before it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float

from fnn.activations.table import Activation, silu, wide
from fnn.core import Leaf, Sides
from fnn.errors import InputError, brief, check_cotangent, check_floating, describe
from fnn.sharding import cut, joined

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

    Raises:
        InputError: on use, where x is not floating-point, or its last axis has an odd length.

    >>> import fnn, jax.numpy as jnp
    >>> fnn.apply(fnn.Gate(fnn.relu), (), jnp.array([2.0, -1.0, 10.0, 10.0]))
    Array([20.,  0.], dtype=float32)
    """

    activation: Activation = silu
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset(("input",))

    couples_examples: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        f = self.activation
        forward = "g, u = split({x})", f"{{y}} = {f}(g) * u"
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
        g, u = map(wide, cut(x, [x.shape[-1] // 2]))
        return (self.activation.recompute((), g, ()) * u).astype(x.dtype)

    def backward(self, params: tuple[()], x: In, y: None, extras: tuple[()], dy: Out) -> tuple[Any, In]:
        """dg = dy u f'(g), du = dy f(g)"""
        check_cotangent(self, dy, (*x.shape[:-1], x.shape[-1] // 2), x.dtype)
        g, u = map(wide, cut(x, [x.shape[-1] // 2]))
        f, d = self.activation.recompute((), g, ()), wide(dy)
        _, dg = self.activation.backward((), g, f, (), d * u)
        return (), joined([dg.astype(x.dtype), (d * f).astype(x.dtype)], like=x)

    def _check_input(self, x: Any) -> None:
        check_floating(self, x)
        if x.ndim == 0 or x.shape[-1] % 2:
            raise InputError(self, "x of shape (..., 2j)", describe(x), "fnn.gated(j)")
