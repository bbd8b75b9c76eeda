"""Layers that store what their backward reads by a codec, in fewer bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from fnn.activations import piecewise
from fnn.activations.table import Activation
from fnn.contract import make, run
from fnn.core import Composition, Layer, Leaf, Sides, sides
from fnn.errors import InputError, brief, check_cotangent
from fnn.layers.dense import Dense
from fnn.memory.bits import Bits
from fnn.memory.codecs import Codec


@dataclass(frozen=True, repr=False)
class Stored(Leaf):
    """Keep what a layer's backward reads as a codec stores it. params: the layer's.

    Of an activation its derivative f'(x) is stored, of every other layer the sides that it reads. The dx of
    an activation and the gradient of a weight are linear in these. So a codec whose error has mean zero, as
    that of `fnn.memory.Bits` has with a key, gives a network of dense layers and activations gradients whose
    errors have mean zero: they are sums of products of quantities that are rounded independently. A norm or a
    gate is not linear in what is stored. Source: Chen et al. 2021.

    Args:
        layer: the layer, a `Leaf`.
        codec: the codec.

    Raises:
        InputError: where `layer` is a composition.

    >>> import fnn
    >>> Stored(fnn.Dense(3), fnn.memory.Rounded()).needs
    frozenset()
    """

    layer: Leaf
    codec: Codec
    __repr__ = brief
    needs: ClassVar[Sides] = frozenset()

    def __post_init__(self) -> None:
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
        """Return the layer's output; what is stored and the layer's extras are the extras."""
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
        """Run the layer's backward on what the codec decodes."""
        stored, extras = extras
        v_in, v_out = (None if v is None else self.codec.decode(v) for v in stored)
        if isinstance(self.layer, Activation):
            assert v_in is not None
            check_cotangent(self, dy, v_in.shape, dy.dtype)
            return (), (dy.astype(v_in.dtype) * v_in).astype(dy.dtype)
        return self.layer.backward(params, v_in, v_out, extras, dy)


def stored(net: Layer, codec: Codec, where: Callable[[Layer], bool] | None = None) -> Layer:
    """Return a network whose layers store what their backwards read by a codec.

    Params and output are those of `net`. An activation whose derivative has only two values, such as relu, is
    stored in one bit for each element, exactly.

    Args:
        net: the network, any layer.
        codec: the codec.
        where: `where(layer)` returns whether a leaf is stored; None for the dense layers and the activations,
            for which the mean of the gradients over keys is exact with `Bits`.

    Returns:
        the network with a `Stored` in the place of each of these layers. A further call may store others, by
        another codec.

    >>> import fnn
    >>> stored(fnn.Serial(fnn.Dense(3), fnn.relu), fnn.memory.Bits(4))
    Serial(Stored(Dense(3), Bits(bits=4, block=256)), Stored(relu, Bits(bits=1, block=256)))
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
