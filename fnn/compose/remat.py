"""A layer that is run again in the backward, so that its forward keeps its input alone."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from fnn.compose.checks import check_layers
from fnn.compose.ordering import with_dependency
from fnn.contract import make, run
from fnn.core import Composition, Layer, Part, Sides, pull, sides
from fnn.errors import at, brief
from fnn.reading import Reading


@dataclass(frozen=True, repr=False)
class Remat(Composition):
    """Keep a layer's input alone, and run its forward again before its backward. params: the layer's.

    What the layer would have kept is alive only while its own backward runs. The cost is a second forward;
    gradients are the same. With a key, the key is kept, and the noise is drawn from it again.
    Source: Griewank, Walther 2000; Chen et al. 2016.

    Args:
        layer: the layer.
        place: the layer's place, for error messages.

    Raises:
        InputError: where `layer` is no layer.

    >>> import fnn, jax, jax.numpy as jnp
    >>> net, x = fnn.Remat(fnn.mlp([2, 8, 3])), jnp.ones((4, 2))
    >>> _, residuals = fnn.forward(net, fnn.init(net, jax.random.key(0), x), x)
    >>> jax.tree.map(jnp.shape, residuals.x), residuals.extras
    ((4, 2), None)
    """

    layer: Layer
    place: str = field(default=".layer", repr=False)
    __repr__ = brief
    needs: ClassVar[Sides] = frozenset(("input",))

    def __post_init__(self) -> None:
        check_layers("Remat", (self.layer,), "fnn.Remat(fnn.Serial(a, b))")
        vars(self).update(layers=(self.layer,), couples_examples=self.layer.couples_examples)

    def with_layers(self, *layers: Layer) -> "Remat":
        """Return a `Remat` of another layer."""
        return replace(self, layer=layers[0])

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layer, run again; the key is kept."""
        return [Part(self.place, self.layer, params, x, key, keeps=frozenset({"key"}), again=True)]

    def init(self, key: Any, x: Any) -> Any:
        """Make the layer's params."""
        with at(self.place):
            return make(self.layer, key, x)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        """y = f(x), and the key"""
        with at(self.place):
            return run(self.layer, params, x, key)[0], key

    def recompute(self, params: Any, x: Any, extras: Any) -> Any:
        """y = f(x), with the same noise"""
        with at(self.place):
            return run(self.layer, params, x, extras)[0]

    def inside(self, params: Any, x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List the layer, run again."""
        return [(Part(self.place, self.layer, params, x), *run(self.layer, params, x, extras))]

    def backward(self, params: Any, x: Any, y: None, extras: Any, dy: Any, read: Reading) -> tuple[Any, Any]:
        """dx = the layer's dx, from residuals that are made again here"""
        x = with_dependency(x, dy)
        with at(self.place):
            y, extras = run(self.layer, params, x, extras)
            # The second forward is in sight of the compiler, as that of a loop's body is not.
            return pull(self.layer, params, *sides(self.layer, x, y), extras, dy, read.placed(in_loop=False))
