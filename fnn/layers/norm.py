"""LayerNorm and RMSNorm over the last axis, with statistics in float32 or wider.

Every row is multiplied by a power of two that makes it about 1, before it is summed or squared: nothing
overflows, and no square that counts beside eps underflows. So y = h scale + bias, where h = c / d is the
quotient of a row c = u (x - mean) and its d = u deviation.

A mean is made in two steps, for one rounded to the dtype is wrong by more than the deviation where a row
lies far from zero. The first counts from the row's largest number, which gives 0 for a constant row whatever
its size; what is left is small, and its own mean, subtracted and kept too, has all its digits.
"""

import math
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
from fnn.layers.affine import row

Params = dict[str, Array]
Vectors = Float[Array, "*n k"]
Statistic = Float[Array, "*n 1"]
Statistics = tuple[Statistic, Statistic, Statistic]  # each row's mean, what its rounding left out, deviation


@dataclass(frozen=True, repr=False)
class LayerNorm(Leaf):
    """Normalize to mean 0 and variance 1 over the last axis, scale, and add a bias: (..., k) -> (..., k).

    params: `{"scale": (k,), "bias": (k,)}`, each only where it is asked for. The output has the input's
    dtype. The backward reads the input. Each row's mean, what its rounding left out, and deviation are kept.
    Source: Ba, Kiros, Hinton 2016.

    Args:
        eps: a number > 0, added to the (biased) variance.
        scale: whether there is a scale.
        bias: whether there is a bias.

    Raises:
        InputError: where eps is not > 0, or, on use, x is not floating-point (..., k).

    >>> import fnn
    >>> net, x = fnn.LayerNorm(), jnp.array([1.0, 2.0, 3.0])
    >>> fnn.apply(net, fnn.init(net, jax.random.key(0), x), x).round(2)
    Array([-1.22,  0.  ,  1.22], dtype=float32)
    """

    eps: float = 1e-5
    scale: bool = True
    bias: bool = True
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset(("input",))
    couples_examples: ClassVar[bool | None] = False
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"scale": ("out",), "bias": ("out",)}

    def __post_init__(self) -> None:
        _check_eps("LayerNorm", self.eps)
        centred, deviation = "({x} - mean({x}))", "sqrt(var({x}) + eps)"
        dx = "dh - mean(dh) - h * mean(h * dh)"
        vars(self).update(equations=_equations(self.scale, self.bias, centred, deviation, dx))

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Scale one, bias zero."""
        _check_input(self, x)
        return _init(x, self._shapes(x))

    def forward(self, params: Params, x: Vectors, key: Any) -> tuple[Vectors, Statistics]:
        """y = (x - mean) / sqrt(var + eps) * scale + bias"""
        _check_input(self, x)
        check_params(self, params, self._shapes(x))
        wide = x.astype(accumulator(x.dtype))
        top, bottom = wide.max(-1, keepdims=True), wide.min(-1, keepdims=True)
        unit = _unit(jnp.maximum(top, -bottom), self.eps)
        mean = top * unit - (top * unit - wide * unit).mean(-1, keepdims=True)
        rest = (wide * unit - mean).mean(-1, keepdims=True)
        centred = wide * unit - mean - rest
        deviation = _root(centred, unit, self.eps)
        y = self._scaled(params, centred * _reciprocal(deviation)).astype(x.dtype)
        return y, (mean / unit, rest / unit, deviation / unit)

    def recompute(self, params: Params, x: Vectors, extras: Statistics) -> Vectors:
        """y = (x - mean) / deviation * scale + bias"""
        h, _ = self._normal(x, extras)
        return self._scaled(params, h).astype(x.dtype)

    def backward(
        self, params: Params, x: Vectors, y: None, extras: Statistics, dy: Vectors
    ) -> tuple[Any, Vectors]:
        """With h = (x - mean) / deviation, dh = dy scale: dx = (dh - mean(dh) - h mean(h dh)) / deviation."""
        check_cotangent(self, dy, x.shape, x.dtype)
        h, rstd = self._normal(x, extras)
        wide = dy.astype(h.dtype)
        dh = wide * row(params["scale"], h) if self.scale else wide
        dx = rstd * (dh - dh.mean(-1, keepdims=True) - h * (h * dh).mean(-1, keepdims=True))
        factors = {"scale": Scaled(h, wide)} if self.scale else {}
        return factors | ({"bias": Total(dy)} if self.bias else {}), dx.astype(x.dtype)

    def _normal(self, x: Any, extras: Statistics) -> tuple[Any, Any]:
        """Return h = (x - mean) / deviation, and 1 / deviation."""
        mean, rest, deviation = extras
        unit = _unit(jnp.maximum(jnp.abs(mean), deviation), self.eps)
        rstd = _reciprocal(deviation * unit)
        return (x.astype(unit.dtype) * unit - mean * unit - rest * unit) * rstd, rstd * unit

    def _scaled(self, params: Params, h: Any) -> Any:
        y = h * row(params["scale"], h) if self.scale else h
        return y + row(params["bias"], h) if self.bias else y

    def _shapes(self, x: Any) -> dict[str, tuple[int, ...]]:
        present = {"scale": self.scale, "bias": self.bias}
        return {name: x.shape[-1:] for name in present if present[name]}


@dataclass(frozen=True, repr=False)
class RMSNorm(Leaf):
    """Divide by the root of the mean square over the last axis, and scale: (..., k) -> (..., k).

    params: `{"scale": (k,)}`, or none where `scale=False`. The output has the input's dtype. The backward
    reads the input; the root of each row is kept. Source: Zhang, Sennrich 2019.

    Args:
        eps: a number > 0, added to the mean square.
        scale: whether there is a scale.

    Raises:
        InputError: where eps is not > 0, or, on use, x is not floating-point (..., k).

    >>> import fnn
    >>> fnn.apply(fnn.RMSNorm(scale=False), {}, jnp.array([1.0, -1.0])).round(2)
    Array([ 1., -1.], dtype=float32)
    """

    eps: float = 1e-6
    scale: bool = True
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset(("input",))
    couples_examples: ClassVar[bool | None] = False
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"scale": ("out",), "bias": ("out",)}

    def __post_init__(self) -> None:
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
        unit = _unit(jnp.abs(wide).max(-1, keepdims=True), self.eps)
        root = _root(wide * unit, unit, self.eps) / unit
        return self.recompute(params, x, root), root

    def recompute(self, params: Params, x: Vectors, extras: Statistic) -> Vectors:
        """y = x / root * scale"""
        y, _ = self._normal(x, extras)
        return (y * row(params["scale"], y) if self.scale else y).astype(x.dtype)

    def backward(
        self, params: Params, x: Vectors, y: None, extras: Statistic, dy: Vectors
    ) -> tuple[Any, Vectors]:
        """With h = x / root and dh = dy scale: dx = (dh - h mean(h dh)) / root."""
        check_cotangent(self, dy, x.shape, x.dtype)
        h, rstd = self._normal(x, extras)
        wide = dy.astype(h.dtype)
        dh = wide * row(params["scale"], h) if self.scale else wide
        dx = rstd * (dh - h * (h * dh).mean(-1, keepdims=True))
        return {"scale": Scaled(h, wide)} if self.scale else {}, dx.astype(x.dtype)

    def _normal(self, x: Any, root: Statistic) -> tuple[Any, Any]:
        """Return h = x / root, and 1 / root."""
        unit = _unit(root, self.eps)
        rstd = _reciprocal(root * unit)
        return x.astype(unit.dtype) * unit * rstd, rstd * unit

    def _shapes(self, x: Any) -> dict[str, tuple[int, ...]]:
        return {"scale": x.shape[-1:]} if self.scale else {}


def _unit(size: Any, eps: float) -> Any:
    """Return a power of two by which rows of this size, (..., 1), become about 1: a factor of k, either way.

    It is no larger than rows want whose squares are nothing beside eps.
    """
    ends = jnp.finfo(size.dtype)
    low = max(math.floor(math.log2(eps) / 2) - 40, ends.minexp // 2)
    _, exponent = jnp.frexp(jnp.where(jnp.isfinite(size), jnp.maximum(size, 2.0**low), 1))
    return jnp.ldexp(jnp.ones_like(size), -jnp.minimum(exponent, ends.maxexp - 4))


def _root(part: Any, unit: Any, eps: float) -> Any:
    """Return sqrt(mean(part^2) + eps unit^2), (..., 1)."""
    return jnp.sqrt(jnp.square(part).mean(-1, keepdims=True) + jnp.square(math.sqrt(eps) * unit))


def _reciprocal(d: Any) -> Any:
    """Return 1 / d; of a row without deviation, whose eps the dtype does not hold, a number all the same."""
    return 1 / jnp.where(d < jnp.finfo(d.dtype).tiny, 1, d)


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
        raise InputError(
            norm,
            "x of shape (..., k) with k >= 1",
            describe(x),
            "jnp.zeros((n, 1))" if x.ndim else "x.reshape(1)",
        )


def _check_eps(who: str, eps: Any) -> None:
    if not eps > 0:
        raise InputError(who, "eps > 0", repr(eps), f"fnn.{who}(eps=1e-6)")
