"""From what a site kept, and its cotangents, to the factor of the view that it used.

Every array is laid out as fnn's factors are: stacked axes, then the examples, their tokens, the features.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from fnn.factors import Factor, Outer, Rows, Scaled, Total
from fnn.function.batch import Batch
from fnn.function.convolved import Convolved
from fnn.function.layout import Arrangement, arrangement
from fnn.function.sites import Site, View

Axes = list[int]


@dataclass(frozen=True)
class Piece:
    """The factor of one use, and where its matrix lies in the root.

    Args:
        factor: the factor of the matrix.
        stacks: the (size, stride) of each stacked axis of the matrix in the root.
        groups: for each further axis of the matrix, the (size, stride) of the axes that it is made of.
        offset: the place of the matrix's first element in the root.
    """

    factor: Factor
    stacks: tuple[tuple[int, int], ...]
    groups: tuple[tuple[tuple[int, int], ...], ...]
    offset: int

    def arranged(self, size: int) -> Arrangement | None:
        """Return the layout of the matrix in the root; None where it is not all of it."""
        return arrangement(
            [[stack] for stack in self.stacks] + [list(g) for g in self.groups], size, self.offset
        )


def stacked_loops(site: Site, view: View) -> dict[int, int]:
    """Return the loops of a site, by place, whose steps have params of their own: with their strides.

    Args:
        site: the site.
        view: the view that it uses.
    """
    strides = {loop: stride for loop, stride in view.stacks if stride or loop.length == 1}
    return {k: strides[loop] for k, loop in enumerate(site.loops) if loop in strides}


def laid(site: Site, view: View, array: Any, batch: Batch | None, stacks: Axes, features: list[Axes]) -> Any:
    """Lay out an array of a site as a factor has it.

    Args:
        site: the site.
        view: the view that it uses.
        array: the array, with the loops around the site first; axes are counted without these.
        batch: the examples in it, where no loop runs over them.
        stacks: its stacked axes, beside the loops whose steps have params of their own.
        features: its axes of features, in groups of which each becomes one axis.

    Returns:
        an array (*stacks, n, t, *features), t left out where there are no tokens.
    """
    loops = len(site.loops)
    own = list(stacked_loops(site, view))
    by_loop = next((k for k, loop in enumerate(site.loops) if loop.examples), None)
    at = None if batch is None else batch.axis + loops
    shape = list(array.shape)
    names: list[Any] = list(range(len(shape)))  # of the axes, after the examples' is split
    if by_loop is not None:
        examples: Any = by_loop
    elif at is not None and batch is not None and batch.whole and batch.outer * batch.inner > 1:
        n = shape[at] // (batch.outer * batch.inner)
        shape[at : at + 1] = [batch.outer, n, batch.inner]
        names[at : at + 1] = [(at, 0), (at, 1), (at, 2)]
        examples = (at, 1)
    else:
        examples = at
    front = [*own, *(a + loops for a in stacks)]
    last = [a + loops for group in features for a in group]
    tokens = [a for a in names if a not in front and a not in last and a != examples]
    order = [names.index(a) for a in [*front, *([] if examples is None else [examples]), *tokens, *last]]
    sizes = {name: size for name, size in zip(names, shape, strict=True)}
    ends = [math.prod(sizes[a + loops] for a in group) for group in features]
    middle = [1 if examples is None else sizes[examples]]
    middle += [math.prod(sizes[a] for a in tokens)] if tokens else []
    out = array.reshape(shape).transpose(order)
    return out.reshape(*(sizes[a] for a in front), *middle, *ends)


def piece(site: Site, view: View, place: int, kept: tuple[Any, ...], dzs: tuple[Any, ...]) -> Piece:
    """Return the factor of a site of a known kind.

    Args:
        site: the site.
        view: the view that it uses.
        place: the place of the view among the operands.
        kept: the operands that the site kept.
        dzs: the cotangents of its zeros, of which the first counts.
    """
    make = {"dot": _dot, "total": _total, "scale": _scale, "rows": _rows, "conv": _conv}[site.kind]
    return make(site, view, place, kept, dzs[0])


def _piece(site: Site, view: View, factor: Factor, stacks: Axes, groups: list[Axes]) -> Piece:
    def axes(group: Axes) -> tuple[tuple[int, int], ...]:
        return tuple((view.layout.shape[a], view.layout.strides[a]) for a in group)

    loops = tuple((site.loops[k].length, stride) for k, stride in stacked_loops(site, view).items())
    return Piece(factor, (*loops, *axes(stacks)), tuple(axes(g) for g in groups), view.layout.offset)


def _dot(site: Site, view: View, place: int, kept: tuple[Any, ...], dz: Any) -> Piece:
    """y = x w: dw = x^T dz, with any axes contracted, and one product for each of the batch axes."""
    contract, batch = site.eqn.params["dimension_numbers"]
    (x,), other = kept, 1 - place
    ndim, rows = len(view.layout.shape), x.ndim - len(site.loops)
    free = [a for a in range(ndim) if a not in contract[place] and a not in batch[place]]
    row_axes = [a for a in range(rows) if a not in contract[other] and a not in batch[other]]
    lead, count = len(batch[0]), len(free)
    start = lead + (len(row_axes) if place == 1 else 0)
    x = laid(site, view, x, site.batches[other], list(batch[other]), [list(contract[other])])
    dz = laid(site, view, dz, site.batch, list(range(lead)), [list(range(start, start + count))])
    factor = Outer(x, dz)
    return _piece(site, view, factor, list(batch[place]), [list(contract[place]), free])


def _features(view: View) -> Axes:
    layout = view.layout
    return [a for a, (n, s) in enumerate(zip(layout.shape, layout.strides, strict=True)) if s and n > 1]


def _total(site: Site, view: View, place: int, kept: tuple[Any, ...], dz: Any) -> Piece:
    """y = op(w, ...), w broadcast to the examples: dw = sum of the cotangents of the broadcast w."""
    features = _features(view)
    return _piece(site, view, Total(laid(site, view, dz, site.batch, [], [features])), [], [features])


def _scale(site: Site, view: View, place: int, kept: tuple[Any, ...], dz: Any) -> Piece:
    """y = x * w, w broadcast: dw = sum of x * dz."""
    (x,), features, loops = kept, _features(view), len(site.loops)
    if x.ndim == loops:
        x = x.reshape(*x.shape, *(1,) * (dz.ndim - loops))
    x = jnp.broadcast_to(x, dz.shape)
    x, dz = (laid(site, view, leaf, site.batch, [], [features]) for leaf in (x, dz))
    return _piece(site, view, Scaled(x, dz), [], [features])


def _rows(site: Site, view: View, place: int, kept: tuple[Any, ...], dz: Any) -> Piece:
    """y = w[index]: dw = dz added to the rows that the index names."""
    d, (index,) = site.eqn.params["dimension_numbers"], kept
    axis = d.start_index_map[0]
    rest = [a for a in range(len(view.layout.shape)) if a != axis]
    index = jnp.squeeze(index, -1)
    if "CLIP" in str(site.eqn.params["mode"]).upper():
        index = jnp.clip(index, 0, view.layout.shape[axis] - 1)
    index = laid(site, view, index, site.batches[1], [], [])
    dz = laid(site, view, dz, site.batch, [], [list(d.offset_dims)])
    return _piece(site, view, Rows(index, dz), [], [[axis], rest])


def _conv(site: Site, view: View, place: int, kept: tuple[Any, ...], dz: Any) -> Piece:
    """y = x * w: dw is the convolution of x with dz."""
    p, (x,) = site.eqn.params, kept
    d = p["dimension_numbers"]
    stack, space = len(stacked_loops(site, view)), len(d.lhs_spec) - 2

    def images(array: Any, spec: tuple[int, ...], batch: Batch | None) -> Any:
        if any(loop.examples for loop in site.loops):  # the batch is one of tokens
            array = laid(site, view, array, None, [], [[a] for a in spec[1:]])
        else:
            array = laid(site, view, array, batch, [], [[a] for a in spec[1:]])
        return array if array.ndim == stack + 3 + space else jnp.expand_dims(array, stack + 1)

    shape = tuple(view.layout.shape[a] for a in d.rhs_spec)
    options = {
        "window_strides": p["window_strides"],
        "padding": tuple(map(tuple, p["padding"])),
        "lhs_dilation": p["lhs_dilation"],
        "rhs_dilation": p["rhs_dilation"],
        "feature_group_count": p["feature_group_count"],
        "precision": p["precision"],
    }
    x, dz = images(x, d.lhs_spec, site.batches[0]), images(dz, d.out_spec, site.batch)
    factor = Convolved(x, dz, shape, tuple(options.items()), len(shape))
    return _piece(site, view, factor, [], [[a] for a in d.rhs_spec])
