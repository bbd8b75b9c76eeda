"""What a stage does in a tick: forwards, backwards by halves or whole, on what it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from fnn.arrays import widened
from fnn.contract import run, sides
from fnn.core import Residuals, backward, forward, output, pull
from fnn.factors import Factor, is_factor
from fnn.pipeline.cut import Cut, Shares
from fnn.pipeline.slots import Sizes, Tick
from fnn.reader import Reader, gradient
from fnn.reading import Stacked
from fnn.sharding import varying_like, zeros_like


def _pairs(factor: Factor | Array, param: Any) -> Any:
    """Return the pair of a weight; of a vector, which takes no product, the gradient, which is smaller."""
    return factor if isinstance(factor, Factor) and factor.rank > 1 else gradient(factor, param)


PAIRS: Reader = Reader(_pairs, plain=False)


class Held(NamedTuple):
    """What a stage holds, from tick to tick.

    Args:
        before: its inputs that arrived, in slots.
        after: the cotangents of its outputs that arrived, in slots; on the last stage its outputs.
        residuals: those of its loop, in slots.
        factors: what the gradients of its loop are made of, and the cotangent of its input, in slots.
        grads: the gradients so far, `Shares`.
        value: the value of the loss so far.
        y: its last output, for the stage behind.
        dx: the last cotangent of its input, for the stage before.
    """

    before: Any
    after: Any
    residuals: Any
    factors: Any
    grads: Any
    value: Any
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
    """

    cut: Cut
    params: Shares
    data: tuple[Any, Any, Any, Any]
    scale: Any
    number: Any

    def empty(self, sizes: Sizes) -> Held:
        """Return what the stage holds before the first tick. Args: `sizes`, of the buffers."""
        x, y, residuals, split, value = self._once_through()
        buffers = [
            jax.tree.map(partial(self._slots, count), tree)
            for count, tree in zip(sizes, (x, y, residuals, split), strict=True)
        ]
        grads = jax.tree.map(lambda leaf: zeros_like(widened(leaf)), self.params)
        y, dx, value = (jax.tree.map(zeros_like, tree) for tree in (y, x, value))
        before, after, residuals, factors = buffers
        return varying_like(Held(before, after, residuals, factors, grads, value, y, dx), self.number)

    def run(self, held: Held, tick: Tick, kinds: tuple[str | None, ...]) -> Held:
        """Do what a tick says.

        Args:
            held: what the stage holds.
            tick: what it does.
            kinds: the kinds of operations, as they are numbered.
        """
        ways: dict[str | None, Callable[[Tick, Held], Held]] = {
            "F": self._forward,
            "B": self._cotangent,
            "W": self._weights,
            "BW": self._backward,
        }
        for number, kind in enumerate(kinds):
            if kind is not None:
                held = once(tick.kind == number, partial(ways[kind], tick), held)
        return held

    def _forward(self, tick: Tick, held: Held) -> Held:
        m = tick.microbatch
        x = once(self.number == 0, lambda _: self._first(m), at(held.before, tick.before))
        y, residuals = self._loop(x, m)
        return held._replace(residuals=put(held.residuals, tick.residuals, residuals), y=y)

    def _cotangent(self, tick: Tick, held: Held) -> Held:
        held, dy = self._arrived(held, tick)
        factors, dx = self._split(at(held.residuals, tick.residuals), dy)
        return held._replace(factors=put(held.factors, tick.factors, (factors, dx)), dx=dx)

    def _weights(self, tick: Tick, held: Held) -> Held:
        factors, dx = at(held.factors, tick.factors)
        grads = jax.tree.map(gradient, factors, self.params.body, is_leaf=is_factor)
        return self._summed(held, tick, grads, dx)

    def _backward(self, tick: Tick, held: Held) -> Held:
        held, dy = self._arrived(held, tick)
        residuals = at(held.residuals, tick.residuals)
        grads, dx = backward(self.cut.body, self.params.body, residuals, dy)
        return self._summed(held, tick, grads, dx)._replace(dx=dx)

    def _split(self, residuals: Residuals, dy: Any) -> tuple[Any, Any]:
        """Run the loop backwards without its weights' products: return what they are of, and `dx`."""
        return backward(self.cut.body, self.params.body, residuals, dy, read=PAIRS)

    def _arrived(self, held: Held, tick: Tick) -> tuple[Held, Any]:
        """Return the cotangent of the stage's output; the last stage runs what is behind it."""

        def ended(found: Any) -> Any:
            value, of_last, of_loss, y = found
            more, dy, *grads = self._ended(y, tick.microbatch)
            return value + more, *map(added, (of_last, of_loss), grads), dy

        before = held.value, held.grads.last, held.grads.loss, at(held.after, tick.after)
        value, of_last, of_loss, dy = once(self.number == self.cut.stages - 1, ended, before)
        return held._replace(value=value, grads=held.grads._replace(last=of_last, loss=of_loss)), dy

    def _summed(self, held: Held, tick: Tick, body: Any, dx: Any) -> Held:
        """Add gradients of the loop, and on the first stage those of what is before it."""
        first, of_first = self.cut.first, self.params.first

        def begun(total: Any) -> Any:
            x, _, _, keys = at(self.data, tick.microbatch)
            _, residuals = forward(first, of_first, x, keys)
            return added(total, backward(first, of_first, residuals, dx)[0])

        grads = held.grads._replace(body=added(held.grads.body, body))
        if jax.tree.leaves(of_first):
            grads = grads._replace(first=once(self.number == 0, begun, grads.first))
        return held._replace(grads=grads)

    def _first(self, m: Any) -> Any:
        x, _, _, keys = at(self.data, m)
        return output(self.cut.first, self.params.first, x, keys)

    def _ended(self, y: Any, m: Any) -> tuple[Any, Any, Any, Any]:
        """Run what is behind the loop, and the loss, forwards and backwards."""
        _, target, weights, key = at(self.data, m)
        params, last = self.params, self.cut.last
        out, residuals = forward(last, params.last, y, key)
        read = Stacked(gradient, (params.loss,))
        with jax.named_scope("loss"):
            value, dout, of_loss = self.cut.loss.pull(params.loss, out, target, weights, read, self.scale)
        of_last, dy = pull(last, params.last, *residuals, dout, Stacked(gradient, (params.last,)))
        return value, dy, of_last, of_loss

    def _once_through(self) -> tuple[Any, Any, Any, Any, Any]:
        """Run a microbatch for the types of what a stage holds; no value is used, so that nothing runs."""
        x = self._first(0)
        y, residuals = self._loop(x, 0)
        return x, y, residuals, self._split(residuals, y), self._ended(y, 0)[0]

    def _loop(self, x: Any, m: Any) -> tuple[Any, Residuals]:
        """Run the loop forwards, each layer with its own key."""
        body = self.cut.body
        y, extras = run(body, self.params.body, x, self.cut.keys(at(self.data[3], m), self.number))
        return y, Residuals(*sides(body, x, y), extras)

    def _slots(self, count: int, leaf: Any) -> Any:
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        one = jax.tree.leaves(self.data[3])[0][0] if keys else zeros_like(leaf)
        return jnp.broadcast_to(one, (count, *leaf.shape))


def once(wanted: Any, f: Callable[[Any], Any], held: Any) -> Any:
    """Return `f(held)` where that is wanted, and else `held`.

    A loop of one or no pass: its carry stays in its buffers, which the compiler copies for a `lax.cond`.

    Args:
        wanted: whether it is, () boolean.
        f: the function; its value is like its argument.
        held: a tree of arrays.
    """
    body = lambda carry: (carry[0] & False, f(carry[1]))  # noqa: E731
    return lax.while_loop(lambda carry: carry[0], body, (wanted, held))[1]


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
