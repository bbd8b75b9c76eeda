"""A leaf that breaks the contract in one way, which its name says."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

import fnn
from fnn.factors import Scaled, Total

BOTH = frozenset(("input", "output"))


@dataclass(frozen=True)
class Scaling(fnn.Leaf):
    """y = x * scale: right but for the `fault`."""

    fault: str = ""
    needs: Any = field(default=BOTH, repr=False)
    cheap: Any = field(default=False, repr=False)
    noisy: Any = field(default=False, repr=False)
    couples_examples: Any = field(default=False, repr=False)

    def init(self, key, x):
        return {"scale": 1.0 if self.fault == "init" else jnp.ones(x.shape[-1], x.dtype)}

    def forward(self, params, x, key):
        y = x * jnp.broadcast_to(params["scale"], x.shape)
        faults = {
            "y alone": y,
            "nothing": None,
            "three": (y, (), ()),
            "a list": [y, ()],
            "text as extras": (y, {"name": "mean"}),
            "a number as extras": (y, 2.0),
            "a function as extras": (y, (len,)),
            "a number as y": (1.0, ()),
        }
        return faults.get(self.fault, (y, ()))

    def backward(self, params, x, y, extras, dy):
        factors, dx = {"scale": Scaled(x, dy)}, dy * jnp.broadcast_to(params["scale"], x.shape)
        faults = {
            "dx alone": dx,
            "three back": (factors, dx, ()),
            "no dx": (factors, None),
            "dx of one row": (factors, dx[0]),
            "dx in another dtype": (factors, dx.astype(jnp.bfloat16)),
            "dx in a tuple": (factors, (dx,)),
            "another name": ({"kernel": Scaled(x, dy)}, dx),
            "no factors": ((), dx),
            "a factor of another shape": ({"scale": Total(dy[:, :2])}, dx),
            "a gradient of the rows": ({"scale": x * dy}, dx),
        }
        return faults.get(self.fault, (factors, dx))
