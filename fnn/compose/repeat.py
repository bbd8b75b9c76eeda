"""The same layer n times: a scan over stacked params, so that 100 layers compile as fast as one."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax

from fnn.compose.checks import check_layers
from fnn.compose.loop import Loop
from fnn.compose.remat import Remat
from fnn.contract import run
from fnn.core import Composition, Layer, Part
from fnn.errors import InputError, brief, check_size, describe
from fnn.reading import Reading


@dataclass(frozen=True, repr=False)
class Repeat(Composition):
    """Run a layer n times, each time on the last output, in a scan.

    params: the layer's own, stacked on a new first axis of size n; with `shared=True` one set that all n uses
    share. The boundary before each use is kept if the layer's backward reads it, once for both of its
    neighbours: for a dense layer and its gelu the pre-activation alone, from which the next use's input
    follows. Readers read inside the reverse scan, so that a stack of factors need not exist; shared params
    get one factor, the uses joined along the summed axis.

    Args:
        layer: the layer, which must keep shape and dtype.
        n: the number of uses, an integer >= 1.
        shared: whether all uses have the same params.
        every: a divisor k of n: only every k-th boundary is kept, and the k uses between two of them are
            recomputed in the backward. Params, values and noise stay the same, and gradients up to rounding;
            `fnn.memory.fit` finds k.

    Raises:
        InputError: where `layer` is no layer or a number is out of its range, or, on use, the layer does not
            keep shape and dtype.

    >>> import fnn, jax.numpy as jnp
    >>> net, x = fnn.Repeat(fnn.Dense(4), 10), jnp.ones((2, 4))
    >>> fnn.init(net, jax.random.key(0), x)["kernel"].shape
    (10, 4, 4)
    """

    layer: Layer
    n: int
    shared: bool = False
    every: int = 1
    __repr__ = brief

    def __post_init__(self) -> None:
        check_layers("Repeat", (self.layer,), "fnn.Repeat(fnn.Serial(a, b), n)")
        check_size("Repeat", "n", self.n, "fnn.Repeat(layer, n)")
        check_size("Repeat", "every", self.every, f"fnn.Repeat(layer, {self.n})")
        if self.n % self.every:
            wanted = f"every to divide n = {self.n}"
            raise InputError("Repeat", wanted, repr(self.every), f"fnn.Repeat(layer, {self.n})")
        loop = Loop(self.layer, self.n // self.stretches, self.shared)
        if self.every > 1:
            loop = Loop(Remat(loop, place=""), self.stretches, self.shared, place="")
        vars(self).update(
            layers=(self.layer,),
            uses=loop,
            cheap=loop.cheap,
            needs=loop.needs,
            rebuilds=loop.rebuilds,
            couples_examples=self.layer.couples_examples,
        )

    uses: ClassVar[Loop]  # the loop that runs

    @property
    def stretches(self) -> int:
        """The number of stretches that are run again, 1 where none is."""
        return self.n // self.every if self.every > 1 else 1

    def with_layers(self, *layers: Layer) -> "Repeat":
        """Return the same repetition of another layer."""
        return replace(self, layer=layers[0])

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layer; with `every` a stretch of uses, run again."""
        if not self.shared:
            params = jax.eval_shape(self._cut, params)
        keys = None if key is None else jax.eval_shape(self._keys, key)
        return self.uses.parts(params, x, keys)

    def init(self, key: Any, x: Any) -> Any:
        """Make the layer's params, n times where they are not shared."""
        return Loop(self.layer, self.n, self.shared).init(key, x)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        """v[i + 1] = layer(params[i], v[i])"""
        self._check(params)
        return run(self.uses, self._cut(params), x, None if key is None else self._keys(key))

    def recompute(self, params: Any, x: Any, extras: Any) -> Any:
        """v[i + 1] = layer(params[i], v[i])"""
        return self.uses.recompute(params, x, extras)  # cheap, hence not cut

    def backward(self, params: Any, x: Any, y: Any, extras: Any, dy: Any, read: Reading) -> tuple[Any, Any]:
        """dv[i] = the layer's backward at dv[i + 1], last use first."""
        self._check(params)
        if self.every == 1 or self.shared:
            return self.uses.backward(params, x, y, extras, dy, read)
        readings, dx = self.uses.backward(
            self._cut(params), x, y, extras, dy, read.split((self.stretches, self.every))
        )
        return read.merged(readings), dx

    def rebuild(self, params: Any, extras: Any) -> Any:
        """Return the output of the last use again."""
        return self.uses.rebuild(params, extras)

    def inside(self, params: Any, x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List the layer, all uses stacked; stretches are run again."""
        uses = Loop(self.layer, self.n, self.shared)
        if self.every > 1:
            inputs, keys = extras  # of the stretches
            x = jax.tree.map(lambda leaf: leaf[0], inputs)
            keys = jax.tree.map(lambda leaf: leaf.reshape(self.n, *leaf.shape[2:]), keys)
            y, extras = run(uses, params, x, keys)
        return uses.inside(params, x, y, extras)

    def _keys(self, key: Any) -> Any:
        """Split the key: a key for each use, whatever `every` is."""
        keys = jax.random.split(key, self.n)
        return keys if self.every == 1 else keys.reshape(self.stretches, self.every, *keys.shape[1:])

    def _cut(self, params: Any) -> Any:
        """Cut stacked params up for the stretches."""
        if self.every == 1 or self.shared:
            return params
        return jax.tree.map(lambda leaf: leaf.reshape(self.stretches, self.every, *leaf.shape[1:]), params)

    def _check(self, params: Any) -> None:
        stacked = self.shared or all(leaf.shape[:1] == (self.n,) for leaf in jax.tree.leaves(params))
        if not stacked:
            wanted = f"params stacked {self.n} times"
            raise InputError(
                f"Repeat(n={self.n})", wanted, describe(params), "params = fnn.init(net, key, x)"
            )
