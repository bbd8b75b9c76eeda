"""The uses of each param, brought into one factor."""

import math
from typing import Any

import jax.numpy as jnp

from fnn.factors import Factor, Outer, Total
from fnn.function.called import Called, Owners, Shaped
from fnn.function.forms import Several, Viewed
from fnn.function.join import joined
from fnn.function.layout import Layout, arrangement, whole
from fnn.function.made import made_piece
from fnn.function.padded import first_of
from fnn.function.pieces import Piece, piece, stacked_loops
from fnn.function.run import Kept, Zeros
from fnn.function.sites import Plan, Root, Site, View

KNOWN = ("dot", "total", "scale", "rows", "conv")


def factors(plan: Plan, n: int, kept: Kept, dzs: Zeros) -> list[Any]:
    """Return the factor of every param of the plan, in order.

    Args:
        plan: the plan of the function.
        n: the number of examples.
        kept: what each site kept, as `run` returns it.
        dzs: the cotangents of the zeros of each site.
    """
    made: dict[int, Any] = {}
    run = n + plan.padding

    def of(number: int) -> Any:
        if number not in made:
            made[number] = _of_root(plan, number, run, kept, dzs, of)
        return made[number]

    found = [(of(number), root_shape(root)) for number, root in enumerate(plan.roots) if root.site is None]
    return [first_of(own, shape, n) if plan.padding else own for own, shape in found]


def root_shape(root: Root) -> tuple[int, ...]:
    """Return the shape of a root, its loops first."""
    return (*(loop.length for loop in root.loops), *root.shape)


def _of_root(plan: Plan, number: int, n: int, kept: Kept, dzs: Zeros, of: Any) -> Any:
    """Return the factor of one root; None for one that is made of params and not used."""
    root = plan.roots[number]
    pieces: list[Piece] = []
    calls: list[Called] = []
    for k, site in enumerate(plan.sites):
        for place, view in site.views:
            if view.root != number:
                continue
            if site.kind in KNOWN:
                pieces.append(piece(site, view, place, kept[k], dzs[k]))
                continue
            own = _made(plan, k, site, view, place, kept, of) if site.kind == "made" else None
            if own is not None:
                pieces.append(own)
            else:
                call = _called(plan, k, site, place, view, kept, dzs, of, n)
                calls += [] if call is None else [call]
    shape = root_shape(root)
    found = joined(pieces, shape) + calls
    if not found:
        return None if root.site is not None else unused(n, shape, root.dtype)
    return found[0] if len(found) == 1 else Several(tuple(found), shape, len(shape))


def _made(plan: Plan, k: int, site: Site, view: View, place: int, kept: Kept, of: Any) -> Piece | None:
    """Return the factor of an operand of an operation on params alone where it has a form of its own."""
    made = [number for number, root in enumerate(plan.roots) if root.site == k]
    return made_piece(site, view, place, kept[k], of(made[0])) if len(made) == 1 else None


def unused(n: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return the factor of a param that does not enter: of no tokens, so that every reading is zero.

    Args:
        n: the number of examples.
        shape: the shape of the param.
        dtype: its dtype.
    """
    if len(shape) < 2:
        layout = arrangement([list(zip(shape, whole(shape).strides, strict=True))], math.prod(shape))
        factor: Factor = Total(jnp.zeros((n, 0, math.prod(shape)), dtype))
    else:  # of rank 0, which costs neither the gradients of the examples nor the square of their size
        axes = list(zip(shape, whole(shape).strides, strict=True))
        layout = arrangement([axes[:-1], axes[-1:]], math.prod(shape))
        factor = Outer(jnp.zeros((n, 0, math.prod(shape[:-1])), dtype), jnp.zeros((n, 0, shape[-1]), dtype))
    assert layout is not None
    return Viewed(factor, layout, shape, len(shape))


def _called(
    plan: Plan, k: int, site: Site, place: int, view: View, kept: Kept, dzs: Zeros, of: Any, n: int
) -> Called | None:
    """Return the factor of an operand of an operation that is not known, or is on params alone."""
    own = stacked_loops(site, view)
    by_loop = next((j for j, loop in enumerate(site.loops) if loop.examples), None)
    if site.kind == "made":
        by_loop = None
        results: list[Any] = [None] * len(site.eqn.outvars)
        for number, root in enumerate(plan.roots):
            if root.site == k and of(number) is not None:
                results[root.result] = Shaped(of(number), root_shape(root))
        if all(r is None for r in results):
            return None
    else:
        results = list(dzs[k])
    layout = Layout(
        (*(site.loops[j].length for j in own), *view.layout.shape),
        (*own.values(), *view.layout.strides),
        view.layout.offset,
    )
    shape = root_shape(plan.roots[view.root])

    def owners(batches: Any) -> tuple[Owners | None, ...]:
        return tuple(None if b is None else Owners(b.axis, b.inner) for b in batches)

    return Called(
        kept[k],
        tuple(results),
        site.eqn,
        place,
        tuple(loop.length for loop in site.loops),
        tuple(own),
        by_loop,
        n,
        owners(site.outs) or (None,) * len(results),
        owners(site.batches),
        layout,
        shape,
        len(shape),
    )
