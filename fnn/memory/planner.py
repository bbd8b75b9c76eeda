"""Plans of what a network keeps: the least recomputation for each number of bytes, by dynamic programming.

A plan says which stretches of a network are recomputed in the backward. Every part of a network has a list of
its best plans, none of which is better than another in all of

    kept     bytes that the forward returns in the part, its own input and output not counted
    peak     the most bytes of residuals alive while the part's backward runs, recomputed ones included
    flops    the flops of the matrix products that are recomputed

and the list of a composition follows from the lists of its parts.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import jax

from fnn.arrays import bytes_of, shapes_of
from fnn.compose.repeat import Repeat
from fnn.compose.serial import Serial
from fnn.contract import run
from fnn.core import Composition, Layer, init
from fnn.errors import InputError, check_size
from fnn.flops import product_flops
from fnn.memory.chains import Plan, best, of_chain
from fnn.memory.timeline import timeline_of


def fit(net: Layer, x: Any, budget: int) -> Layer:
    """Return the network with the plan that recomputes least within a budget of residuals.

    Counted are the residuals that are alive at the same time: those that `forward` returns, `x` among them if
    it is kept, and those that a segment makes while it is recomputed. Cotangents and the values inside one
    layer are not counted; `fnn.memory.report` shows them.

    Args:
        net: the network, any layer.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.
        budget: the most bytes of residuals, an integer > 0.

    Returns:
        a network with the params, values and noise of `net`, and with its gradients up to rounding. It is
        `net` itself where that fits.

    Raises:
        InputError: where no plan fits; the message says how many bytes the smallest plan needs.

    >>> import fnn
    >>> net, x = fnn.Repeat(fnn.Skip(fnn.Dense(4)), 9), jax.ShapeDtypeStruct((8, 4), "float32")
    >>> fit(net, x, budget=1000).every
    3
    """
    check_size("fit", "budget", budget, "fnn.memory.fit(net, x, 2**30)")
    found = plans(net, x)
    fitting = [plan for plan in found if plan.peak <= budget]
    if not fitting:
        least = found[0].peak
        wanted = f"a budget of at least {least} bytes"
        raise InputError("fit", wanted, repr(budget), f"fnn.memory.fit(net, x, {least})")
    return fitting[-1].net


def plans(net: Layer, x: Any) -> tuple[Plan, ...]:
    """List the best plans of a network, from the fewest bytes of residuals to the fewest recomputed flops.

    Args:
        net: the network, any layer.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.

    Returns:
        plans, each with the network `net`, `peak` bytes and recomputed `flops`. No plan needs fewer bytes for
        as many flops. The last is `net` as it is. The one before may have 0 flops too, as they are those of
        matrix products and convolutions alone: to recompute a norm has none.

    Cost: polynomial in the number of different layers, about a second for 30 of them.

    >>> import fnn
    >>> net, x = fnn.Repeat(fnn.Skip(fnn.Dense(4)), 9), jax.ShapeDtypeStruct((8, 4), "float32")
    >>> [(plan.peak, plan.flops) for plan in plans(net, x)]
    [(768, 2304), (1152, 0)]
    """
    x = shapes_of("plans", x)
    params = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    y, extras = jax.eval_shape(lambda p, x: run(net, p, x, None), params, x)

    def ends(planned: Layer) -> int:
        return bytes_of(x) * ("input" in planned.needs) + bytes_of(y) * ("output" in planned.needs)

    found = []
    for kept, peak, flops, planned in _plans(net, params, x, whole=True):
        found.append(Plan(kept + ends(planned), peak + ends(planned), flops, planned))
    kept = bytes_of(extras) + ends(net)
    peak = max((moment.residuals for moment in timeline_of(net, params, x, kept)), default=kept)
    better = tuple(plan for plan in best(found, whole=True) if plan.peak < peak)
    return (*better, Plan(kept, peak, 0, net))


def _plans(layer: Layer, params: Any, x: Any, whole: bool = False) -> tuple[Plan, ...]:
    """Return the best plans of a layer for an input of this shape."""
    if isinstance(layer, Serial):
        return of_chain(layer, params, x, whole, _plans)
    if isinstance(layer, Repeat):
        return _of_repeat(layer, params, x)
    if isinstance(layer, Composition):
        return _of_parts(layer, params, x)
    return (_as_it_is(layer, params, x),)


def _as_it_is(layer: Layer, params: Any, x: Any) -> Plan:
    _, extras = jax.eval_shape(lambda p, x: run(layer, p, x, None), params, x)
    return Plan(bytes_of(extras), bytes_of(extras), 0, layer)


def _of_parts(layer: Composition, params: Any, x: Any) -> tuple[Plan, ...]:
    """Plan each part by itself; what the composition keeps for such layers is taken from its forward."""
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
                y, _ = jax.eval_shape(lambda p, x, f=part.layer: run(f, p, x, None), part.params, part.x)
                needs = part.layer.needs
                ends = bytes_of(y) * ("output" in needs) + bytes_of(part.x) * (
                    "input" in needs and part.takes != "input"
                )
                peaks.append(kept + plan.peak + ends)
            else:
                peaks.append(kept - plan.kept + plan.peak)
        again = sum(plan.flops * part.times for plan, part in zip(choice, parts, strict=True))
        found.append(Plan(kept, max(kept, *peaks), again, net))
    return best(found)


def _of_repeat(layer: Repeat, params: Any, x: Any) -> tuple[Plan, ...]:
    """Plan a loop that keeps every boundary, or every k-th and recomputes the k uses after it at once."""
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
    return best(found)
