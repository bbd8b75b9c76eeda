"""Which boundaries of a chain are kept, and which segments of it are run again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fnn.core import Composition, Layer
from fnn.errors import InputError

Boundaries = dict[int, Any]  # v[0] is the chain's input, v[i + 1] the output of block i


class Segment(NamedTuple):
    """Layers start .. stop - 1 of a chain: their inner boundaries are made again in the backward."""

    start: int
    stop: int
    plan: tuple["Segment", ...] = ()  # of the segment as a chain, when it is run again

    def shifted(self, by: int) -> "Segment":
        """Return the same segment of layers that stand `by` places further back."""
        return self._replace(start=self.start + by, stop=self.stop + by)


def rebuilds(layer: Layer) -> bool:
    """Tell whether a layer makes its output again from what it keeps itself."""
    return isinstance(layer, Composition) and layer.rebuilds


def kept_boundaries(layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Choose the smallest set of boundaries from which all needed ones follow by cheap layers alone.

    Walk the chain once. A needed boundary is within reach if cheap layers lead to it from a kept one; if
    it is not, it is kept. For dense-gelu-dense that leaves the pre-activation only, for dense-relu-dense
    the activation only. One that its layer rebuilds from what it keeps itself is within reach, too.
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
    """Tell whether cheap layers alone lead from a kept inner boundary to the chain's output."""
    reachable = False
    for i, layer in enumerate(layers):
        reachable = rebuilds(layer) or ((reachable or 0 < i in kept) and layer.cheap)
    return reachable


def check_plan(plan: Sequence[Segment], layers: int) -> None:
    """Raise unless the segments lie in the chain, one behind the other."""
    end = 0
    for start, stop, _ in plan:
        if not end <= start < stop <= layers:
            wanted = f"a plan of segments of the {layers} layers, one behind the other"
            got = str([tuple(segment[:2]) for segment in plan])
            raise InputError("Serial", wanted, got, "fnn.memory.fit(net, x, budget)")
        end = stop
