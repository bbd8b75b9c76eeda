"""The residuals that are alive in each layer's turn of a training step, from shapes alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax

from fnn.arrays import bytes_of
from fnn.contract import run
from fnn.core import Composition, Layer, Params


class Moment(NamedTuple):
    """One turn of a layer in a training step.

    Args:
        place: the layer's place in the network.
        turn: "forward", "backward", or "again" where its forward is run again.
        residuals: the bytes of the residuals that are alive.
        passing: the bytes of the values or cotangents that pass through the layer.
    """

    place: str
    turn: Literal["forward", "again", "backward"]
    residuals: int
    passing: int


@dataclass
class _Step:
    """A layer's turn: the bytes that it makes the forward keep, and those of its input and output."""

    place: str
    kept: int
    x: int
    y: int
    again: tuple["_Step", ...] = ()  # what is run again before the backward, and kept until its end


def timeline_of(net: Layer, params: Params, x: Any, kept: int) -> tuple[Moment, ...]:
    """List the turns of the layers in a forward pass and its backward.

    Args:
        net: the network, any layer.
        params: its params or their shapes.
        x: the shape of its input, a `jax.ShapeDtypeStruct` (n, ..., k).
        kept: the bytes of residuals that the forward returns.

    Returns:
        a `Moment` for each turn, in the order in which they run.
    """
    steps = _steps("", net, params, x)
    alive = kept - sum(step.kept for step in steps)  # both ends, and keys
    return tuple(_forward(steps, alive))


def _steps(place: str, layer: Layer, params: Params, x: Any) -> list[_Step]:
    """List the turns of the layers in the order in which they run."""
    if not isinstance(layer, Composition):
        y, extras = jax.eval_shape(lambda params, x: run(layer, params, x, None), params, x)
        return [_Step(place, bytes_of(extras), bytes_of(x), bytes_of(y))]
    found = []
    for part in layer.parts(params, x):
        steps = _steps(place + part.place, part.layer, part.params, part.x)
        if not steps:
            continue
        if (
            part.again
        ):  # the ends of what is run again; an input that is the composition's own is held outside
            steps[0].kept += steps[0].x * ("input" in part.layer.needs and part.takes != "input")
            steps[-1].kept += steps[-1].y * ("output" in part.layer.needs)
            steps = [_Step(place, 0, steps[0].x, steps[-1].y, tuple(steps))]
        steps[0].kept += bytes_of(part.x) * ("input" in part.keeps)
        steps[-1].kept += steps[-1].y * ("output" in part.keeps)
        found += [replace(step) for _ in range(part.times) for step in steps]
    return found


def _forward(steps: list[_Step], alive: int) -> Iterator[Moment]:
    """Run forward, then backward, and free what a layer had kept after its backward."""
    for step in steps:
        alive += step.kept
        yield Moment(step.place, "forward", alive, step.y)
    yield from _back(steps, alive)


def _back(steps: list[_Step] | tuple[_Step, ...], alive: int) -> Iterator[Moment]:
    for step in reversed(steps):
        made = alive
        for other in step.again:
            made += other.kept
            yield Moment(other.place, "again", made, step.y + other.y)
        yield from _back(step.again, made)
        yield Moment(step.place, "backward", alive, step.x + step.y)
        alive -= step.kept
