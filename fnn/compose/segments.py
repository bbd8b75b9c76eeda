"""A `Repeat` that keeps every k-th boundary: its uses in stretches that are run again in the backward."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn.compose.recomputed import Recomputed
from fnn.core import Layer, Reading
from fnn.factors import unread


@dataclass(frozen=True)
class Segments:
    """What `Repeat(layer, n, every=k)` runs: a scan over segments of k uses, and one shorter segment.

    params, value and gradients are those of the `Repeat`, whose stacks are cut up for the stretches.
    """

    repeat: Any
    cheap = False
    needs = frozenset[str]()

    @property
    def stretches(self) -> tuple[tuple[slice, tuple[int, ...], Layer], ...]:
        """The uses of each stretch, the shape that their stacked params take, and what runs them."""
        n, every = self.repeat.n, self.repeat.every
        whole, rest = divmod(n, every)

        def segment(uses: int) -> Layer:
            return Recomputed(replace(self.repeat, n=uses, every=1, split=False), place="")

        scan = replace(self.repeat, layer=segment(every), n=whole, every=1, split=False, place="")
        stretches = [(slice(whole * every), (whole, every), scan)]
        return (*stretches, *([(slice(n - rest, n), (rest,), segment(rest))] if rest else []))

    def parts(self, params: Any, x: Any) -> list[tuple[str, Layer, Any, Any]]:
        """List the stretches: no place of its own, layer, its share of the params, its input's shape."""
        return [
            ("", layer, jax.eval_shape(partial(self._share, where=where, shape=shape), params), x)
            for where, shape, layer in self.stretches
        ]

    def forward(self, params: Any, x: Any, keys: Any) -> tuple[Any, tuple[Any, ...]]:
        """Run stretch after stretch; `keys` are n keys, or None."""
        extras = []
        for where, shape, layer in self.stretches:
            kept = x if "input" in layer.needs else None
            own = None if keys is None else keys[where].reshape(shape)
            x, extra = layer.forward(self._share(params, where, shape), x, own)
            extras.append((kept, extra))
        return x, tuple(extras)

    def backward(
        self, params: Any, x: None, y: None, extras: tuple[Any, ...], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """Run stretch after stretch backwards, the last first."""
        if read.place:  # the stacks to write into are larger than ours, and cannot be cut up
            factors, dx = self.backward(params, x, y, extras, dy, Reading(unread, (params,)))
            return read(factors), dx
        readings = []
        for (where, shape, layer), (kept, extra) in reversed(list(zip(self.stretches, extras, strict=True))):
            own = replace(read, trees=self._share(read.trees, where, shape))
            grads, dy = layer.backward(self._share(params, where, shape), kept, None, extra, dy, own)
            if self.repeat.shared:  # one stretch alone: its uses are all
                return grads, dy
            readings.append(jax.tree.map(partial(_flat, len(shape)), grads))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *reversed(readings)), dy

    def _share(self, tree: Any, where: slice, shape: tuple[int, ...]) -> Any:
        """Give the part of a stacked tree that a stretch runs with; shared params go to all uses."""
        if self.repeat.shared:
            return tree
        return jax.tree.map(lambda leaf: leaf[where].reshape(*shape, *leaf.shape[1:]), tree)


def _flat(axes: int, leaf: Any) -> Any:
    """Make the stacked axes one again."""
    return leaf.reshape(-1, *leaf.shape[axes:])
