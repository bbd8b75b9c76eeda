"""The two sides of a matrix that a param is used as: its rows and its columns, in the order of the param.

What a reader says of a side, such as a Kronecker factor, goes with the param reshaped to a matrix, row-major.
A param that is used transposed has the columns of the matrix as its rows.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from fnn.function.layout import Arrangement, Layout, arrangement, whole

Axes = tuple[tuple[int, int], ...]  # the axes that a side is made of: (size, place in the param)


@dataclass(frozen=True)
class Sides:
    """What the sides of a matrix are made of.

    Args:
        stacks: the number of stacked axes, which come before the two sides.
        rows: the axes of the param that the rows are made of.
        columns: those that the columns are made of.
        turned: whether the param has the columns before the rows.
    """

    stacks: int
    rows: Axes
    columns: Axes
    turned: bool

    def brought(self, side: str, part: Any) -> Any:
        """Bring what a reader says of one side into the order of the param.

        Args:
            side: "rows" or "columns".
            part: an array (*stacks, k, k) or (*stacks, k). What the reader adds to the side, an input of 1,
                is left out.
        """
        axes = self.rows if side == "rows" else self.columns
        size = math.prod(n for n, _ in axes)
        front, count = part.shape[: self.stacks], part.ndim - self.stacks
        part = part[(..., *[slice(size)] * count)]
        order = sorted(range(len(axes)), key=lambda a: axes[a][1])
        each = [self.stacks + own * len(axes) + a for own in range(count) for a in order]
        split = part.reshape(*front, *[n for n, _ in axes] * count)
        return split.transpose(*range(self.stacks), *each).reshape(*front, *[size] * count)

    def square(self, part: Any) -> Any:
        """Return the matrix of a side that a reader gave as its diagonal."""
        if part.ndim > self.stacks + 1:
            return part
        return part[..., None] * jnp.eye(part.shape[-1], dtype=part.dtype)


def sides_of(layout: Arrangement, stacks: int) -> Sides | None:
    """Return the sides of a matrix; None where the param has its axes in no order of sides.

    Args:
        layout: the param as the matrix.
        stacks: the number of stacked axes of the matrix.
    """
    groups, places = [], [place for place in layout.order if layout.split[place] > 1]
    for size in layout.shape:
        group: list[tuple[int, int]] = []
        while math.prod(n for n, _ in group) < size:
            place = places.pop(0)
            group.append((layout.split[place], place))
        groups.append(tuple(group))
    front = [place for group in groups[:stacks] for _, place in group]
    rows, columns = groups[stacks] if len(groups) > stacks + 1 else (), groups[-1]
    if front != sorted(front) or 0 in layout.shape:
        return None
    ours, theirs = ([place for _, place in side] for side in (rows, columns))
    before = bool(front) and any(place < max(front) for place in (*ours, *theirs))
    turned = bool(ours and theirs) and max(theirs) < min(ours)
    if before or (ours and theirs and not turned and max(ours) > min(theirs)):
        return None
    return Sides(stacks, rows, columns, turned)


def composed(outer: Arrangement, inner: Arrangement, shape: tuple[int, ...]) -> Arrangement | None:
    """Compose two layouts, one inside the other; None where the axes do not lie evenly.

    Args:
        outer: the param as a matrix.
        inner: that matrix as another one.
        shape: the shape of the param.
    """
    strides = whole(outer.split).strides
    moved = Layout(tuple(outer.split[a] for a in outer.order), tuple(strides[a] for a in outer.order))
    matrix = moved.reshape(outer.shape)
    split = matrix and matrix.reshape(inner.split)
    if split is None:
        return None
    axes = [(split.shape[a], split.strides[a]) for a in inner.order]
    groups: list[list[tuple[int, int]]] = []
    for size in inner.shape:
        group: list[tuple[int, int]] = []
        while axes and (math.prod(n for n, _ in group) < size or axes[0][0] == 1):
            group.append(axes.pop(0))
        groups.append(group)
    return arrangement(groups, math.prod(shape))
