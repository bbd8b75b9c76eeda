"""What a stage does in a tick: forwards, backwards by halves or whole, on what it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import widened
from fnn.contract import run, sides
from fnn.core import Residuals, backward, forward, output, pull
from fnn.factors import is_factor
from fnn.pipeline.cut import Cut, Shares
from fnn.pipeline.slots import Sizes, Tick
from fnn.reader import as_factors, gradient
from fnn.reading import Stacked
from fnn.sharding import varying_like, zeros_like


class Held(NamedTuple):
    """What a stage holds, from tick to tick.

    Args:
        before: its inputs that arrived, in slots.
        after: the cotangents of its outputs that arrived, in slots; on the last stage its outputs.
        residuals: those of its loop, in slots.
        factors: those of its loop and the cotangent of its input, in slots.
        grads: the gradients so far, `Shares`.
        value: the value of the loss so far.
    """

    before: Any
    after: Any
    residuals: Any
    factors: Any
    grads: Any
    value: Any


class Sent(NamedTuple):
    """What leaves a stage in a tick, zeros where nothing does.

    Args:
        y: its output, to the stage behind.
        dx: the cotangent of its input, to the stage before.
    """

    y: Any
    dx: Any


@dataclass(frozen=True)
class Stage:
    """One stage, in a program that all stages run.

    Args:
        cut: the network in stages.
        params: the `Shares` of this stage.
        data: the input, the targets, the weights and the keys of all microbatches, (microbatches, ...).
        scale: what multiplies the loss's gradient, or None.
        number: the number of the stage, () integer.
        kinds: the kinds of operations, as they are numbered; the first is None, for a stage that waits.
    """

    cut: Cut
    params: Shares
    data: tuple[Any, Any, Any, Any]
    scale: Any
    number: Any
    kinds: tuple[str | None, ...]

    def empty(self, sizes: Sizes) -> tuple[Held, Sent]:
        """Return what the stage holds and sends before the first tick. Args: `sizes`, of the buffers."""
        x, y, residuals = jax.eval_shape(self._whole_forward)
        split = jax.eval_shape(partial(self._split, residuals=residuals, dy=y))
        buffers = [
            jax.tree.map(partial(self._slots, count), tree)
            for count, tree in zip(sizes, (x, y, residuals, split), strict=True)
        ]
        grads = jax.tree.map(lambda leaf: zeros_like(jax.eval_shape(widened, leaf)), self.params)
        value = jax.eval_shape(self._ended, y, 0)[0]
        sent = Sent(*(jax.tree.map(zeros_like, tree) for tree in (y, x)))
        return varying_like((Held(*buffers, grads, zeros_like(value)), sent), self.number)

    def run(self, held: Held, nothing: Sent, tick: Tick) -> tuple[Held, Sent]:
        """Do what a tick says.

        Args:
            held: what the stage holds.
            nothing: zeros.
            tick: what it does.
        """
        ways: dict[str | None, Callable[[], tuple[Held, Sent]]] = {
            None: lambda: (held, nothing),
            "F": lambda: self._forward(held, nothing, tick),
            "B": lambda: self._cotangent(held, nothing, tick),
            "W": lambda: self._weights(held, nothing, tick),
            "BW": lambda: self._backward(held, nothing, tick),
        }
        return lax.switch(tick.kind, [ways[kind] for kind in self.kinds])

    def _forward(self, held: Held, nothing: Sent, tick: Tick) -> tuple[Held, Sent]:
        m = tick.microbatch
        x = self._if_first(lambda: self._first(m), lambda: at(held.before, tick.before))
        y, residuals = self._loop(x, m)
        held = held._replace(residuals=put(held.residuals, tick.residuals, residuals))
        return held, nothing._replace(y=y)

    def _cotangent(self, held: Held, nothing: Sent, tick: Tick) -> tuple[Held, Sent]:
        held, dy = self._arrived(held, tick)
        factors, dx = self._split(at(held.residuals, tick.residuals), dy)
        held = held._replace(factors=put(held.factors, tick.factors, (factors, dx)))
        return held, nothing._replace(dx=dx)

    def _weights(self, held: Held, nothing: Sent, tick: Tick) -> tuple[Held, Sent]:
        factors, dx = at(held.factors, tick.factors)
        grads = jax.tree.map(gradient, factors, self.params.body, is_leaf=is_factor)
        return self._summed(held, tick, grads, dx), nothing

    def _backward(self, held: Held, nothing: Sent, tick: Tick) -> tuple[Held, Sent]:
        held, dy = self._arrived(held, tick)
        residuals = at(held.residuals, tick.residuals)
        grads, dx = backward(self.cut.body, self.params.body, residuals, dy)
        return self._summed(held, tick, grads, dx), nothing._replace(dx=dx)

    def _split(self, residuals: Residuals, dy: Any) -> tuple[Any, Any]:
        """Return the factors of the loop, and the cotangent of its input: a backward without its sums."""
        return backward(self.cut.body, self.params.body, residuals, dy, read=as_factors)

    def _arrived(self, held: Held, tick: Tick) -> tuple[Held, Any]:
        """Return the cotangent of the stage's output; the last stage runs what is behind it."""
        after, grads = at(held.after, tick.after), held.grads

        def ended() -> Any:
            value, dy, of_last, of_loss = self._ended(after, tick.microbatch)
            return held.value + value, added(grads.last, of_last), added(grads.loss, of_loss), dy

        def others() -> Any:
            return held.value, grads.last, grads.loss, after

        is_last = self.number == self.cut.stages - 1
        value, of_last, of_loss, dy = lax.cond(is_last, ended, others)
        return held._replace(value=value, grads=grads._replace(last=of_last, loss=of_loss)), dy

    def _summed(self, held: Held, tick: Tick, body: Any, dx: Any) -> Held:
        """Add gradients of the loop, and on the first stage those of what is before it."""
        grads, (x, _, _, keys) = held.grads, self.data
        of_first = grads.first
        if jax.tree.leaves(of_first):

            def begun() -> Any:
                m = tick.microbatch
                _, residuals = forward(self.cut.first, self.params.first, at(x, m), at(keys, m))
                return added(grads.first, backward(self.cut.first, self.params.first, residuals, dx)[0])

            of_first = self._if_first(begun, lambda: grads.first)
        return held._replace(grads=grads._replace(first=of_first, body=added(grads.body, body)))

    def _first(self, m: Any) -> Any:
        x, _, _, keys = self.data
        return output(self.cut.first, self.params.first, at(x, m), at(keys, m))

    def _ended(self, y: Any, m: Any) -> tuple[Any, Any, Any, Any]:
        """Run what is behind the loop, and the loss, forwards and backwards."""
        _, targets, weights, keys = self.data
        params, last = self.params, self.cut.last
        out, residuals = forward(last, params.last, y, at(keys, m))
        with jax.named_scope("loss"):
            value, dout, of_loss = self.cut.loss.pull(
                params.loss, out, at(targets, m), at(weights, m), Stacked(gradient, (params.loss,)), self.scale
            )
        of_last, dy = pull(last, params.last, *residuals, dout, Stacked(gradient, (params.last,)))
        return value, dy, of_last, of_loss

    def _whole_forward(self) -> tuple[Any, Any, Any]:
        x = self._first(0)
        return x, *self._loop(x, 0)

    def _loop(self, x: Any, m: Any) -> tuple[Any, Residuals]:
        """Run the loop forwards, each layer with its own key."""
        body = self.cut.body
        y, extras = run(body, self.params.body, x, self.cut.keys(at(self.data[3], m), self.number))
        return y, Residuals(*sides(body, x, y), extras)

    def _if_first(self, first: Callable[[], Any], others: Callable[[], Any]) -> Any:
        return lax.cond(self.number == 0, first, others)

    def _slots(self, count: int, leaf: Any) -> Any:
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        one = jax.tree.leaves(self.data[3])[0][0] if keys else zeros_like(leaf)
        return jnp.broadcast_to(one, (count, *leaf.shape))


def at(slots: Any, i: Any) -> Any:
    """Return one entry of arrays along axis 0. Args: `slots`, a tree of arrays; `i`, its number."""
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, i, keepdims=False), slots)


def put(slots: Any, i: Any, tree: Any) -> Any:
    """Return arrays with another entry along axis 0; where the number is negative, as they are.

    Args:
        slots: a tree of arrays.
        i: the number of the entry.
        tree: the entry.
    """

    slot = jnp.maximum(i, 0)
    kept = jax.tree.map(lambda old, new: jnp.where(i < 0, old, new), at(slots, slot), tree)
    return jax.tree.map(lambda leaf, new: lax.dynamic_update_index_in_dim(leaf, new, slot, 0), slots, kept)


def added(total: Any, grads: Any) -> Any:
    """Add gradients in the dtype of the total. Args: `total`, a tree of arrays; `grads`, one like it."""
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, grads)
