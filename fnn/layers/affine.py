"""A scale alone and a bias alone, on the last axis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fnn.arrays import accumulator
from fnn.core import Equations, Leaf, Sides
from fnn.errors import InputError, brief, check_cotangent, check_floating, check_params, describe
from fnn.factors import Scaled, Total
from fnn.sharding import placed, sharding_along

Params = dict[str, Array]
Vectors = Float[Array, "*n k"]


def row(vector: Any, x: Any) -> Any:
    """Return a vector (k,) in the dtype, rank and sharding of `x`, so that nothing is promoted silently.

    Args:
        vector: an array (k,), floating.
        x: an array (..., k), floating.

    Returns:
        an array (1, ..., 1, k).
    """
    vector = placed(vector.astype(x.dtype), sharding_along((x, x.ndim - 1)))
    return jnp.expand_dims(vector, tuple(range(x.ndim - 1)))


@dataclass(frozen=True, repr=False)
class Scale(Leaf):
    """Multiply by a vector: (..., k) -> (..., k), in the input's dtype.

    params: `{"scale": (k,)}`. The backward reads the input.

    Args:
        value: what the scale is filled with by `init`.

    >>> import fnn
    >>> fnn.apply(fnn.Scale(), {"scale": jnp.array([1.0, 2.0])}, jnp.ones((1, 2)))
    Array([[1., 2.]], dtype=float32)
    """

    value: float = 1.0
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset(("input",))
    couples_examples: ClassVar[bool | None] = False
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"scale": ("out",)}
    equations: ClassVar[Equations | None] = (
        ("{y} = {x} * {scale}",),
        ("d{scale} = sum({x} * d{y})", "d{x} = d{y} * {scale}"),
    )

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Fill the scale with `value`."""
        _check_input(self, x)
        return {"scale": jnp.full(x.shape[-1:], self.value, accumulator(x.dtype))}

    def forward(self, params: Params, x: Vectors, key: Any) -> tuple[Vectors, tuple[()]]:
        """y = x scale"""
        _check_input(self, x)
        check_params(self, params, {"scale": x.shape[-1:]})
        return self.recompute(params, x, ()), ()

    def recompute(self, params: Params, x: Vectors, extras: tuple[()]) -> Vectors:
        """y = x scale"""
        return x * row(params["scale"], x)

    def backward(
        self, params: Params, x: Vectors, y: None, extras: tuple[()], dy: Vectors
    ) -> tuple[Any, Vectors]:
        """dscale = sum x dy, dx = dy scale"""
        check_cotangent(self, dy, x.shape, x.dtype)
        return {"scale": Scaled(x, dy)}, dy * row(params["scale"], x)


@dataclass(frozen=True, repr=False)
class Bias(Leaf):
    """Add a vector: (..., k) -> (..., k), in the input's dtype.

    params: `{"bias": (k,)}`. The backward reads neither side.

    Args:
        value: what the bias is filled with by `init`.

    >>> import fnn
    >>> fnn.apply(fnn.Bias(), {"bias": jnp.array([1.0, 2.0])}, jnp.ones((1, 2)))
    Array([[2., 3.]], dtype=float32)
    """

    value: float = 0.0
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset()
    couples_examples: ClassVar[bool | None] = False
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"bias": ("out",)}
    equations: ClassVar[Equations | None] = (("{y} = {x} + {bias}",), ("d{bias} = sum(d{y})", "d{x} = d{y}"))

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Fill the bias with `value`."""
        _check_input(self, x)
        return {"bias": jnp.full(x.shape[-1:], self.value, accumulator(x.dtype))}

    def forward(self, params: Params, x: Vectors, key: Any) -> tuple[Vectors, tuple[()]]:
        """y = x + bias"""
        _check_input(self, x)
        check_params(self, params, {"bias": x.shape[-1:]})
        return self.recompute(params, x, ()), ()

    def recompute(self, params: Params, x: Vectors, extras: tuple[()]) -> Vectors:
        """y = x + bias"""
        return x + row(params["bias"], x)

    def backward(
        self, params: Params, x: None, y: None, extras: tuple[()], dy: Vectors
    ) -> tuple[Any, Vectors]:
        """dbias = sum dy, dx = dy"""
        return {"bias": Total(dy)}, dy


def _check_input(layer: Leaf, x: Any) -> None:
    check_floating(layer, x)
    if x.ndim == 0:
        raise InputError(layer, "x of shape (..., k)", describe(x), "x.reshape(1)")
