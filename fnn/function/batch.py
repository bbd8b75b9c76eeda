"""Which axis of a value is that of the examples: the trace at two batch sizes tells.

Where an axis differs between the traces, it is made of the examples: it has n elements, or a multiple of n
where axes were merged. Then `outer` says how many elements of the merged axis lie before the examples' own.
"""

import math
from dataclasses import dataclass
from typing import Any

from fnn.function.internals import Literal


@dataclass(frozen=True)
class Batch:
    """The examples in a value: axis `axis` has outer * n * inner elements.

    Args:
        axis: the axis; the first one, where several are made of the examples.
        outer: the number of elements of a merged axis before the examples' own.
        inner: the number of elements of a merged axis behind them.
        axes: how many axes are made of the examples; more than one where examples are coupled.
        whole: False where the axis does not hold all the examples evenly.
    """

    axis: int
    outer: int = 1
    inner: int = 1
    axes: int = 1
    whole: bool = True

    @property
    def single(self) -> bool:
        """Whether the axis has no elements but the examples."""
        return self.whole and self.outer * self.inner == 1


@dataclass(frozen=True)
class Sizes:
    """The two batch sizes of a trace; in a `shard_map`, those of one shard.

    Args:
        n: the number of examples of the first trace, which is the one that runs.
        other: that of the second trace.
        shards: the mesh axes along which the examples are cut.
    """

    n: int
    other: int
    shards: tuple[str, ...] = ()

    def of(self, shape: Any, other: Any, like: "list[Batch | None]" = ()) -> Batch | None:  # pyright: ignore
        """Return the examples in a value; None where it has none.

        Args:
            shape: the value's shape in the first trace.
            other: its shape in the second.
            like: the examples in the operands that it was made of: a merged axis has its order from one.
        """
        axes = [a for a, (m, o) in enumerate(zip(shape, other, strict=True)) if m != o]
        if not axes:
            return None
        axis = axes[0]
        times, rest = divmod(other[axis] - shape[axis], self.other - self.n)
        if rest or shape[axis] != times * self.n:
            return Batch(axis, axes=len(axes), whole=False)
        outer = next((b.outer for b in like if b and b.whole and b.outer * b.inner == times), 1)
        return Batch(axis, outer, times // outer, len(axes))

    def reshaped(self, batch: Batch, old: tuple[int, ...], new: tuple[int, ...]) -> Batch | None:
        """Follow the examples through a reshape; None where they are split.

        Args:
            batch: the examples in the operand.
            old: the operand's shape in the second trace.
            new: the result's shape there.
        """
        inner = batch.inner * math.prod(old[batch.axis + 1 :])  # the elements between two examples
        for axis, size in enumerate(new):
            after = math.prod(new[axis + 1 :])
            own, rest = divmod(inner, after or 1)
            if after and not rest and own and size >= own * self.other and size % (own * self.other) == 0:
                return Batch(axis, size // (own * self.other), own, batch.axes)
        return None

    def result(self, eqn: Any, theirs: Any, k: int, like: list[Batch | None]) -> Batch | None:
        """Return the examples in a result of an operation; None where it has none.

        Args:
            eqn: the operation in the first trace.
            theirs: the same in the second.
            k: the place of the result.
            like: the examples in the operands.
        """
        shape, other = shape_of(eqn.outvars[k]), shape_of(theirs.outvars[k])
        found = self.of(shape, other, like)
        if not found or not found.whole or found.outer * found.inner == 1:
            return found
        name = eqn.primitive.name
        if name == "reshape" and like[0] and like[0].whole:
            return self.reshaped(like[0], shape_of(theirs.invars[0]), other) or found
        if name == "tile" and like[0] and like[0].whole:  # the batch again and again
            outer = like[0].outer * eqn.params["reps"][like[0].axis]
            return Batch(found.axis, outer, like[0].inner, found.axes)
        if name == "concatenate" and eqn.params["dimension"] == found.axis:
            if all(b and b.whole and b.axis == found.axis and b.inner == 1 for b in like):
                outer = sum(b.outer for b in like if b)
                return Batch(found.axis, outer, 1, found.axes)
        return found


def shape_of(var: Any) -> tuple[int, ...]:
    """Return the shape of a variable of a trace, or of a literal."""
    return tuple(getattr(var.aval, "shape", ()))  # a token has none


def is_literal(var: Any) -> bool:
    """Tell whether an operand is a number written into the trace."""
    return isinstance(var, Literal)
