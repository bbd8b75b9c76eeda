"""What a training step of a network takes, in bytes: by shapes alone, and by the compiler's own count."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax

from fnn.compose.branches import Parallel, Skip
from fnn.compose.recomputed import Recomputed
from fnn.compose.repeat import Repeat, keeps_boundaries
from fnn.compose.reversible import Reversible
from fnn.compose.serial import Serial
from fnn.core import Layer, Params, backward, forward, init
from fnn.describe.summary import Summary, bytes_of, summary
from fnn.errors import InputError, describe
from fnn.plan.targets import Compiled, compiled_for


@dataclass(frozen=True)
class Moment:
    """One layer's turn: the residuals that are alive, and the values or cotangents that pass through it."""

    place: str
    part: str  # "forward", "again" or "backward"
    residuals: int
    passing: int


@dataclass(frozen=True)
class Memory:
    """The bytes of a training step; `print` shows them as a table.

    `residuals` are what the forward leaves, `summary` lists them by layer. `transients` are what comes on top
    of these at the worst moment: residuals that are made again and the values on their way.
    """

    params: int
    gradients: int
    optimizer: int
    residuals: int
    transients: int
    summary: Summary
    timeline: tuple[Moment, ...]
    compiled: Compiled | None

    @property
    def peak(self) -> int:
        """The most bytes of residuals that are alive at a time, those made again included."""
        return max((moment.residuals for moment in self.timeline), default=0)

    def __str__(self) -> str:
        rows = [(name, getattr(self, name)) for name in PARTS]
        if self.compiled:
            rows += [(f"compiled: {name}", value) for name, value in self.compiled._asdict().items()]
        width = max(len(name) for name, _ in rows)
        table = "\n".join(f"{name:{width}}  {value:15,}" for name, value in rows)
        return f"{self.summary}\n\n{table}"


PARTS = ("params", "gradients", "optimizer", "residuals", "transients")


def memory(
    net: Layer, params: Params, x: Any, optimizer: Any = None, target: str | None = None, key: Any = None
) -> Memory:
    """Count the bytes of a training step of `net`.

    `params` are the params or their shapes (None: what `init` makes), `x` an input or its shape, (..., k),
    `optimizer` an `optax.GradientTransformation`, `key` one if dropout is to draw. By shapes alone: nothing
    is computed, and `residuals` equals the bytes of what `forward` gives. `target` compiles the step
    (forward, backward from a given `dy`, update with params and state donated) for "here", "h100" or a TPU
    topology such as "v5e:2x2", neither of which has to be there, and gives the compiler's count beside.
    Raises InputError where the params are another network's, or the target's compiler is not installed.

    >>> import jax.numpy as jnp
    >>> from fnn.compose.networks import mlp
    >>> x = jax.ShapeDtypeStruct((100, 64), jnp.float32)
    >>> found = memory(mlp([64, 32, 10]), None, x)
    >>> found.params, found.residuals, found.transients
    (9640, 38400, 25600)
    """
    x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    made = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    params = made if params is None else jax.eval_shape(lambda: params)
    if jax.tree.map(lambda leaf: leaf.shape, params) != jax.tree.map(lambda leaf: leaf.shape, made):
        raise InputError("memory", f"params like {describe(made)}", describe(params), "fnn.init(net, key, x)")
    y, residuals = jax.eval_shape(lambda params, x: forward(net, params, x, key), params, x)
    kept, steps = bytes_of(residuals), _steps(net, params, x, "")
    timeline = tuple(_timeline(steps, kept - sum(step.kept for step in steps)))  # both ends, and keys
    state = () if optimizer is None else jax.eval_shape(optimizer.init, params)
    compiled = None
    if target is not None:
        compiled = compiled_for(target, _training_step(net, optimizer), params, state, x, y, donate=(0, 1))
    return Memory(
        bytes_of(params),
        bytes_of(params),
        bytes_of(state),
        kept,
        max((moment.residuals + moment.passing for moment in timeline), default=kept) - kept,
        summary(net, x, key),
        timeline,
        compiled,
    )


def _training_step(net: Layer, optimizer: Any) -> Any:
    def step(params: Any, state: Any, x: Any, dy: Any) -> tuple[Any, Any]:
        _, residuals = forward(net, params, x)
        grads, _ = backward(net, params, residuals, dy)
        if optimizer is None:
            return jax.tree.map(lambda p, g: p - g, params, grads), state
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, updates), state

    return step


@dataclass
class _Step:
    """A layer's turn: the bytes that it makes the forward keep, those of its input and output."""

    place: str
    kept: int
    x: int
    y: int
    again: tuple["_Step", ...] = ()  # what is run again before the backward, and kept until its end


def _steps(layer: Any, params: Any, x: Any, place: str) -> list[_Step]:
    """List the layers' turns in the order in which they run."""
    y, extras = jax.eval_shape(lambda params, x: layer.forward(params, x, None), params, x)
    if not hasattr(layer, "parts"):
        return [_Step(place, bytes_of(extras), bytes_of(x), bytes_of(y))]
    parts = [
        (part, shape, _steps(part, own, shape, place + label))
        for label, part, own, shape in layer.parts(params, x)
    ]
    if isinstance(layer, Recomputed | Reversible):
        for part, shape, steps in parts:  # the ends of what is run again; a segment's input is held outside
            steps[0].kept += bytes_of(shape) * (isinstance(layer, Reversible) and "input" in part.needs)
            steps[-1].kept += steps[-1].y * ("output" in part.needs)
        return [_Step(place, 0, steps[0].x, steps[-1].y, tuple(steps)) for *_, steps in parts]
    for i, (part, shape, steps) in enumerate(parts):
        match layer:  # what the composition keeps for the part: its input, or its output
            case Serial():
                steps[0].kept += bytes_of(shape) * (0 < i and i in layer.kept)
            case Skip() | Parallel(join="sum"):
                steps[-1].kept += bytes_of(y) * ("output" in part.needs)
            case Repeat():
                steps[0].kept += bytes_of(shape) * keeps_boundaries(part)
    turns = layer.n if isinstance(layer, Repeat) and layer.every == 1 else 1
    return [replace(step) for _ in range(turns) for *_, steps in parts for step in steps]


def _timeline(steps: list[_Step], alive: int) -> Iterator[Moment]:
    """Run forward, then backward, freeing what a layer had kept after its backward."""
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
