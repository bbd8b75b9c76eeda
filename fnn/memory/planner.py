"""Choose what a network keeps: the least recomputation for each number of bytes, by dynamic programming.

A plan says which stretches of a network are run again in the backward. For every part of a network there is
a list of its best plans, none of which is better than another in all of

    kept     bytes that the forward leaves in the part, its own input and output not counted
    peak     the most bytes of residuals that are alive while the part's backward runs, remade ones included
    flops    the matrix products' flops of what is run again

and the list of a composition follows from the lists of its parts. For a chain this is the recursion of
Griewank and Walther (2000), for unequal layers that of Beaumont et al. (2019): a chain begins with a layer
that keeps what it needs, or with a segment that is run again, by a plan of its own; then comes the rest.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import jax

from fnn.arrays import bytes_of, shapes_of
from fnn.compose.repeat import Repeat
from fnn.compose.serial import Segment, Serial, rebuilds
from fnn.core import Composition, Layer, init
from fnn.errors import InputError, check_size
from fnn.flops import product_flops, residual_flops
from fnn.memory.timeline import timeline_of

Start = Literal["held", "reached", "open"]


class Plan(NamedTuple):
    """A network under a plan: bytes of residuals, flops of what is run again, and the network itself."""

    kept: int
    peak: int
    flops: int
    net: Any


class _Stage(NamedTuple):
    """A layer of a chain: its plans, the bytes of its input and output, the flops of its forward."""

    plans: tuple[Plan, ...]
    needs: frozenset[str]
    x: int
    y: int
    forward: int
    again: int  # the flops by which its residuals are made again, its output among them only if that is read
    reads: bool  # whether its residuals depend on its input


class _Chain(NamedTuple):
    """The plan of a chain: its layers under their plans, and its segments."""

    layers: tuple[Layer, ...] = ()
    segments: tuple[Segment, ...] = ()


def fit(net: Layer, x: Any, budget: int) -> Layer:
    """Return the same network with the plan that recomputes least within `budget` bytes of residuals.

    Args: `x`, the input or a `jax.ShapeDtypeStruct` of it, (..., k). Counted are the residuals that are alive at
    the same time: those that `forward` returns, `x` among them if it is kept, and while a segment is run
    again in the backward those that it makes. (Cotangents and what one layer works with come on top:
    `fnn.memory.report` shows them.)
    Returns: a network whose params, values and noise are those of `net`; its gradients are, up to rounding.
    It is `net` itself where that fits.
    Raises: InputError where no plan fits; it says how many bytes the least takes.
    """
    check_size("fnn.memory.fit", "budget", budget)
    found = plans(net, x)
    fitting = [plan for plan in found if plan.peak <= budget]
    if not fitting:
        least = found[0].peak
        wanted = f"a budget of at least {least} bytes"
        raise InputError("fit", wanted, repr(budget), f"fnn.memory.fit(net, x, {least})")
    return fitting[-1].net


def plans(net: Layer, x: Any) -> tuple[Plan, ...]:
    """List the best plans of `net`, from the fewest bytes of residuals to the fewest flops run again.

    Arguments as for `fit`. Each plan has the network, `peak` bytes and `flops`; no plan takes fewer bytes for as
    many flops. The last is `net` as it is. The one before it may run no flops again either: those are of matrix
    products and convolutions alone, and a norm that is run again costs none. Cost: polynomial in the number of
    unlike layers, about a second for 30 of them.
    """
    x = shapes_of("plans", x)
    params = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    y, extras = jax.eval_shape(lambda p, x: net.forward(p, x, None), params, x)

    def ends(planned: Layer) -> int:
        return bytes_of(x) * ("input" in planned.needs) + bytes_of(y) * ("output" in planned.needs)

    found = []
    for kept, peak, flops, planned in _plans(net, params, x, whole=True):
        found.append(Plan(kept + ends(planned), peak + ends(planned), flops, planned))
    kept = bytes_of(extras) + ends(net)
    peak = max((moment.residuals for moment in timeline_of(net, params, x, kept)), default=kept)
    better = tuple(plan for plan in _best(found, whole=True) if plan.peak < peak)
    return (*better, Plan(kept, peak, 0, net))


def _best(plans: Iterable[Plan], whole: bool = False) -> tuple[Plan, ...]:
    """Keep the plans that no other beats, by rising peak; of a whole network, what is kept is no matter."""
    found: list[Plan] = []
    for plan in sorted(plans, key=lambda plan: (plan.peak, plan.flops, plan.kept)):
        rivals = found[-1:] if whole else found
        if not any(p.flops <= plan.flops and (whole or p.kept <= plan.kept) for p in rivals):
            found.append(plan)
    return tuple(found)


def _plans(layer: Layer, params: Any, x: Any, whole: bool = False) -> tuple[Plan, ...]:
    """List the best plans of a layer for an input of this shape."""
    if isinstance(layer, Serial):
        return _of_chain(layer, params, x, whole)
    if isinstance(layer, Repeat):
        return _of_repeat(layer, params, x)
    if isinstance(layer, Composition):
        return _of_parts(layer, params, x)
    return (_as_it_is(layer, params, x),)


def _as_it_is(layer: Layer, params: Any, x: Any) -> Plan:
    _, extras = jax.eval_shape(lambda p, x: layer.forward(p, x, None), params, x)
    return Plan(bytes_of(extras), bytes_of(extras), 0, layer)


def _of_parts(layer: Composition, params: Any, x: Any) -> tuple[Plan, ...]:
    """Plan each part by itself; what the composition keeps for layers so planned, its forward says."""
    parts = layer.parts(params, x)
    if tuple(part.layer for part in parts) != layer.layers:
        return (_as_it_is(layer, params, x),)
    found = []
    for choice in product(*(_plans(part.layer, part.params, part.x) for part in parts)):
        net = layer.with_layers(*(plan.net for plan in choice))
        kept, peaks = _as_it_is(net, params, x).kept, [0]
        for plan, part in zip(choice, net.parts(params, x), strict=True):
            if (
                part.again
            ):  # its residuals are made again, ends too; an input of the composition's is held outside
                y, _ = jax.eval_shape(lambda p, x, f=part.layer: f.forward(p, x, None), part.params, part.x)
                needs = part.layer.needs
                ends = bytes_of(y) * ("output" in needs) + bytes_of(part.x) * (
                    "input" in needs and part.takes != "input"
                )
                peaks.append(kept + plan.peak + ends)
            else:
                peaks.append(kept - plan.kept + plan.peak)
        again = sum(plan.flops * part.times for plan, part in zip(choice, parts, strict=True))
        found.append(Plan(kept, max(kept, *peaks), again, net))
    return _best(found)


def _of_repeat(layer: Repeat, params: Any, x: Any) -> tuple[Plan, ...]:
    """Every boundary, or every k-th one: then k uses are alive at a time, remade."""
    (part,) = replace(layer, every=1).parts(params, x)
    once, n, found = product_flops(part.layer, part.params, x), layer.n, []
    for plan in _plans(part.layer, part.params, x):
        uses = Repeat(plan.net, n, layer.shared).uses
        use = plan.kept + bytes_of(x) * uses.keeps_boundaries
        last = bytes_of(x) * ("output" in uses.needs)  # of a segment
        for every in [k for k in range(1, n + 1) if n % k == 0]:
            net = replace(layer, layer=plan.net, every=every)
            if every == 1:
                kept = alive = n * use
            else:
                kept = n // every * bytes_of(x)
                alive = last + kept + every * use
            again = (every > 1) * n * once
            found.append(Plan(kept, alive - plan.kept + plan.peak, again + n * plan.flops, net))
    return _best(found)


def _of_chain(chain: Serial, params: Any, x: Any, whole: bool) -> tuple[Plan, ...]:
    """Recur over the stretches of a chain; equal stretches are solved once."""
    stages = [_stage(part.layer, part.params, part.x) for part in Serial(*chain.layers).parts(params, x)]
    kinds = list(dict.fromkeys(stages))

    @cache
    def solve(stretch: tuple[int, ...], start: Start, remade: bool, proper: bool) -> tuple[Plan, ...]:
        """Return the plans of a stretch of the chain.

        Its first boundary is "held" by whoever runs the chain, "reached" by cheap layers, or "open". A
        stretch that is itself `remade` counts its last output if that is read; a `proper` one is not a
        segment as a whole, being one already.
        """
        if not stretch:
            return (Plan(0, 0, 0, _Chain()),)
        first, found = kinds[stretch[0]], []
        for plan in first.plans:
            held, then = _step(first, plan.net, start, counted=remade or len(stretch) > 1)
            for rest in solve(stretch[1:], then, remade, False):
                kept, peak = held + plan.kept + rest.kept, held + max(plan.peak, plan.kept + rest.peak)
                net = _Chain((plan.net, *rest.net.layers), _shifted(rest.net.segments, 1))
                found.append(Plan(kept, peak, plan.flops + rest.flops, net))
        held = first.x if start == "open" else 0
        for stop in range(1, len(stretch) + (not proper)):
            again = _again([kinds[i] for i in stretch[:stop]])
            segments = solve(stretch[:stop], "held", True, True)
            rests = solve(stretch[stop:], "open", remade, False)
            for inner, rest in (_pairs if whole or remade else product)(segments, rests):
                kept, peak = held + rest.kept, held + max(inner.peak, rest.peak)
                segment = Segment(0, stop, inner.net.segments)
                net = _Chain(
                    inner.net.layers + rest.net.layers, (segment, *_shifted(rest.net.segments, stop))
                )
                found.append(Plan(kept, peak, again + inner.flops + rest.flops, net))
        return _best(found, whole or remade)

    plans = solve(tuple(kinds.index(stage) for stage in stages), "held", False, False)
    return tuple(plan._replace(net=Serial(*plan.net.layers, plan=plan.net.segments)) for plan in plans)


def _stage(layer: Layer, params: Any, x: Any) -> _Stage:
    y, extras = jax.eval_shape(lambda p, x: layer.forward(p, x, None), params, x)
    forward, again = product_flops(layer, params, x), residual_flops(layer, params, x)
    reads = bool(layer.needs or jax.tree.leaves(extras))
    return _Stage(_plans(layer, params, x), layer.needs, bytes_of(x), bytes_of(y), forward, again, reads)


def _step(stage: _Stage, layer: Any, start: Start, counted: bool) -> tuple[int, Start]:
    """Return the bytes of the boundaries that a layer makes a chain keep, and how its output is to be had.

    As in `serial.kept_boundaries`: a boundary that nobody reads is no start for cheap layers, held or not.
    """
    held, reached = 0, start == "reached"
    if "input" in layer.needs and not reached:
        held, reached = stage.x * (start == "open"), True
    reached = rebuilds(layer) or (reached and layer.cheap)
    if "output" in layer.needs and not reached:
        held, reached = held + stage.y * counted, True
    return held, "reached" if reached else "open"


def _again(stages: list[_Stage]) -> int:
    """Count the flops by which a stretch's residuals are made again; its last products may not be needed."""
    total, read = 0, False
    for stage in reversed(stages):
        total += stage.forward if read else stage.again
        read = read or stage.reads
    return total


def _pairs(first: tuple[Plan, ...], second: tuple[Plan, ...]) -> Iterable[tuple[Plan, Plan]]:
    """Pair the plans of two lists by rising peak, for each bound on both the two of fewest flops."""
    for peak in sorted({plan.peak for plan in (*first, *second)}):
        fitting = [[plan for plan in plans if plan.peak <= peak] for plans in (first, second)]
        if all(fitting):
            yield fitting[0][-1], fitting[1][-1]


def _shifted(segments: tuple[Segment, ...], by: int) -> tuple[Segment, ...]:
    return tuple(Segment(start + by, stop + by, plan) for start, stop, plan in segments)
