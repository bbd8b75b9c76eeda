"""A linear layer's logits and their cross-entropy, for the rows of a chunk: losses, cotangents, factors."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from fnn.factors import Factor, Outer, Total
from fnn.layers.affine import row
from fnn.layers.dense import product
from fnn.losses.walk import Batch, cross_entropy
from fnn.sharding import on_mesh, sharding_along, sharding_of

Params = dict[str, Array]


@dataclass(frozen=True)
class Logits:
    """How a row's loss follows from its input: z = x W + b, and `cross_entropy` of z. Static, without arrays.

    The weight is `kernel` (k, V); of a tied head it is a table, `embedding` (V, k).

    Args:
        bias: whether there is a bias.
        tied: whether the weight is a table.
        label_smoothing: as for `cross_entropy`.
        z_loss: as for `cross_entropy`.
        dtype: the dtype that the products are computed in.
    """

    bias: bool
    tied: bool
    label_smoothing: float
    z_loss: float
    dtype: Any

    @property
    def weight(self) -> str:
        """The weight's name among the params."""
        return "embedding" if self.tied else "kernel"

    def losses(self, params: Params, batch: Batch) -> tuple[Any, Any]:
        """Return the losses (n, ...) and their gradient by the logits, (n, ..., V).

        Args:
            params: the params of the head.
            batch: the rows.
        """
        weight = params[self.weight].astype(self.dtype)
        z = product(batch.x.astype(self.dtype), weight, axis=1 if self.tied else 0)
        z = z + row(params["bias"], z) if self.bias else z
        rule = partial(cross_entropy, label_smoothing=self.label_smoothing, z_loss=self.z_loss)
        rows = sharding_along(*((z, i) for i in range(z.ndim - 1)))
        return on_mesh(rule, rows and (rows, sharding_of(z)), z, batch.label)

    def chunk(self, params: Params, batch: Batch) -> tuple[Any, Any, dict[str, Factor]]:
        """dW = x^T dz, db = sum dz, dx = dz W^T, with dz from `cross_entropy`, times the coefficients.

        Args:
            params: the params of the head.
            batch: the rows.

        Returns:
            the losses (n, ...), dx (n, ..., k), and a factor for each param.
        """
        losses, dz = self.losses(params, batch)
        counted = batch.coefficient[..., None].astype(dz.dtype)
        dz = jnp.where(counted == 0, 0, dz * counted).astype(self.dtype)
        weight = params[self.weight].astype(self.dtype)
        dx = product(dz, weight, axis=0 if self.tied else 1, like=batch.x).astype(batch.x.dtype)
        x = jnp.where(counted == 0, 0, batch.x.astype(self.dtype))  # where no row counts, no NaN does
        factors: dict[str, Factor] = {self.weight: Outer(dz, x) if self.tied else Outer(x, dz)}
        return losses, dx, factors | ({"bias": Total(dz)} if self.bias else {})

    def of(self, name: str) -> "FactorOf":
        """Return the function that makes the factor of one param, for a `Chunked`."""
        return FactorOf(self, name)


@dataclass(frozen=True)
class FactorOf:
    """A function that makes the factor of one param for the rows of a batch, all at once.

    Args:
        logits: how the losses follow.
        name: the param's name.
    """

    logits: Logits
    name: str

    def __call__(self, params: Params, batch: Batch) -> Factor:
        """Return the factor (n, ...)."""
        return self.logits.chunk(params, batch)[2][self.name]
