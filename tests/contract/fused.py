"""A leaf: two products with a relu between them. What its backward reads beside its input is the hidden
layer.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import fnn
from fnn.factors import Outer


@dataclass(frozen=True)
class Fused(fnn.Leaf):
    """y = relu(x u) v. The extras come out of a product, so to make them again is not free."""

    hidden: int
    features: int
    needs = frozenset(("input",))
    couples_examples = False

    def init(self, key, x):
        u, v = jax.random.split(key)
        k, dtype = x.shape[-1], x.dtype
        return {
            "u": jax.random.normal(u, (k, self.hidden), dtype) / jnp.asarray(k**0.5, dtype),
            "v": jax.random.normal(v, (self.hidden, self.features), dtype)
            / jnp.asarray(self.hidden**0.5, dtype),
        }

    def forward(self, params, x, key):
        h = jax.nn.relu(x @ params["u"])
        return h @ params["v"], h

    def backward(self, params, x, y, extras, dy):
        h = extras
        dh = jnp.where(h > 0, dy @ params["v"].T, 0)
        return {"u": Outer(x, dh), "v": Outer(h, dy)}, dh @ params["u"].T
