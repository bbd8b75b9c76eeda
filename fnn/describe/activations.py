"""The output of every layer by its place, from what the forward kept: to find dead units and saturation."""

from typing import Any

import jax
from jaxtyping import Array

from fnn.arrays import PyTree
from fnn.core import Composition, Layer, Params, Residuals


def activations(net: Layer, params: Params, residuals: Residuals) -> dict[str, PyTree[Array]]:
    """Return the output of every layer, by its place in the network.

    Args:
        net: the network, any layer.
        params: its params.
        residuals: those that `fnn.forward` returned. What they do not hold is recomputed, matrix products
            included, with the noise that was drawn; under jit the compiler removes what is not used.

    Returns:
        a dict in the order of the forward, `{'["first"]': z (..., j), ...}`. For a layer in a `Repeat` the
        outputs of all uses are stacked on a new first axis. A place is missing where its value does not
        follow from what was kept, such as that of a first layer whose input no backward reads, and within a
        composition that has no `inside`.

    >>> import fnn, jax.numpy as jnp
    >>> net, x = fnn.mlp([2, 4, 3]), jnp.ones((5, 2))
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> _, residuals = fnn.forward(net, params, x)
    >>> found = activations(net, params, residuals)
    >>> jax.tree.map(jnp.shape, found)
    {'["activation"]': (5, 4), '["first"]': (5, 4), '["output"]': (5, 3)}
    >>> dead = (found['["activation"]'] == 0).all(0)
    """
    return dict(_outputs("", net, params, *residuals))


def _outputs(place: str, layer: Layer, params: Params, x: Any, y: Any, extras: Any) -> dict[str, Any]:
    """Return the outputs of a layer's parts, or its own, as far as they are known."""
    if isinstance(layer, Composition):
        parts = layer.inside(params, x, y, extras)
        if parts:
            found = {}
            for part, output, extra in parts:
                own = place + part.place, part.layer, part.params, part.x, output, extra
                found |= _stacked(*own) if part.times > 1 else _outputs(*own)
            return found
    if y is None and x is not None:
        y = layer.recompute(params, x, extras)
    return {} if y is None else {place: y}


def _stacked(place: str, layer: Layer, params: Params, x: Any, y: Any, extras: Any) -> dict[str, Any]:
    """Return the outputs of a layer in all uses of a loop."""
    if not jax.tree.leaves((params, x, y, extras)):
        return {}
    return jax.vmap(lambda *of_one: _outputs(place, layer, *of_one))(params, x, y, extras)
