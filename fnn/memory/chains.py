"""Plans of a chain: which stretches of it are recomputed, by dynamic programming over its stretches.

The recursion: a chain begins with a layer that keeps what it needs, or with a segment that is recomputed by a
plan of its own; then comes the rest of the chain. Source: Griewank, Walther 2000; for unequal layers Beaumont
et al. 2019.
"""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple, TypeVar

import jax

from fnn.arrays import bytes_of
from fnn.compose.boundaries import Segment, rebuilds
from fnn.compose.serial import Serial
from fnn.contract import run
from fnn.core import Layer, Sides
from fnn.flops import product_flops, residual_flops

Start = Literal["held", "reached", "open"]
PlansOf = Callable[[Layer, Any, Any], tuple["Plan", ...]]  # the plans of a layer with such params and input


class Plan(NamedTuple):
    """A plan of what a network keeps and what it recomputes.

    Args:
        kept: the bytes that the forward returns.
        peak: the most bytes of residuals alive at one time, recomputed ones included.
        flops: the flops of the matrix products that are recomputed.
        net: the network under the plan.

    >>> import fnn
    >>> fnn.memory.plans(fnn.Dense(3), jax.ShapeDtypeStruct((8, 4), "float32"))
    (Plan(kept=128, peak=128, flops=0, net=Dense(3)),)
    """

    kept: int
    peak: int
    flops: int
    net: Layer


class _Stage(NamedTuple):
    """A layer of a chain: its plans, the bytes of its input and output, the flops of its forward."""

    plans: tuple[Plan, ...]
    needs: Sides
    x: int
    y: int
    forward: int
    again: int  # the flops by which its residuals are made again, its output among them only if that is read
    reads: bool  # whether its residuals depend on its input


class _Stretch(NamedTuple):
    """A plan of a stretch of a chain: its layers under their plans, and its segments."""

    kept: int = 0
    peak: int = 0
    flops: int = 0
    layers: tuple[Layer, ...] = ()
    segments: tuple[Segment, ...] = ()


P = TypeVar("P", Plan, _Stretch)


def best(plans: Iterable[P], whole: bool = False) -> tuple[P, ...]:
    """Return the plans that no other plan beats, by rising peak.

    Args:
        plans: the plans to choose from.
        whole: whether they are of a whole network, for which the kept bytes do not matter beside the peak.
    """
    found: list[P] = []
    for plan in sorted(plans, key=lambda plan: (plan.peak, plan.flops, plan.kept)):
        rivals = found[-1:] if whole else found
        if not any(p.flops <= plan.flops and (whole or p.kept <= plan.kept) for p in rivals):
            found.append(plan)
    return tuple(found)


def of_chain(chain: Serial, params: Any, x: Any, whole: bool, plans_of: PlansOf) -> tuple[Plan, ...]:
    """Return the best plans of a chain; equal stretches are solved once.

    Args:
        chain: the chain.
        params: its params or their shapes.
        x: the shape of its input.
        whole: whether the chain is a whole network; see `best`.
        plans_of: a function `(layer, params, x)` that returns the plans of one of its layers.
    """
    stages = [
        _stage(part.layer, part.params, part.x, plans_of) for part in chain.with_plan(()).parts(params, x)
    ]
    kinds = list(dict.fromkeys(stages))

    @cache
    def solve(stretch: tuple[int, ...], start: Start, remade: bool, proper: bool) -> tuple[_Stretch, ...]:
        """Return the plans of a stretch of the chain.

        Its first boundary is "held" by the caller of the chain, "reached" by cheap layers, or "open". A
        stretch that is recomputed itself (`remade`) counts its last output if that is read; a `proper` one
        must not be one segment as a whole, because it is the inside of a segment.
        """
        if not stretch:
            return (_Stretch(),)
        first, found = kinds[stretch[0]], []
        for plan in first.plans:
            held, then = _step(first, plan.net, start, counted=remade or len(stretch) > 1)
            for rest in solve(stretch[1:], then, remade, False):
                kept, peak = held + plan.kept + rest.kept, held + max(plan.peak, plan.kept + rest.peak)
                layers, segments = (plan.net, *rest.layers), _shifted(rest.segments, 1)
                found.append(_Stretch(kept, peak, plan.flops + rest.flops, layers, segments))
        held = first.x if start == "open" else 0
        for stop in range(1, len(stretch) + (not proper)):
            again = _again([kinds[i] for i in stretch[:stop]])
            inners = solve(stretch[:stop], "held", True, True)
            rests = solve(stretch[stop:], "open", remade, False)
            for inner, rest in (_pairs if whole or remade else product)(inners, rests):
                kept, peak = held + rest.kept, held + max(inner.peak, rest.peak)
                segments = Segment(0, stop, inner.segments), *_shifted(rest.segments, stop)
                flops = again + inner.flops + rest.flops
                found.append(_Stretch(kept, peak, flops, inner.layers + rest.layers, segments))
        return best(found, whole or remade)

    plans = solve(tuple(kinds.index(stage) for stage in stages), "held", False, False)

    return tuple(
        Plan(kept, peak, flops, chain.with_layers(*layers).with_plan(segments))
        for kept, peak, flops, layers, segments in plans
    )


def _stage(layer: Layer, params: Any, x: Any, plans_of: PlansOf) -> _Stage:
    y, extras = jax.eval_shape(lambda p, x: run(layer, p, x, None), params, x)
    forward, again = product_flops(layer, params, x), residual_flops(layer, params, x)
    reads = bool(layer.needs or jax.tree.leaves(extras))
    return _Stage(plans_of(layer, params, x), layer.needs, bytes_of(x), bytes_of(y), forward, again, reads)


def _step(stage: _Stage, layer: Layer, start: Start, counted: bool) -> tuple[int, Start]:
    """Return the bytes of the boundaries that a layer makes a chain keep, and the start that its output is.

    As in `serial.kept_boundaries`: cheap layers start only from a boundary that a layer reads, held or not.
    """
    held, reached = 0, start == "reached"
    if "input" in layer.needs and not reached:
        held, reached = stage.x * (start == "open"), True
    reached = rebuilds(layer) or (reached and layer.cheap)
    if "output" in layer.needs and not reached:
        held, reached = held + stage.y * counted, True
    return held, "reached" if reached else "open"


def _again(stages: list[_Stage]) -> int:
    """Count the flops to recompute a stretch's residuals, which need not depend on its last products."""
    total, read = 0, False
    for stage in reversed(stages):
        total += stage.forward if read else stage.again
        read = read or stage.reads
    return total


def _pairs(first: tuple[_Stretch, ...], second: tuple[_Stretch, ...]) -> Iterable[tuple[_Stretch, _Stretch]]:
    """Pair the plans of two lists: for each bound on both peaks, by rising peak, the two of fewest flops."""
    for peak in sorted({plan.peak for plan in (*first, *second)}):
        fitting = [[plan for plan in plans if plan.peak <= peak] for plans in (first, second)]
        if all(fitting):
            yield fitting[0][-1], fitting[1][-1]


def _shifted(segments: tuple[Segment, ...], by: int) -> tuple[Segment, ...]:
    return tuple(Segment(start + by, stop + by, plan) for start, stop, plan in segments)
