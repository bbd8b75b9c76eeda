"""A layer that stores what its backward reads smaller than it is, and a network of such layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from fnn.activations import piecewise
from fnn.activations.table import Activation
from fnn.contract import make, run
from fnn.core import Composition, Layer, Leaf, sides
from fnn.errors import InputError, brief, check_cotangent
from fnn.layers.dense import Dense
from fnn.memory.codecs import Bits, Codec


@dataclass(frozen=True, repr=False)
class Stored(Leaf):
    """Keep what a layer's backward reads as `codec` stores it, apart from its neighbours.

    params: the layer's. Of an activation that is its derivative f'(x), of every other layer the sides that
    it reads. The dx of an activation and the gradient of a weight are linear in these; so with a codec that
    is right on the average (`fnn.memory.Bits`, with a key) the gradients of a network of dense layers and
    activations are, too: each is a sum of products of quantities that are rounded apart from each other. (A
    norm's or a gate's is not linear.) Source: Chen et al. 2021.
    """

    layer: Leaf
    codec: Codec
    __repr__ = brief
    needs = frozenset()

    def __post_init__(self):
        if not isinstance(self.layer, Leaf):
            wanted, fix = "a layer that is no composition", "fnn.memory.stored(net, codec)"
            raise InputError("Stored", wanted, repr(self.layer), fix)
        layer = self.layer
        vars(self).update(
            cheap=layer.cheap,
            noisy=layer.noisy,
            couples_examples=layer.couples_examples,
            equations=layer.equations,
            axes=layer.axes,
        )

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> Any:
        """Make the layer's params."""
        return make(self.layer, key, x)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        """Return the layer's output, and what is stored beside its extras."""
        y, extras = run(self.layer, params, x, key)
        if isinstance(self.layer, Activation):
            slope = self.layer.slope(x, y)
            # one of two values has no derivative, and says so to what refuses to lose one
            read = (jax.lax.stop_gradient(slope) if _two_valued(self.layer) else slope, None)
        else:
            read = sides(self.layer, x, y)
        keys = (None, None) if key is None else jax.random.split(jax.random.fold_in(key, 1))
        stored = [None if v is None else self.codec.encode(v, k) for v, k in zip(read, keys, strict=True)]
        return y, (tuple(stored), extras)

    def recompute(self, params: Any, x: Any, extras: Any) -> Any:
        """Return the layer's output."""
        return self.layer.recompute(params, x, extras[1])

    def backward(self, params: Any, x: None, y: None, extras: Any, dy: Any) -> tuple[Any, Any]:
        """Run the layer's backward with what comes out of the store."""
        stored, extras = extras
        v_in, v_out = (None if v is None else self.codec.decode(v) for v in stored)
        if isinstance(self.layer, Activation):
            assert v_in is not None
            check_cotangent(self, dy, v_in.shape, dy.dtype)
            return (), (dy.astype(v_in.dtype) * v_in).astype(dy.dtype)
        return self.layer.backward(params, v_in, v_out, extras, dy)


def stored(net: Layer, codec: Codec, where: Callable[[Layer], bool] | None = None) -> Layer:
    """Return the same network with the layers that `where` picks storing what they read by `codec`.

    By default it picks the dense layers and the activations that read anything, of which gradients that are
    right on the average come. A derivative that has two values alone, as that of a relu, is stored in one bit
    each, which is exact. The params are those of `net`, and so is the output. Further calls may pick others:
    `stored(stored(net, Bits(4)), Rounded(), lambda layer: isinstance(layer, Gate))`.
    """
    pick = _linear if where is None else where
    if isinstance(net, Composition):
        return net.with_layers(*(stored(layer, codec, pick) for layer in net.layers))
    if not pick(net):
        return net
    assert isinstance(net, Leaf)
    return Stored(net, Bits(1) if isinstance(net, Activation) and _two_valued(net) else codec)


def _linear(layer: Layer) -> bool:
    return isinstance(layer, Dense) or (isinstance(layer, Activation) and bool(layer.needs))


def _two_valued(layer: Activation) -> bool:
    df = getattr(layer.df, "f", layer.df)  # a leaky relu's carries its slope
    steps = ("d_relu", "d_leaky_relu", "d_relu6", "d_hard_tanh", "d_hard_sigmoid")
    return df in [getattr(piecewise, name) for name in steps]
