"""What is made of params alone, by sums and products: its factor is carried to them in its own form.

The product of a weight W = M + A B with x has the factor (x, dz). That of M is the same one, that of A is (x,
dz B^T), and that of B (x A, dz): no gradient of an example is made, and each is cheaper than that of W.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import lax

from fnn.arrays import accumulator
from fnn.factors import Factor, Outer, Rows, Scaled, Total
from fnn.function.batch import shape_of
from fnn.function.layout import Layout, whole
from fnn.function.pieces import Piece
from fnn.function.sites import Site, View

ELEMENTWISE = ("add", "add_any", "sub", "neg", "mul", "div")
KEPT = {Outer: 2, Rows: 2, Total: 1, Scaled: 1}  # the forms that are carried on, with their numbers of axes


def made_piece(
    site: Site, view: View, place: int, kept: tuple[Any, ...], factor: Factor | None
) -> Piece | None:
    """Return the factor of an operand in a form of its own; None where there is none.

    Args:
        site: the operation on params alone, of one result.
        view: the view that it uses.
        place: the place of the view among the operands.
        kept: the operands.
        factor: the factor of the result; None where it has none.
    """
    out = site.eqn.outvars[0].aval
    shape = tuple(out.shape)
    if site.loops or KEPT.get(type(factor)) != len(shape) or not jnp.issubdtype(out.dtype, jnp.floating):
        return None
    name, layout = site.eqn.primitive.name, view.layout
    if name == "dot_general":
        return _product(site, layout, place, kept, factor) if isinstance(factor, Outer) else None
    if name not in ELEMENTWISE:
        return None
    layout = layout.to_shape(shape)
    others = [(_laid(site, k, shape), value) for k, value in enumerate(kept) if k != place]
    match name:
        case "add" | "add_any" | "neg" | "sub":
            slope: Any = -1 if name == "neg" or name == "sub" and place == 1 else 1
            by = layout
        case "mul":
            ((by, slope),) = others
        case "div" if place == 0:
            ((by, other),) = others
            slope = 1 / other
        case "div":
            ((_, other),) = others
            by, slope = layout, -other / jnp.square(kept[1])
        case _:
            return None
    if len(shape) == 1:
        return _piece(_times(factor, "dz", slope), layout, [[0]])
    if isinstance(factor, Outer) and layout.strides[0] == 0 and shape[0] > 1:
        return _shared_by_rows(factor, slope, layout, shape)
    scaled = _scaled(factor, slope, by)
    return None if scaled is None else _piece(scaled, layout, [[0], [1]])


def _laid(site: Site, place: int, shape: tuple[int, ...]) -> Layout:
    """Return how an operand lies in its root, as the result sees it: of strides 0 where it is broadcast."""
    own = next((view.layout for k, view in site.views if k == place), None)
    return (own or whole(shape_of(site.eqn.invars[place]))).to_shape(shape)


def _piece(factor: Factor, layout: Layout, groups: list[list[int]]) -> Piece | None:
    axes = tuple(tuple((layout.shape[a], layout.strides[a]) for a in group) for group in groups)
    if any(n > 1 and s == 0 for group in axes for n, s in group):
        return None  # broadcast: what it is made of has the sum
    return Piece(factor, (), axes, layout.offset)


def _product(site: Site, layout: Layout, place: int, kept: tuple[Any, ...], factor: Outer) -> Piece | None:
    """W = A B: the factor of A is (x, dz B^T), that of B (x A, dz)."""
    contract, batch = site.eqn.params["dimension_numbers"]
    other = kept[1 - place]
    if batch[0] or len(layout.shape) != 2 or other.ndim != 2 or len(contract[0]) != 1:
        return None
    (inner,), (of_other,) = contract[place], contract[1 - place]
    rows = factor.dz if place == 0 else factor.x
    turned = lax.dot_general(  # the rows' last axis is that of the other's columns, or rows
        rows,
        other.astype(rows.dtype),
        (((rows.ndim - 1,), (1 - of_other,)), ((), ())),
        precision=site.eqn.params["precision"],
        preferred_element_type=accumulator(rows.dtype),
    )
    if place == 0:
        return _piece(Outer(factor.x, turned), layout, [[1 - inner], [inner]])
    return _piece(Outer(turned, factor.dz), layout, [[inner], [1 - inner]])


def _times(factor: Any, side: str, slope: Any) -> Any:
    """Multiply a side of a factor, in its dtype."""
    own = getattr(factor, side)
    slope = jnp.asarray(slope, own.dtype)
    return replace(factor, **{side: own * slope.reshape((1,) * (own.ndim - slope.ndim) + slope.shape)})


def _scaled(factor: Any, slope: Any, by: Layout) -> Factor | None:
    """Multiply by a number, or by one for each row or column; None for a matrix of other numbers."""
    if jnp.ndim(slope) == 0:
        return _times(factor, "dz", slope)
    if by.strides[0] == 0:
        return _times(factor, "dz", slope[0])
    if by.strides[1] == 0 and isinstance(factor, Outer):
        return _times(factor, "x", slope[:, 0])
    return None


def _shared_by_rows(factor: Outer, slope: Any, layout: Layout, shape: tuple[int, ...]) -> Piece | None:
    """W = S * M with s for each column: ds = sum over the rows of x of (x M) dz."""
    slopes = jnp.broadcast_to(jnp.asarray(slope, factor.x.dtype), shape)
    rows = jnp.matmul(factor.x, slopes, preferred_element_type=accumulator(factor.x.dtype))
    return _piece(Total(rows * factor.dz.astype(rows.dtype)), layout, [[1]])
