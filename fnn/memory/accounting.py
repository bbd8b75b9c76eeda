"""The bytes of a training step: from shapes alone, and as the compiler counts them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from fnn.arrays import bytes_of, shapes_of
from fnn.core import Layer, Params, backward, forward, init
from fnn.describe.summary import Summary, summary
from fnn.errors import InputError, describe
from fnn.memory.timeline import Moment, timeline_of

if TYPE_CHECKING:
    from fnn.memory.collectives import PerDevice


class Compiled(NamedTuple):
    """The compiler's count, in bytes, of one call of a program.

    Args:
        arguments: the arguments.
        outputs: the outputs.
        aliased: the outputs that reuse the buffers of donated arguments.
        temporaries: everything else.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int

    @property
    def total(self) -> int:
        """The most bytes alive: arguments, temporaries, and outputs that have a buffer of their own."""
        return self.arguments + self.outputs - self.aliased + self.temporaries


@dataclass(frozen=True)
class Memory:
    """The bytes of a training step; `print` shows them as a table.

    Args:
        params: the bytes of the params.
        gradients: the bytes of the gradients.
        optimizer: the bytes of the optimizer's state.
        residuals: the bytes of the residuals that the forward returns.
        transients: the most bytes that are alive beside these: recomputed residuals, and the values or
            cotangents of one layer.
        summary: the `Summary` that lists the residuals by layer.
        timeline: a `Moment` for each turn of a layer.
        compiled: the compiler's count, or None where no target was given; on a mesh that for one device.
        per_device: a `PerDevice`, what one device of a mesh has, and what the devices exchange; None where no
            shardings were given.

    >>> import fnn
    >>> report(fnn.Dense(3), None, jax.ShapeDtypeStruct((8, 4), "float32")).peak
    128
    """

    params: int
    gradients: int
    optimizer: int
    residuals: int
    transients: int
    summary: Summary
    timeline: tuple[Moment, ...]
    compiled: Compiled | None
    per_device: "PerDevice | None" = None

    @property
    def peak(self) -> int:
        """The most bytes of residuals that are alive at the same time, recomputed ones included."""
        return max((moment.residuals for moment in self.timeline), default=0)

    def __str__(self) -> str:
        rows = [(name, getattr(self, name)) for name in PARTS]
        if self.compiled:
            rows += [(f"compiled: {name}", value) for name, value in self.compiled._asdict().items()]
        width = max(len(name) for name, _ in rows)
        table = "\n".join(f"{name:{width}}  {value:15,}" for name, value in rows)
        return f"{self.summary}\n\n{table}" + (f"\n\n{self.per_device}" if self.per_device else "")


PARTS = ("params", "gradients", "optimizer", "residuals", "transients")


def report(
    net: Layer,
    params: Params,
    x: Any,
    optimizer: Any = None,
    target: str | None = None,
    key: Any = None,
    shardings: Any = None,
) -> Memory:
    """Count the bytes of a training step of `net`; no array is computed.

    Args:
        net: the network, any layer.
        params: the params or their shapes; None for those that `init` makes.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.
        optimizer: an `optax.GradientTransformation`, or None for plain gradient descent.
        target: None, or what to compile the step for: "here", "h100", or a TPU topology such as "v5e:2x2";
            the device need not be present. The step is forward, backward from a given `dy`, and update, with
            params and optimizer state donated.
        key: a random key, for a forward with dropout; None for none.
        shardings: a tree like the params with the sharding of each, as `fnn.train.shardings` returns it, for
            a report of one device of the mesh; with target "here" `x` has its sharding too, and the step's
            gradients and state lie like the params. None for one device.

    Returns:
        a `Memory`, in bytes; its `residuals` equal the bytes of the residuals of `forward`.

    Raises:
        InputError: where the params are another network's, or the target's compiler is not installed.

    >>> import jax.numpy as jnp
    >>> from fnn.compose.networks import mlp
    >>> x = jax.ShapeDtypeStruct((100, 64), jnp.float32)
    >>> found = report(mlp([64, 32, 10]), None, x)
    >>> found.params, found.residuals, found.transients
    (9640, 38400, 25600)
    """
    given, x = x, shapes_of("report", x)
    try:
        made = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    except InputError:  # a function without an init has params of its own
        if params is None:
            raise
        made = jax.eval_shape(lambda: params)
    params = made if params is None else jax.eval_shape(lambda: params)
    if jax.tree.map(lambda leaf: leaf.shape, params) != jax.tree.map(lambda leaf: leaf.shape, made):
        raise InputError("report", f"params like {describe(made)}", describe(params), "fnn.init(net, key, x)")
    y, residuals = jax.eval_shape(lambda params, x: forward(net, params, x, key), params, x)
    kept = bytes_of(residuals)
    timeline = timeline_of(net, params, x, kept)
    state = () if optimizer is None else jax.eval_shape(optimizer.init, params)
    compiled = per_device = None
    if shardings is not None:
        from fnn.memory.collectives import on_devices  # which is made of this file

        step = _training_step(net, optimizer)
        per_device = on_devices(step, params, state, given, y, shardings, target)
        compiled = per_device.compiled
    elif target is not None:
        from fnn.memory.targets import compiled_for  # it loads parts of JAX that are not public

        compiled = compiled_for(target, _training_step(net, optimizer), params, state, x, y, donate=(0, 1))
    return Memory(
        bytes_of(params),
        bytes_of(params),
        bytes_of(state),
        kept,
        max((moment.residuals + moment.passing for moment in timeline), default=kept) - kept,
        summary(net, x, key, params),
        timeline,
        compiled,
        per_device,
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
