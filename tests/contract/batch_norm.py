"""A leaf that couples the examples of a batch, and does not know that fnn would like to be told."""

from dataclasses import dataclass

import jax.numpy as jnp

import fnn
from fnn.factors import Scaled


@dataclass(frozen=True)
class BatchNorm(fnn.Leaf):
    """y = scale (x - mean) / deviation, by the batch's own statistics."""

    def init(self, key, x):
        return {"scale": jnp.ones(x.shape[-1:], x.dtype)}

    def forward(self, params, x, key):
        deviation = jnp.sqrt(jnp.var(x, 0, keepdims=True) + 1e-5)
        h = (x - x.mean(0, keepdims=True)) / deviation
        return params["scale"][None] * h, (h, deviation)

    def backward(self, params, x, y, extras, dy):
        h, deviation = extras
        dh = dy * params["scale"][None]
        dx = dh - dh.mean(0, keepdims=True) - h * (h * dh).mean(0, keepdims=True)
        return {"scale": Scaled(h, dy)}, dx / deviation
