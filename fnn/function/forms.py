"""The factors that functions need beside fnn's own: views, convolutions, operations, and sums of these.

Each gives the gradient of its param, and the gradients of the examples, in the param's own shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from fnn.factors import Outer, Rows, Scaled, Total, accumulator, gradient
from fnn.function import internals
from fnn.function.layout import Arrangement, Layout, scattered
from fnn.readers.examples import materialised
from fnn.readers.reading import with_tokens


@partial(register_dataclass, data_fields=["g"], meta_fields=["rank"])
@dataclass(frozen=True)
class Examples:
    """The gradients of the examples themselves: g is (n, *param.shape)."""

    g: Any
    rank: int


@partial(register_dataclass, data_fields=["factor"], meta_fields=["layout"])
@dataclass(frozen=True)
class Viewed:
    """The factor of a param that is used as a matrix of another layout: `factor` is that of the matrix."""

    factor: Any
    layout: Arrangement


@partial(register_dataclass, data_fields=["factors"], meta_fields=[])
@dataclass(frozen=True)
class Several:
    """The factors of several uses of one param, which no one form holds: their gradients add up."""

    factors: tuple[Any, ...]


@partial(register_dataclass, data_fields=["x", "dz"], meta_fields=["kernel", "options"])
@dataclass(frozen=True)
class Convolved:
    """The factor of a kernel (o, i, *window): x (n, t, i, *space) and dz (n, t, o, *space).

    `options` are those of `jax.lax.conv_general_dilated`.
    """

    x: Any
    dz: Any
    kernel: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]

    @property
    def rank(self) -> int:
        """The axes of the kernel."""
        return len(self.kernel)

    def of(self, x: Any, dz: Any) -> Any:
        """Give the gradient from images (m, i, *space), dz (m, o, *space)."""
        acc = accumulator(dz.dtype)

        def convolve(w: Any) -> Any:
            return jax.lax.conv_general_dilated(x.astype(acc), w, **dict(self.options))

        return jax.vjp(convolve, jnp.zeros(self.kernel, acc))[1](dz.astype(acc))[0]

    def gradient(self) -> Any:
        """Give the kernel's gradient, by one convolution over all examples."""
        return self.of(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in (self.x, self.dz)))

    def examples(self) -> Any:
        """Give the gradient of each example: (n, *kernel)."""
        return jax.vmap(self.of)(self.x, self.dz)


@partial(register_dataclass, data_fields=["factor"], meta_fields=["layout", "matrix", "size", "dtype"])
@dataclass(frozen=True)
class Part:
    """The factor of some elements of a param of `size` elements: `factor` is that of a matrix made of them."""

    factor: Any
    layout: Layout
    matrix: tuple[int, ...]
    size: int
    dtype: Any

    def gradient(self) -> Any:
        """Give the gradient of the whole param, flat."""
        g = gradient_of(self.factor, jax.ShapeDtypeStruct(self.matrix, self.dtype))
        return scattered(self.layout, g[None], self.size)[0]

    def examples(self) -> Any:
        """Give the gradients of the examples, each flat: (n, size)."""
        g = examples_of(self.factor, jax.ShapeDtypeStruct(self.matrix, self.dtype))
        return scattered(self.layout, g, self.size)


