"""Which boundaries of a chain are kept, and which segments of it are run again."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fnn.core import Composition, Layer
from fnn.errors import InputError, at

Boundaries = dict[int, Any]  # v[0] is the chain's input, v[i + 1] the output of block i


class Segment(NamedTuple):
    """Layers of a chain whose inner boundaries are not kept, but recomputed in the backward.

    Args:
        start: the number of its first layer.
        stop: the number after that of its last layer.
        plan: the segments inside of it, numbered from its own first layer, for its second run.

    >>> import fnn
    >>> fnn.Serial(fnn.Dense(3), fnn.relu, fnn.Dense(3), plan=(Segment(0, 2),))
    Serial(Dense(3), relu, Dense(3), plan=[(0, 2)])
    """

    start: int
    stop: int
    plan: tuple["Segment", ...] = ()  # of the segment as a chain, when it is run again

    def shifted(self, by: int) -> "Segment":
        """Return the same segment of layers that stand `by` places further back."""
        return self._replace(start=self.start + by, stop=self.stop + by)


def rebuilds(layer: Layer) -> bool:
    """Return whether a layer makes its output again from what it keeps itself."""
    return isinstance(layer, Composition) and layer.rebuilds


def kept_boundaries(layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Choose the smallest set of boundaries from which all needed ones follow by cheap layers alone.

    The chain is walked once. A needed boundary is within reach if cheap layers lead to it from a kept one, or
    if its layer rebuilds it from what it keeps itself; one that is not within reach is kept. For
    dense-gelu-dense that leaves the pre-activation only, for dense-relu-dense the activation only.
    """
    needed = {i + (side == "output") for i, layer in enumerate(layers) for side in layer.needs}
    kept, reachable = [], False
    for i in range(len(layers) + 1):
        reachable = i > 0 and (rebuilds(layers[i - 1]) or (reachable and layers[i - 1].cheap))
        if i in needed and not reachable:
            kept.append(i)
            reachable = True
    return tuple(kept)


def rebuilt(layers: tuple[Layer, ...], kept: tuple[int, ...]) -> bool:
    """Return whether cheap layers alone lead from a kept inner boundary to the chain's output.

    Args:
        layers: the layers of the chain.
        kept: the numbers of the kept boundaries.
    """
    reachable = False
    for i, layer in enumerate(layers):
        reachable = rebuilds(layer) or ((reachable or 0 < i in kept) and layer.cheap)
    return reachable


def reach(
    blocks: Sequence[tuple[Any, Layer]],
    i: int,
    params: Sequence[Any],
    known: Boundaries,
    extras: Sequence[Any],
    hold: Callable[[Any], Any],
    place: Callable[[Any], str],
) -> Any:
    """Return a boundary of a chain, recomputed by cheap blocks where it is not known.

    Args:
        blocks: the chain's blocks, each with the number of its layer or the slice of its segment.
        i: the number of the boundary.
        params: the params of the layers.
        known: the known boundaries by number, to which the recomputed ones are added.
        extras: the extras of the blocks.
        hold: a function through which what a recomputation starts from is passed.
        place: `place(number)`, or of a slice, says where a block stands.
    """
    if i not in known:
        where, layer = blocks[i - 1]
        if isinstance(layer, Composition) and layer.rebuilds:
            extra = hold(extras[i - 1])
            with at(place(where)):
                known[i] = layer.rebuild(params[where], extra)
        else:
            known[i - 1] = hold(reach(blocks, i - 1, params, known, extras, hold, place))
            with at(place(where)):
                known[i] = layer.recompute(params[where], known[i - 1], extras[i - 1])
    return known[i]


def check_plan(plan: Sequence[Segment], layers: int) -> None:
    """Check that segments lie in a chain, one after the other.

    Args:
        plan: the segments, in order.
        layers: the number of layers of the chain.

    Raises:
        InputError: where they do not.
    """
    end = 0
    for start, stop, _ in plan:
        if not end <= start < stop <= layers:
            wanted = f"a plan of segments of the {layers} layers, one behind the other"
            got = str([tuple(segment[:2]) for segment in plan])
            raise InputError("Serial", wanted, got, "fnn.memory.fit(net, x, budget)")
        end = stop
