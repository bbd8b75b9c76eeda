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

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import jax

from fnn.compose.branches import Parallel, Skip
from fnn.compose.recomputed import Recomputed, rebuilds
from fnn.compose.repeat import Repeat, keeps_boundaries
from fnn.compose.reversible import Reversible
from fnn.compose.serial import Segment, Serial
from fnn.core import Layer, init
from fnn.describe.summary import bytes_of, product_flops
from fnn.errors import InputError, check_size

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
    again: int  # the flops by which its residuals, but not its output, are made again


class _Chain(NamedTuple):
    """The plan of a chain: its layers under their plans, and its segments."""

    layers: tuple[Layer, ...] = ()
    segments: tuple[Segment, ...] = ()


def fit_memory(net: Layer, x: Any, budget: int) -> Layer:
    """Give the same network with the plan that recomputes least within `budget` bytes of residuals.

    `x` is the input or a `jax.ShapeDtypeStruct` of it, (..., k). Counted are the residuals that are alive at
    the same time: those that `forward` gives, `x` among them if it is kept, and while a segment is run
    again in the backward those that it makes. (Cotangents and what one layer works with come on top:
    `fnn.memory` shows them.) Params, values, noise and gradients are those of `net`. Raises InputError where
    no plan fits; it says how many bytes the least takes.
    """
    check_size("fit_memory", "budget", budget)
    plans = memory_plans(net, x)
    fitting = [plan for plan in plans if plan.peak <= budget]
    if not fitting:
        least = plans[0].peak
        wanted = f"a budget of at least {least} bytes"
        raise InputError("fit_memory", wanted, repr(budget), f"fnn.fit_memory(net, x, {least})")
    return fitting[-1].net


def memory_plans(net: Layer, x: Any) -> tuple[Plan, ...]:
    """Give the best plans of `net`, from the fewest bytes of residuals to the fewest flops run again.

    Arguments as for `fit_memory`. Each plan has the network, `peak` bytes and `flops`; no plan takes fewer
    bytes for as many flops. The last is `net` as it is. Cost: polynomial in the number of unlike layers,
    about a second for 30 of them.
    """
    x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    params = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    y, _ = jax.eval_shape(lambda p, x: net.forward(p, x, None), params, x)
    found = []
    for kept, peak, flops, planned in _plans(net, params, x, whole=True):
        ends = bytes_of(x) * ("input" in planned.needs) + bytes_of(y) * ("output" in planned.needs)
        found.append(Plan(kept + ends, peak + ends, flops, planned))
    return _best(found, whole=True)


def _best(plans: Iterable[Plan], whole: bool = False) -> tuple[Plan, ...]:
    """Keep the plans that no other beats, by rising peak; of a whole network, what is kept is no matter."""
    found: list[Plan] = []
    for plan in sorted(plans, key=lambda plan: (plan.peak, plan.flops, plan.kept)):
        rivals = found[-1:] if whole else found
        if not any(p.flops <= plan.flops and (whole or p.kept <= plan.kept) for p in rivals):
            found.append(plan)
    return tuple(found)


def _plans(layer: Any, params: Any, x: Any, whole: bool = False) -> tuple[Plan, ...]:
    """Give the best plans of a layer for an input of this shape."""
    match layer:
        case Serial():
            return _of_chain(layer, params, x, whole)
        case Repeat():
            return _of_repeat(layer, params, x)
        case Skip():
            held = _held(layer.layer, params, x)
            return tuple(
                Plan(kept + held(inner), peak + held(inner), flops, replace(layer, layer=inner))
                for kept, peak, flops, inner in _plans(layer.layer, params, x)
            )
        case Parallel():
            return _of_branches(layer, params, x)
        case Recomputed():
            made = _remade(layer.layer, params, x, 0)
            return _best(Plan(0, peak, flops, replace(layer, layer=inner)) for peak, flops, inner in made)
        case Reversible():
            halves = [
                _remade(part, own, half, bytes_of(half)) for _, part, own, half in layer.parts(params, x)
            ]
            return _best(
                Plan(0, max(f[0], g[0]), f[1] + g[1], Reversible(f[2], g[2])) for f, g in product(*halves)
            )
    _, extras = jax.eval_shape(lambda p, x: layer.forward(p, x, None), params, x)
    return (Plan(bytes_of(extras), bytes_of(extras), 0, layer),)


def _held(layer: Any, params: Any, x: Any) -> Callable[[Any], int]:
    """Give what a composition that keeps its layer's output holds: the bytes, for a plan that reads it."""
    y, _ = jax.eval_shape(lambda p, x: layer.forward(p, x, None), params, x)
    return lambda planned: bytes_of(y) if "output" in planned.needs else 0