@partial(
    register_dataclass,
    data_fields=["operands", "results"],
    meta_fields=["eqn", "place", "loops", "kept", "by_loop", "masks", "layout", "size"],
)
@dataclass(frozen=True)
class Called:
    """The factor of operand `place` of any operation: its own derivative, at the cotangents of its results.

    `operands` have the loops first. `results` are their cotangents, or the factors of the results where these
    are made of params alone. `masks` says of each result to which example its elements belong.
    """

    operands: tuple[Any, ...]
    results: tuple[Any, ...]
    eqn: Any
    place: int
    loops: tuple[int, ...]  # their lengths
    kept: tuple[int, ...]  # those of the loops whose steps have params of their own
    by_loop: int | None  # the loop that runs over the examples
    masks: Any  # for each result: (axis, outer, n, inner), or None
    layout: Layout  # of the operand, the kept loops first, in the param
    size: int

    def pulled(self, operands: Any, cotangents: Any) -> Any:
        """Give the operand's cotangent, without loops and examples."""

        def run(own: Any) -> list[Any]:
            ins = [own if k == self.place else v for k, v in enumerate(operands)]
            outs = internals.bind(self.eqn, ins)
            return [o for o, d in zip(outs, cotangents, strict=True) if d is not None]

        outs, pull = jax.vjp(run, operands[self.place])
        wanted = [d for d in cotangents if d is not None]
        return pull([d.astype(o.dtype) for o, d in zip(outs, wanted, strict=True)])[0]

    def over_loops(self, cotangents: Any) -> Any:
        """Give the operand's cotangents, (*kept loops, *operand); the steps of other loops add up."""
        f: Callable[..., Any] = self.pulled
        for _ in self.loops:
            f = jax.vmap(f)
        return self.summed(f(self.operands, cotangents), 0)

    def summed(self, each: Any, first: int) -> Any:
        """Add up over the loops that are not kept; `first` axes come before the loops."""
        gone = tuple(first + k for k in range(len(self.loops)) if k not in self.kept)
        return jnp.sum(each, gone, dtype=accumulator(each.dtype))

    def gradient(self) -> Any:
        """Give the gradient of the root, flat."""
        cotangents = tuple(None if d is None else _gradient(d) for d in self.results)
        return scattered(self.layout, self.over_loops(cotangents)[None], self.size)[0]

    def examples(self) -> Any:
        """Give the gradients of the examples, each flat: (n, size)."""
        if self.by_loop is not None:
            return self.each_step()
        if self.masks is None:
            return scattered(self.layout, jax.vmap(self.over_loops)(self.each_result()), self.size)
        n = next(m[2] for m in self.masks if m)

        def one(i: Any) -> Any:
            masked = []
            for d, mask in zip(self.results, self.masks, strict=True):
                if d is not None and mask:
                    axis, _, _, inner = mask
                    axis += len(self.loops)
                    owner = jnp.arange(d.shape[axis]) // inner % n
                    d = jnp.where((owner == i).reshape(-1, *(1,) * (d.ndim - axis - 1)), d, 0)
                masked.append(d)
            return self.over_loops(tuple(masked))

        return scattered(self.layout, jax.vmap(one)(jnp.arange(n)), self.size)

    def each_result(self) -> Any:
        """Give the cotangents of each example, from the factors of the results."""
        return tuple(None if d is None else _examples(d) for d in self.results)

    def each_step(self) -> Any:
        """Give the gradients of the examples where a loop runs over them."""
        f: Callable[..., Any] = self.pulled
        for _ in self.loops:
            f = jax.vmap(f)
        own = tuple(None if d is None else d for d in self.results)
        each = jnp.moveaxis(f(self.operands, own), self.by_loop or 0, 0)
        gone = [k for k in range(len(self.loops)) if k != self.by_loop]
        axes = tuple(1 + p for p, k in enumerate(gone) if k not in self.kept)
        return scattered(self.layout, jnp.sum(each, axes, dtype=accumulator(each.dtype)), self.size)


@partial(register_dataclass, data_fields=["factor"], meta_fields=["shape", "dtype"])
@dataclass(frozen=True)
class Shaped:
    """A factor with the shape of its root, for roots that are no params."""

    factor: Any
    shape: tuple[int, ...]
    dtype: Any


def gradient_of(factor: Any, param: Any) -> Any:
    """Give the gradient of `param` by its factor, in float32 or wider."""
    shape = tuple(param.shape)
    wide = jax.ShapeDtypeStruct(shape, accumulator(param.dtype))
    match factor:
        case Examples(g):
            return jnp.sum(g, 0, dtype=wide.dtype)
        case Viewed(own, layout):
            matrix = gradient_of(own, jax.ShapeDtypeStruct(layout.shape, wide.dtype))
            return layout.back(matrix, shape)
        case Several(factors):
            return sum(gradient_of(own, param) for own in factors)
        case Convolved():
            if len(shape) > factor.rank:
                return jax.vmap(gradient_of, (0, None))(factor, _one(wide))
            return factor.gradient().astype(wide.dtype)
        case Called() | Part():
            return factor.gradient().astype(wide.dtype).reshape(shape)
    return gradient(factor, wide)


def examples_of(factor: Any, param: Any) -> Any:
    """Give the gradients of the examples by the factor of `param`: (n, *param.shape), float32 or wider."""
    shape = tuple(param.shape)
    wide = jax.ShapeDtypeStruct(shape, accumulator(param.dtype))
    match factor:
        case Examples(g):
            return g.astype(wide.dtype)
        case Viewed(own, layout):
            return layout.back(examples_of(own, jax.ShapeDtypeStruct(layout.shape, wide.dtype)), shape)
        case Several(factors):
            return sum(examples_of(own, param) for own in factors)
        case Called() | Part():
            flat = factor.examples().astype(wide.dtype)
            return flat.reshape(flat.shape[0], *shape)
    if len(shape) > factor.rank:
        return jnp.moveaxis(jax.vmap(lambda own: examples_of(own, _one(wide)))(factor), 0, 1)
    if isinstance(factor, Convolved):
        return factor.examples().astype(wide.dtype)
    return materialised(with_tokens(factor), wide).astype(wide.dtype)


def _one(stack: Any) -> Any:
    return jax.ShapeDtypeStruct(stack.shape[1:], stack.dtype)


def _gradient(result: Any) -> Any:
    if not isinstance(result, Shaped):
        return result
    return gradient_of(result.factor, jax.ShapeDtypeStruct(result.shape, result.dtype))


def _examples(result: Any) -> Any:
    return examples_of(result.factor, jax.ShapeDtypeStruct(result.shape, result.dtype))


FORMS = (Outer, Total, Scaled, Rows, Examples, Viewed, Several, Part, Convolved, Called)
