"""LayerNorm and RMSNorm over the last axis, with statistics in float32 or wider."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fnn.arrays import accumulator
from fnn.core import Equations, Leaf
from fnn.errors import InputError, brief, check_cotangent, check_floating, check_params, describe
from fnn.factors import Scaled, Total
from fnn.layers.affine import row

Params = dict[str, Array]
Vectors = Float[Array, "*n k"]
Statistic = Float[Array, "*n 1"]


@dataclass(frozen=True, repr=False)
class LayerNorm(Leaf):
    """Subtract the mean, divide by the deviation, scale, add a bias, on the last axis: (..., k) -> (..., k).

    params: `{"scale": (k,), "bias": (k,)}`, each only where it is asked for. The variance is the biased
    one. Returns the input's dtype. The backward reads the input; the mean and the reciprocal deviation of
    each row are its extras. Source: Ba, Kiros, Hinton 2016.
    """

    eps: float = 1e-5
    scale: bool = True
    bias: bool = True
    __repr__ = brief
    cheap = True
    needs = frozenset(("input",))
    couples_examples = False
    axes: ClassVar = {"scale": ("out",), "bias": ("out",)}

    def __post_init__(self):
        _check_eps("LayerNorm", self.eps)
        centred, deviation = "({x} - mean({x}))", "sqrt(var({x}) + eps)"
        dx = "dh - mean(dh) - h * mean(h * dh)"
        vars(self).update(equations=_equations(self.scale, self.bias, centred, deviation, dx))

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Scale one, bias zero."""
        _check_input(self, x)
        return _init(x, self._shapes(x))

    def forward(self, params: Params, x: Vectors, key: Any) -> tuple[Vectors, tuple[Statistic, Statistic]]:
        """y = (x - mean) / sqrt(var + eps) * scale + bias"""
        _check_input(self, x)
        check_params(self, params, self._shapes(x))
        wide = x.astype(accumulator(x.dtype))
        mean = wide.mean(-1, keepdims=True)
        rstd = lax.rsqrt(jnp.square(wide - mean).mean(-1, keepdims=True) + self.eps)
        return self.recompute(params, x, (mean, rstd)), (mean, rstd)

    def recompute(self, params: Params, x: Vectors, extras: tuple[Statistic, Statistic]) -> Vectors:
        """y = (x - mean) rstd scale + bias"""
        mean, rstd = extras
        y = (x.astype(rstd.dtype) - mean) * rstd
        y = y * row(params["scale"], y) if self.scale else y
        return (y + row(params["bias"], y) if self.bias else y).astype(x.dtype)

    def backward(
        self, params: Params, x: Vectors, y: None, extras: tuple[Statistic, Statistic], dy: Vectors
    ) -> tuple[Any, Vectors]:
        """With h = (x - mean) rstd and dh = dy scale: dx = rstd (dh - mean(dh) - h mean(h dh))."""
        check_cotangent(self, dy, x.shape, x.dtype)
        mean, rstd = extras
        h = (x.astype(rstd.dtype) - mean) * rstd
        wide = dy.astype(h.dtype)
        dh = wide * row(params["scale"], h) if self.scale else wide
        dx = rstd * (dh - dh.mean(-1, keepdims=True) - h * (h * dh).mean(-1, keepdims=True))
        factors = {"scale": Scaled(h, wide)} if self.scale else {}
        return factors | ({"bias": Total(dy)} if self.bias else {}), dx.astype(x.dtype)

    def _shapes(self, x: Any) -> dict[str, tuple[int, ...]]:
        present = {"scale": self.scale, "bias": self.bias}
        return {name: x.shape[-1:] for name in present if present[name]}


@dataclass(frozen=True, repr=False)
class RMSNorm(Leaf):
    """Divide by the root of the mean square and scale, on the last axis: (..., k) -> (..., k).

    params: `{"scale": (k,)}`, or none where `scale=False`. Returns the input's dtype. The backward reads the
    input; the reciprocal root of each row is its extra. Source: Zhang, Sennrich 2019.
    """

    eps: float = 1e-6
    scale: bool = True
    __repr__ = brief
    cheap = True
    needs = frozenset(("input",))
    couples_examples = False
    axes: ClassVar = {"scale": ("out",), "bias": ("out",)}

    def __post_init__(self):
        _check_eps("RMSNorm", self.eps)
        deviation = "sqrt(mean({x}^2) + eps)"
        vars(self).update(equations=_equations(self.scale, False, "{x}", deviation, "dh - h * mean(h * dh)"))

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Scale one."""
        _check_input(self, x)
        return _init(x, self._shapes(x))

    def forward(self, params: Params, x: Vectors, key: Any) -> tuple[Vectors, Statistic]:
        """y = x / sqrt(mean(x^2) + eps) * scale"""
        _check_input(self, x)
        check_params(self, params, self._shapes(x))
        wide = x.astype(accumulator(x.dtype))
        rstd = lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.eps)
        return self.recompute(params, x, rstd), rstd

    def recompute(self, params: Params, x: Vectors, extras: Statistic) -> Vectors:
        """y = x rstd scale"""
        y = x.astype(extras.dtype) * extras
        return (y * row(params["scale"], y) if self.scale else y).astype(x.dtype)

    def backward(
        self, params: Params, x: Vectors, y: None, extras: Statistic, dy: Vectors
    ) -> tuple[Any, Vectors]:
        """With h = x rstd and dh = dy scale: dx = rstd (dh - h mean(h dh))."""
        check_cotangent(self, dy, x.shape, x.dtype)
        h = x.astype(extras.dtype) * extras
        wide = dy.astype(h.dtype)
        dh = wide * row(params["scale"], h) if self.scale else wide
        dx = extras * (dh - h * (h * dh).mean(-1, keepdims=True))
        return {"scale": Scaled(h, wide)} if self.scale else {}, dx.astype(x.dtype)

    def _shapes(self, x: Any) -> dict[str, tuple[int, ...]]:
        return {"scale": x.shape[-1:]} if self.scale else {}


def _equations(scale: bool, bias: bool, centred: str, deviation: str, dx: str) -> Equations:
    y = "h" + " * {scale}" * scale + " + {bias}" * bias
    dscale, dbias = ("d{scale} = sum(h * d{y})",) * scale, ("d{bias} = sum(d{y})",) * bias
    dh = "dh = d{y}" + " * {scale}" * scale
    h = f"h = {centred} / {deviation}"
    return (h, f"{{y}} = {y}"), (h, *dscale, *dbias, dh, f"d{{x}} = ({dx}) / {deviation}")


def _init(x: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    values = {"scale": 1, "bias": 0}
    return {name: jnp.full(shape, values[name], accumulator(x.dtype)) for name, shape in shapes.items()}


def _check_input(norm: Any, x: Any) -> None:
    check_floating(norm, x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InputError(norm, "x of shape (..., k) with k >= 1", describe(x), "x.reshape(..., k)")


def _check_eps(who: str, eps: Any) -> None:
    if not eps > 0:
        raise InputError(who, "eps > 0", repr(eps), f"{who}(eps=1e-6)")
