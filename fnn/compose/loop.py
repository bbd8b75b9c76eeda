"""The loop behind `Repeat`: a scan over uses of a layer."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.compose.boundaries import rebuilds
from fnn.compose.checks import check_same
from fnn.contract import make, run
from fnn.core import Composition, Layer, Part, pull
from fnn.eager import compiled_once
from fnn.errors import at
from fnn.factors import is_factor, join
from fnn.reader import gradient
from fnn.reading import AllUses, Reading, Stacked
from fnn.sharding import placed_like, varying_like


@dataclass(frozen=True)
class Loop(Composition):
    """Run a layer n times on its own output, in a scan: what `Repeat` is made of.

    As `Repeat`, but with a key for each use: n keys stacked, or None. The extras are, stacked, the kept
    boundaries and the layer's extras. Which boundaries are kept depends on the layer:

    - It reads its input, its output, or both: the boundary before (after) every use is kept, once for both
      neighbours.
    - It finds its input from its output (`reverses`): the last output alone is kept, by the caller.
    - It makes its output again from what it keeps (`rebuilds`): a use's input follows from what the use
      before it keeps, and the first input is kept, by the caller.

    Args:
        layer: the layer, which must keep shape and dtype.
        n: the number of uses.
        shared: whether all uses have the same params; else the params are stacked on a first axis of size n.
        place: the layer's place in the loop, for error messages.
    """

    layer: Layer
    n: int
    shared: bool = False
    place: str = ".layer"

    def __post_init__(self) -> None:
        layer = self.layer
        if self.follows:
            needs = frozenset(("input",))
        else:  # the last output is no use's input
            needs = frozenset(("output",) if len(layer.needs) == 2 or self.turns else ())
        vars(self).update(
            layers=(layer,),
            cheap=layer.cheap,
            needs=needs,
            rebuilds=rebuilds(layer),
            couples_examples=layer.couples_examples,
        )

    @property
    def turns(self) -> bool:
        """Whether the layer finds its input from its output."""
        return isinstance(self.layer, Composition) and self.layer.reverses

    @property
    def follows(self) -> bool:
        """Whether the layer's input, which its backward reads, follows from what the use before it keeps."""
        return "input" in self.layer.needs and rebuilds(self.layer)

    @property
    def keeps_boundaries(self) -> bool:
        """Whether a boundary of every use is kept."""
        return bool(self.layer.needs) and not self.turns and not self.follows

    def with_layers(self, *layers: Layer) -> "Loop":
        """Return the loop of another layer."""
        return replace(self, layer=layers[0])

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layer, with the params and the key of one use."""
        own = params if self.shared else jax.eval_shape(_first, params)
        reads_output_alone = self.layer.needs == {"output"}
        keeps = (
            frozenset(("output",) if reads_output_alone else ("input",))
            if self.keeps_boundaries
            else frozenset()
        )
        copies = 1 if self.shared else self.n
        key = None if key is None else jax.eval_shape(_first, key)
        return [Part(self.place, self.layer, own, x, key, self.n, copies, keeps)]

    def init(self, key: Any, x: Any) -> Any:
        """Make the layer's params, n times where they are not shared."""
        with at(".layer"):
            if self.shared:
                params = make(self.layer, key, x)
            else:
                own = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(self.n))
                params = jax.vmap(lambda key: make(self.layer, key, x))(own)  # as those of a chain of n are
        self._check_same(x, jax.eval_shape(self.forward, params, x, None)[0])
        return params

    @compiled_once(0)
    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Any, Any]]:
        """v[i + 1] = layer(params[i], v[i])"""

        def step(x: Any, xs: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            own, key = xs
            with at(self.place):
                y, extras = run(self.layer, params if self.shared else own, x, key)
            self._check_same(x, y)
            y = placed_like(y, x)  # what a loop carries keeps its sharding
            kept = y if self.layer.needs == {"output"} else x
            return y, (kept if self.keeps_boundaries else None, extras)

        return lax.scan(step, varying_like(x, params), (None if self.shared else params, key), self.n)

    @compiled_once(0)
    def recompute(self, params: Any, x: Any, extras: tuple[Any, Any]) -> Any:
        """v[i + 1] = layer(params[i], v[i])"""

        def step(x: Any, xs: tuple[Any, Any]) -> tuple[Any, None]:
            own, extras = xs
            with at(self.place):
                return placed_like(self.layer.recompute(params if self.shared else own, x, extras), x), None

        return lax.scan(step, varying_like(x, params), (None if self.shared else params, extras[1]), self.n)[
            0
        ]

    def backward(
        self, params: Any, x: Any, y: Any, extras: tuple[Any, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dv[i] = the layer's backward at dv[i + 1], last use first."""
        if not self.shared:
            return self._walk(params, x, y, extras, dy, read)
        factors, dx = self._walk(params, x, y, extras, dy, AllUses(params))
        return read(jax.tree.map(join, factors, params, is_leaf=is_factor), self), dx

    @compiled_once(0)
    def _walk(
        self, params: Any, x: Any, y: Any, extras: tuple[Any, Any], dy: Any, read: Reading | AllUses
    ) -> tuple[Any, Any]:
        """Run the uses backwards; carried are the cotangent, the boundary after the use, what is read in
        place.
        """

        def step(carry: tuple[Any, Any, Any], xs: tuple[Any, ...]) -> tuple[tuple[Any, Any, Any], Any]:
            dy, after, carried = carry
            i, scanned, kept, inner = xs
            own, own_params = read.at_use(i, carried, scanned)
            with at(self.place):
                if self.turns:
                    assert isinstance(self.layer, Composition)
                    readings, dx, before = self.layer.backward_and_input(own_params, after, inner, dy, own)
                else:
                    v_in = kept if "input" in self.layer.needs else None
                    if self.follows:
                        v_in = self._input_of(i, x, read.stack(params, carried), extras[1])
                    v_out = kept if self.layer.needs == {"output"} else after
                    readings, dx = pull(self.layer, own_params, v_in, v_out, inner, dy, own)
                    before = kept
            carried, stacked = own.leave(readings)
            dx = varying_like(placed_like(dx, dy), dy)
            return (dx, None if after is None else before, carried), stacked

        carried, scanned = read.enter()
        dy = varying_like(dy, params, extras)
        xs = (jnp.arange(self.n), scanned, *extras)
        (dx, _, carried), stacked = lax.scan(step, (dy, y, carried), xs, self.n, reverse=True)
        return read.finished(carried, stacked), dx

    def inside(self, params: Any, x: Any, y: Any, extras: tuple[Any, Any]) -> list[tuple[Part, Any, Any]]:
        """List the layer, its uses stacked: as kept, or run again, or run backwards from the output."""
        inputs = outputs = None
        if self.keeps_boundaries and "input" in self.layer.needs:
            inputs = extras[0]
        elif x is not None:
            inputs, outputs = self._run_again(params, x, extras[1])
        elif self.turns and y is not None:
            inputs, outputs = self._run_backwards(params, y, extras[1])
        elif self.keeps_boundaries:
            outputs = extras[0]
        stacked = jax.tree.map(lambda p: jnp.stack([p] * self.n), params) if self.shared else params
        return [(Part(self.place, self.layer, stacked, inputs, times=self.n), outputs, extras[1])]

    def _run_again(self, params: Any, x: Any, extras: Any) -> tuple[Any, Any]:
        def step(x: Any, xs: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            own, extras = xs
            y = self.layer.recompute(params if self.shared else own, x, extras)
            return y, (x, y)

        return lax.scan(step, x, (None if self.shared else params, extras), self.n)[1]

    def _run_backwards(self, params: Any, y: Any, extras: Any) -> tuple[Any, Any]:
        layer, zero = self.layer, jax.tree.map(jnp.zeros_like, y)
        assert isinstance(layer, Composition)

        def step(y: Any, xs: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            own = params if self.shared else xs[0]
            _, _, x = layer.backward_and_input(own, y, xs[1], zero, Stacked(gradient, (own,), in_loop=True))
            return x, (x, y)

        return lax.scan(step, y, (None if self.shared else params, extras), self.n, reverse=True)[1]

    def _input_of(self, i: Any, x: Any, params: Any, extras: Any) -> Any:
        """Return the input of use i: the output of the use before, made again from what that kept; of the
        first, x.
        """
        rebuilt = self._output_of(jnp.maximum(i - 1, 0), params, extras)
        return jax.tree.map(lambda rebuilt, x: jnp.where(i > 0, rebuilt, x), placed_like(rebuilt, x), x)

    def _output_of(self, i: Any, params: Any, extras: Any) -> Any:
        def at_use(stack: Any) -> Any:
            return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, i, keepdims=False), stack)

        assert isinstance(self.layer, Composition)
        own, extras = params if self.shared else at_use(params), at_use(extras)
        with at(self.place):
            return self.layer.rebuild(own, extras)

    def rebuild(self, params: Any, extras: tuple[Any, Any]) -> Any:
        """Return the output of the last use again."""
        return self._output_of(self.n - 1, params, extras[1])

    def _check_same(self, x: Any, y: Any) -> None:
        last = getattr(x, "shape", ())[-1:]
        fix = f"fnn.Dense({last[0]})" if last else "fnn.Serial()"
        check_same(f"Repeat(n={self.n})", x, y, fix)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)
