"""A factor type of one's own, and the leaf that makes it: a weight that is a multiple of a fixed matrix."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import fnn
from fnn.factors import Factor, Total


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mirrored(Factor):
    """The factor of a scale (j,) that multiplies x and its mirror image: gradient = sum of (x + reversed x)
    dz.
    """

    x: jax.Array
    dz: jax.Array
    rank = 1

    def form(self):
        return Total((self.x + self.x[..., ::-1]) * self.dz)


@dataclass(frozen=True)
class Mirror(fnn.Leaf):
    """y = scale (x + reversed x)."""

    needs = frozenset(("input",))
    cheap = True
    couples_examples = False

    def init(self, key, x):
        return {"scale": jnp.ones(x.shape[-1:], x.dtype)}

    def forward(self, params, x, key):
        scale = jnp.expand_dims(params["scale"], tuple(range(x.ndim - 1)))
        return scale * (x + x[..., ::-1]), ()

    def backward(self, params, x, y, extras, dy):
        dh = jnp.expand_dims(params["scale"], tuple(range(x.ndim - 1))) * dy
        return {"scale": Mirrored(x, dy)}, dh + dh[..., ::-1]