def _remade(layer: Any, params: Any, x: Any, read: int) -> list[tuple[int, int, Layer]]:
    """Give the peak, flops and layer of each plan, where the layer's residuals, its ends too, are remade.

    `read` are the bytes of the input, if that is remade as well.
    """
    held = _held(layer, params, x)
    return [
        (plan.peak + held(plan.net) + read * ("input" in plan.net.needs), plan.flops, plan.net)
        for plan in _plans(layer, params, x)
    ]


def _of_branches(layer: Parallel, params: Any, x: Any) -> tuple[Plan, ...]:
    branches = []
    for branch, own in zip(layer.layers, params, strict=True):
        held = _held(branch, own, x) if layer.join == "sum" else lambda planned: 0
        branches.append([
            Plan(kept + held(inner), peak + held(inner), flops, inner)
            for kept, peak, flops, inner in _plans(branch, own, x)
        ])  # fmt: skip
    found = []
    for plans in product(*branches):
        kept = sum(plan.kept for plan in plans)
        peak = max(kept - plan.kept + plan.peak for plan in plans)
        net = Parallel(*(plan.net for plan in plans), join=layer.join)
        found.append(Plan(kept, peak, sum(plan.flops for plan in plans), net))
    return _best(found)


def _of_repeat(layer: Repeat, params: Any, x: Any) -> tuple[Plan, ...]:
    """Every boundary, or every k-th one: then k uses are alive at a time, remade."""
    ((_, inner, own, _),) = replace(layer, every=1).parts(params, x)
    once, n, found = product_flops(inner, own, x), layer.n, []
    for plan in _plans(inner, own, x):
        use = plan.kept + bytes_of(x) * keeps_boundaries(plan.net)
        last = bytes_of(x) * ("output" in replace(layer, layer=plan.net, every=1).needs)  # of a segment
        for every in range(1, n + 1):
            if layer.shared and n % every:
                continue
            net = replace(layer, layer=plan.net, every=every)
            if every == 1:
                kept = alive = n * use
            else:
                whole, rest = divmod(n, every)
                kept = (whole + bool(rest)) * bytes_of(x)
                alive = last + max(whole * bytes_of(x) + every * use, kept + rest * use)
            again = (every > 1) * n * once
            found.append(Plan(kept, alive - plan.kept + plan.peak, again + n * plan.flops, net))
    return _best(found)


def _of_chain(chain: Serial, params: Any, x: Any, whole: bool) -> tuple[Plan, ...]:
    """Recur over the stretches of a chain; equal stretches are solved once."""
    stages = [_stage(layer, own, shape) for _, layer, own, shape in Serial(*chain.layers).parts(params, x)]
    kinds = list(dict.fromkeys(stages))

    @cache
    def solve(stretch: tuple[int, ...], start: Start, remade: bool, proper: bool) -> tuple[Plan, ...]:
        """Give the plans of a stretch of the chain.

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


def _stage(layer: Any, params: Any, x: Any) -> _Stage:
    y, _ = jax.eval_shape(lambda p, x: layer.forward(p, x, None), params, x)
    forward, again = product_flops(layer, params, x), _residual_flops(layer, params, x)
    return _Stage(_plans(layer, params, x), layer.needs, bytes_of(x), bytes_of(y), forward, again)


def _step(stage: _Stage, layer: Any, start: Start, counted: bool) -> tuple[int, Start]:
    """Give the bytes of the boundaries that a layer makes a chain keep, and how its output is to be had.

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
        read = read or bool(stage.needs)
    return total


def _residual_flops(layer: Any, params: Any, x: Any) -> int:
    """Count the flops by which a layer's residuals are made, without its output if that is not read."""
    match layer:
        case Serial():
            return _again([_stage(part, own, shape) for _, part, own, shape in layer.parts(params, x)])
        case Skip() | Parallel():
            return sum(_residual_flops(part, own, shape) for _, part, own, shape in layer.parts(params, x))
        case Recomputed():
            return 0
        case Repeat():
            return product_flops(layer, params, x)
    return product_flops(layer, params, x) if "output" in layer.needs else 0


def _pairs(first: tuple[Plan, ...], second: tuple[Plan, ...]) -> Iterable[tuple[Plan, Plan]]:
    """Pair the plans of two lists by rising peak, for each bound on both the two of fewest flops."""
    for peak in sorted({plan.peak for plan in (*first, *second)}):
        fitting = [[plan for plan in plans if plan.peak <= peak] for plans in (first, second)]
        if all(fitting):
            yield fitting[0][-1], fitting[1][-1]


def _shifted(segments: tuple[Segment, ...], by: int) -> tuple[Segment, ...]:
    return tuple(Segment(start + by, stop + by, plan) for start, stop, plan in segments)
