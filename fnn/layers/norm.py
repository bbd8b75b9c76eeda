"""LayerNorm and RMSNorm over the last axis, with statistics in float32 or wider."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fnn.core import Equations
from fnn.errors import InputError, brief, check_cotangent, check_floating, check_params, describe
from fnn.factors import Scaled, Total, accumulator
from fnn.layers.affine import row

Params = dict[str, Array]
Vectors = Float[Array, "*n k"]
Statistic = Float[Array, "*n 1"]


@dataclass(frozen=True, repr=False)
class LayerNorm:
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
    needs = frozenset({"input"})

    def __post_init__(self):
        _check_eps("LayerNorm", self.eps)

    @property
    def equations(self) -> Equations:
        """The forward and the backward, for `fnn.explain`."""
        return _equations(
            self, "({x} - mean({x}))", "sqrt(var({x}) + eps)", "dh - mean(dh) - h * mean(h * dh)"
        )

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Scale one, bias zero."""
        return _init(self, x, self._shapes(x))

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
        self, params: Params, x: Vectors, y: None, extras: tuple[Statistic, Statistic], dy: Vectors, read: Any
    ) -> tuple[Any, Vectors]:
        """With h = (x - mean) rstd and dh = dy scale: dx = rstd (dh - mean(dh) - h mean(h dh))."""
        check_cotangent(self, dy, x.shape, x.dtype)
        mean, rstd = extras
        h = (x.astype(rstd.dtype) - mean) * rstd
        wide = dy.astype(h.dtype)
        dh = wide * row(params["scale"], h) if self.scale else wide
        dx = rstd * (dh - dh.mean(-1, keepdims=True) - h * (h * dh).mean(-1, keepdims=True))
        factors = {"scale": Scaled(h, wide)} if self.scale else {}
        return read(factors | ({"bias": Total(dy)} if self.bias else {})), dx.astype(x.dtype)

    def _shapes(self, x: Any) -> dict[str, tuple[int, ...]]:
        return {name: x.shape[-1:] for name in ("scale", "bias") if getattr(self, name)}


@dataclass(frozen=True, repr=False)
class RMSNorm:
    """Divide by the root of the mean square and scale, on the last axis: (..., k) -> (..., k).

    params: `{"scale": (k,)}`, or none where `scale=False`. Returns the input's dtype. The backward reads the
    input; the reciprocal root of each row is its extra. Source: Zhang, Sennrich 2019.
    """

    eps: float = 1e-6
    scale: bool = True
    __repr__ = brief
    cheap = True
    needs = frozenset({"input"})

    def __post_init__(self):
        _check_eps("RMSNorm", self.eps)

    @property
    def equations(self) -> Equations:
        """The forward and the backward, for `fnn.explain`."""
        return _equations(self, "{x}", "sqrt(mean({x}^2) + eps)", "dh - h * mean(h * dh)")

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Scale one."""
        return _init(self, x, self._shapes(x))

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
        self, params: Params, x: Vectors, y: None, extras: Statistic, dy: Vectors, read: Any
    ) -> tuple[Any, Vectors]:
        """With h = x rstd and dh = dy scale: dx = rstd (dh - h mean(h dh))."""
        check_cotangent(self, dy, x.shape, x.dtype)
        h = x.astype(extras.dtype) * extras
        wide = dy.astype(h.dtype)
        dh = wide * row(params["scale"], h) if self.scale else wide
        dx = extras * (dh - h * (h * dh).mean(-1, keepdims=True))
        return read({"scale": Scaled(h, wide)} if self.scale else {}), dx.astype(x.dtype)

    def _shapes(self, x: Any) -> dict[str, tuple[int, ...]]:
        return {"scale": x.shape[-1:]} if self.scale else {}


def _equations(norm: Any, centred: str, deviation: str, dx: str) -> Equations:
    scale, bias = norm.scale, getattr(norm, "bias", False)
    y = "h" + " * {scale}" * scale + " + {bias}" * bias
    dscale, dbias = ("d{scale} = sum(h * d{y})",) * scale, ("d{bias} = sum(d{y})",) * bias
    dh = "dh = d{y}" + " * {scale}" * scale
    h = f"h = {centred} / {deviation}"
    return (h, f"{{y}} = {y}"), (h, *dscale, *dbias, dh, f"d{{x}} = ({dx}) / {deviation}")


def _init(norm: Any, x: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    _check_input(norm, x)
    values = {"scale": 1, "bias": 0}
    return {name: jnp.full(shape, values[name], accumulator(x.dtype)) for name, shape in shapes.items()}


def _check_input(norm: Any, x: Any) -> None:
    check_floating(norm, x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InputError(norm, "x of shape (..., k) with k >= 1", describe(x), "x.reshape(..., k)")


def _check_eps(who: str, eps: Any) -> None:
    if not eps > 0:
        raise InputError(who, "eps > 0", repr(eps), f"{who}(eps=1e-6)")
