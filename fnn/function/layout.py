"""How a view of a param lies in the param: shape, strides and offset, as in NumPy, but of no memory.

Transposes, reshapes, slices and broadcasts of an array are told by the place of each element in it. So any
chain of them is one `Layout`, and what a use says of the view is carried back to the param by one.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.function.internals import IDENTITIES, differentiable


@dataclass(frozen=True)
class Layout:
    """Element (i, j, ...) of the view is element offset + i strides[0] + j strides[1] + ... of the array.

    Args:
        shape: the shape of the view.
        strides: for each of its axes, the number of elements of the array from one element to the next.
        offset: the place of its first element in the array.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def reshape(self, shape: tuple[int, ...]) -> "Layout | None":
        """Return the layout in this shape; None where the elements do not lie evenly."""
        if 0 in self.shape:
            return Layout(shape, (0,) * len(shape), self.offset)
        ours = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n > 1]
        strides, place = [], 0
        for size in shape:
            rest, stride = size, 0
            # split the next of our axes, or merge several, into this one
            run: list[tuple[int, int]] = []
            while rest > 1:
                if place == len(ours):
                    return None
                n, s = ours[place]
                if rest % n == 0:
                    run.append((n, s))
                    rest //= n
                    place += 1
                elif n % rest == 0:
                    run.append((rest, s * (n // rest)))
                    ours[place] = (n // rest, s)
                    rest = 1
                else:
                    return None
            for (_, outer), (n, s) in zip(run, run[1:], strict=False):
                if outer != n * s:
                    return None
            if run:
                stride = run[-1][1]
            strides.append(stride)
        return Layout(shape, tuple(strides), self.offset)

    def transpose(self, order: tuple[int, ...]) -> "Layout":
        """Return the layout with the axes in this order."""
        shape, strides = (tuple(part[a] for a in order) for part in (self.shape, self.strides))
        return Layout(shape, strides, self.offset)

    def broadcast(self, shape: tuple[int, ...], places: tuple[int, ...]) -> "Layout":
        """Return the layout in a larger shape.

        Args:
            shape: the larger shape.
            places: the axis there that each of our axes becomes.
        """
        strides = [0] * len(shape)
        for own, place in enumerate(places):
            strides[place] = self.strides[own] if self.shape[own] == shape[place] else 0
        return Layout(shape, tuple(strides), self.offset)

    def to_shape(self, shape: tuple[int, ...]) -> "Layout":
        """Return the layout as an elementwise operation of this result's shape sees it."""
        if not self.shape:
            return self.broadcast(shape, ())
        return self.broadcast(shape, tuple(range(len(shape))))

    def slice(self, start: Any, stop: Any, step: Any) -> "Layout":
        """Return the layout of a slice.

        Args:
            start: the first element, a number for each axis.
            stop: the element to stop before, a number for each axis.
            step: the steps, a number for each axis, 1 or larger; None for steps of 1.
        """
        step = step or (1,) * len(self.shape)
        shape = tuple(max(0, -(-(b - a) // c)) for a, b, c in zip(start, stop, step, strict=True))
        offset = self.offset + sum(a * s for a, s in zip(start, self.strides, strict=True))
        return Layout(shape, tuple(s * c for s, c in zip(self.strides, step, strict=True)), int(offset))

    def drop(self, axes: tuple[int, ...]) -> "Layout":
        """Return the layout without these axes, of which the first element remains."""
        keep = [a for a in range(len(self.shape)) if a not in axes]
        return self.transpose(tuple(keep))

    def indices(self) -> Any:
        """Return the place of each element, an integer array of the view's shape."""
        place = np.full(self.shape, self.offset)
        for axis, (n, s) in enumerate(zip(self.shape, self.strides, strict=True)):
            place += (np.arange(n) * s).reshape([-1 if a == axis else 1 for a in range(len(self.shape))])
        return place


def whole(shape: tuple[int, ...]) -> Layout:
    """Return the layout of an array itself."""
    return Layout(shape, tuple(math.prod(shape[a + 1 :]) for a in range(len(shape))))


def through(eqn: Any, layout: Layout) -> list[Layout] | None:
    """Return the layouts of the results of a view operation; None if they are no views.

    Args:
        eqn: the operation, an equation of a trace, of one operand.
        layout: the layout of its operand.
    """
    name, p = eqn.primitive.name, eqn.params
    shape = tuple(eqn.outvars[0].aval.shape)
    match name:
        case "transpose":
            found = layout.transpose(p["permutation"])
        case "reshape":
            found = layout.reshape(shape) if p.get("dimensions") is None else None
        case "broadcast_in_dim":
            found = layout.broadcast(shape, p["broadcast_dimensions"])
        case "squeeze":
            found = layout.drop(tuple(d % len(layout.shape) for d in p["dimensions"]))
        case "expand_dims":
            found = layout.reshape(shape)
        case "slice":
            found = layout.slice(p["start_indices"], p["limit_indices"], p["strides"])
        case "rev":
            ends = [(n - 1) * (a in p["dimensions"]) for a, n in enumerate(layout.shape)]
            turn = [-1 if a in p["dimensions"] else 1 for a in range(len(layout.shape))]
            offset = layout.offset + sum(e * s for e, s in zip(ends, layout.strides, strict=True))
            turned = tuple(s * t for s, t in zip(layout.strides, turn, strict=True))
            found = Layout(layout.shape, turned, offset)
        case "split":
            parts, start = [], 0
            for size in p["sizes"]:
                low = [start if a == p["axis"] else 0 for a in range(len(layout.shape))]
                high = [start + size if a == p["axis"] else n for a, n in enumerate(layout.shape)]
                parts.append(layout.slice(low, high, None))
                start += size
            return parts
        case "convert_element_type":
            real = [
                not jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in (*eqn.invars, *eqn.outvars)
            ]
            found = layout if differentiable(eqn.outvars[0].aval) and real[0] == real[1] else None
        case _ if name in IDENTITIES:
            found = layout
        case _:
            return None
    return None if found is None else [found]


@dataclass(frozen=True)
class Arrangement:
    """A param as a matrix: its axes split, reordered and merged.

    Args:
        split: the shape that the param is split into.
        order: the axes of `split`, in the order of the matrix.
        shape: the shape of the matrix, stacked axes first, whose axes are merged from these.
    """

    split: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def into(self, param: Any) -> Any:
        """Bring an array of the param's shape into the matrix's."""
        return param.reshape(self.split).transpose(self.order).reshape(self.shape)

    def back(self, matrix: Any, shape: tuple[int, ...]) -> Any:
        """Bring an array of the matrix's shape back into the param's.

        Args:
            matrix: the array, (..., *shape of the matrix).
            shape: the shape of the param.

        Returns:
            an array (..., *shape).
        """
        extra = matrix.ndim - len(self.shape)
        front = matrix.shape[:extra]
        parts = matrix.reshape(*front, *(self.split[a] for a in self.order))
        inverse = [extra + self.order.index(a) for a in range(len(self.order))]
        return parts.transpose(*range(extra), *inverse).reshape(*front, *shape)


def arrangement(groups: list[list[tuple[int, int]]], size: int, offset: int = 0) -> Arrangement | None:
    """Return the matrix with these axes; None where they do not hold every element exactly once.

    Args:
        groups: for each axis of the matrix, the (size, stride) of the axes of the param that it is made of.
        size: the number of elements of the param.
        offset: the place of the matrix's first element in the param.
    """
    axes = [(n, s) for group in groups for n, s in group if n > 1]
    order = sorted(range(len(axes)), key=lambda a: -axes[a][1])
    inner = 1
    for a in reversed(order):
        if axes[a][1] != inner:
            return None
        inner *= axes[a][0]
    shape = tuple(math.prod(n for n, _ in group) for group in groups)
    if offset or math.prod(shape) != size or (size and inner != size):
        return None
    if not size:
        return Arrangement(shape, tuple(range(len(shape))), shape)
    return Arrangement(
        tuple(axes[a][0] for a in order), tuple(order.index(a) for a in range(len(axes))), shape
    )


def scattered(layout: Layout, g: Any, size: int) -> Any:
    """Add the elements of views of a param up into arrays of all its elements.

    Args:
        layout: the layout of the view in the param.
        g: an array of the view for each example, (n, *layout.shape).
        size: the number of elements of the param.

    Returns:
        an array (n, size), zero where the view has no elements.
    """
    flat = g.reshape(g.shape[0], math.prod(layout.shape))
    dense = [(n, s) for n, s in zip(layout.shape, layout.strides, strict=True) if n > 1]
    if arrangement([dense], flat.shape[1]) and all(
        a[1] > b[1] for a, b in zip(dense, dense[1:], strict=False)
    ):
        end = size - layout.offset - flat.shape[1]  # one contiguous piece
        return jnp.pad(flat, ((0, 0), (layout.offset, end)))
    return jnp.zeros((g.shape[0], size), g.dtype).at[:, layout.indices().reshape(-1)].add(flat)
