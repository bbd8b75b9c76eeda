"""The same layer n times: a scan over stacked params, so that 100 layers compile as fast as one."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.compose.in_place import at_use
from fnn.compose.recomputed import rebuilds
from fnn.compose.segments import Segments
from fnn.core import Layer, Reading
from fnn.errors import InputError, at, brief, check_size, describe
from fnn.factors import is_factor, join, unread


@dataclass(frozen=True, repr=False)
class Repeat:
    """Run `layer` n times, each time on the last output. The layer must keep shape and dtype.

    params: the layer's own, stacked on a new first axis of size n; with `shared=True` one set of the
    layer's params that all n uses share. The boundary before each use is kept if the layer's backward
    reads it, once for both of its neighbours; of a dense layer with its gelu, say, the pre-activation alone,
    from which the next use's input follows. `read` is applied inside the reverse scan, so that a stack of
    factors need not exist; shared params get one factor, the uses joined along the summed axis, and `read`
    is applied to that. A reader that replaces the trees it reads by does so in place.

    `every=k` keeps every k-th boundary alone: the k uses between two of them are run again in the backward
    (shared params want a k that divides n). It changes no params, no value and no gradient;
    `fnn.fit_memory` finds k.
    """

    layer: Layer
    n: int
    shared: bool = False
    every: int = 1
    split: bool = field(default=True, repr=False)  # whether `key` is one key, to be split, or n of them
    place: str = field(default=".layer", repr=False)
    __repr__ = brief

    def __post_init__(self):
        if not isinstance(self.layer, Layer):
            raise InputError("Repeat", "a layer", repr(self.layer), "fnn.Repeat(fnn.Serial(a, b), n)")
        check_size("Repeat", "n", self.n)
        check_size("Repeat", "every", self.every)
        if self.every > self.n or (self.shared and self.n % self.every):
            wanted = f"every to divide n = {self.n}" if self.shared else f"every <= n = {self.n}"
            raise InputError("Repeat", wanted, repr(self.every), f"fnn.Repeat(layer, {self.n})")

    @property
    def cheap(self) -> bool:
        """Whether the layer is, where every boundary is kept."""
        return self.layer.cheap and self.every == 1

    @property
    def needs(self) -> frozenset[str]:
        """The output, if the layer reads both sides: the uses' inputs are kept, the last output is not.

        And if the layer can be run backwards: then nothing else is kept. The input, if the others follow from
        what the uses keep.
        """
        if self.every > 1:
            return frozenset()
        if _follows(self.layer):
            return frozenset({"input"})
        last = len(self.layer.needs) == 2 or _reverses(self.layer)
        return frozenset({"output"}) if last else frozenset()

    @property
    def rebuilds(self) -> bool:
        """Whether the layer does."""
        return rebuilds(self.layer) and self.every == 1

    def rebuild(self, params: Any, extras: tuple[Any, Any]) -> Any:
        """Give the output of the last use again."""
        return self._output(self.n - 1, params, extras[1])

    def parts(self, params: Any, x: Any) -> list[tuple[str, Layer, Any, Any]]:
        """List the one layer: place, layer, the params of one use, and the shape of its input.

        With `every`, list the stretches in its place.
        """
        if self.every > 1:
            return Segments(self).parts(params, x)
        return [(self.place, self.layer, params if self.shared else jax.eval_shape(_first, params), x)]

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> Any:
        """Make the layer's params, n times where they are not shared."""
        with at(".layer"):
            if self.shared:
                params = self.layer.init(key, x)
            else:
                params = jax.vmap(lambda key: self.layer.init(key, x))(jax.random.split(key, self.n))
        self._check_same(x, jax.eval_shape(self.forward, params, x, None)[0])
        return params

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Any, Any]]:
        """v[i + 1] = layer(params[i], v[i])"""
        self._check(params)
        keys = jax.random.split(key, self.n) if self.split and key is not None else key
        if self.every > 1:
            return Segments(self).forward(params, x, keys)

        def step(x: Any, xs: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            own, key = xs
            with at(self.place):
                y, extras = self.layer.forward(params if self.shared else own, x, key)
            self._check_same(x, y)
            return y, (self._kept(x, y), extras)

        return lax.scan(step, x, (None if self.shared else params, keys), self.n)

    def recompute(self, params: Any, x: Any, extras: tuple[Any, Any]) -> Any:
        """v[i + 1] = layer(params[i], v[i])"""

        def step(x: Any, xs: tuple[Any, Any]) -> tuple[Any, None]:
            own, extras = xs
            return self.layer.recompute(params if self.shared else own, x, extras), None

        return lax.scan(step, x, (None if self.shared else params, extras[1]), self.n)[0]

    def backward(
        self, params: Any, x: Any, y: Any, extras: tuple[Any, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dv[i] = the layer's backward at dv[i + 1], last use first; v[i + 1] is the next use's input."""
        self._check(params)
        if self.every > 1:
            return Segments(self).backward(params, None, None, extras, dy, read)
        in_place = read.place is not None and not self.shared  # then the trees are carried, not scanned over

        def step(carry: tuple[Any, Any, Any], xs: tuple[Any, ...]) -> tuple[tuple[Any, Any, Any], Any]:
            dy, after, rows = carry
            i, trees, kept, extras = xs
            if self.shared:
                own = Reading(unread, (params,))
            else:
                own = at_use(read, params, rows, i) if in_place else replace(read, trees=trees)
            own = replace(own, looped=True)
            v_in = kept if "input" in self.layer.needs else None
            if _follows(self.layer):
                stacks = jax.tree.map(lambda _, row: row[0], params, rows) if in_place else params
                v_in = jnp.where(i > 0, self._output(jnp.maximum(i - 1, 0), stacks, kept_extras), x)
            v_out = kept if self.layer.needs == {"output"} else after
            with at(self.place):
                if _reverses(self.layer):
                    back: Any = self.layer  # a layer, and more
                    grads, dx, kept = back.backward_and_input(own.trees[0], after, extras, dy, own)
                else:
                    grads, dx = self.layer.backward(own.trees[0], v_in, v_out, extras, dy, own)
            rows, grads = (grads, None) if in_place else (None, grads)
            return (dx, None if after is None else kept, rows), grads

        kept_extras = extras[1]
        trees, rows = (None, read.trees[1]) if in_place else (None if self.shared else read.trees, None)
        xs = (jnp.arange(self.n), trees, *extras)
        (dx, _, rows), grads = lax.scan(step, (dy, y, rows), xs, self.n, reverse=True)
        if self.shared:
            grads = read(jax.tree.map(join, grads, params, is_leaf=is_factor))
        return rows if in_place else grads, dx

    def _output(self, i: Any, params: Any, extras: Any) -> Any:
        """Give the output of use i again, from what that kept."""

        def at_use_i(stack: Any) -> Any:
            return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, i, keepdims=False), stack)

        back: Any = self.layer  # a layer, and more
        return back.rebuild(params if self.shared else at_use_i(params), at_use_i(extras))

    def _kept(self, x: Any, y: Any) -> Any:
        """Keep the input of a use if the layer reads it; where it reads outputs alone, the output."""
        if not keeps_boundaries(self.layer):
            return None
        return y if self.layer.needs == {"output"} else x

    def _check(self, params: Any) -> None:
        stacked = self.shared or all(jnp.shape(leaf)[:1] == (self.n,) for leaf in jax.tree.leaves(params))
        if not stacked:
            wanted = f"params stacked {self.n} times"
            raise InputError(
                f"Repeat(n={self.n})", wanted, describe(params), "params = fnn.init(net, key, x)"
            )

    def _check_same(self, x: Any, y: Any) -> None:
        if x.shape != y.shape or x.dtype != y.dtype:
            wanted = f"the layer's output like its input, {describe(x)}"
            fix = f"a last layer of {x.shape[-1]} features" if x.shape else "a layer that keeps shape"
            raise InputError(f"Repeat(n={self.n})", wanted, describe(y), fix)


def keeps_boundaries(layer: Layer) -> bool:
    """Tell whether a `Repeat` of `layer` keeps a boundary of every use."""
    return bool(layer.needs) and not _reverses(layer) and not _follows(layer)


def _reverses(layer: Any) -> bool:
    """Tell whether a layer finds its input from its output, as `Reversible` does."""
    return hasattr(layer, "backward_and_input")


def _follows(layer: Any) -> bool:
    """Tell whether a layer's input, which its backward reads, follows from what the use before it keeps."""
    return "input" in layer.needs and rebuilds(layer)


def _first(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], params)
