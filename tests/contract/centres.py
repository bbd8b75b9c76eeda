"""A loss with params of its own: the squared distance of an output to the centre of its class."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from fnn.factors import Rows
from fnn.losses import Objective
from fnn.losses.objective import Reduction


@dataclass(frozen=True)
class Centres(Objective):
    """value = |y - centre of the label|^2 / 2 for each row. Params beside the network's: (network's,
    loss's).
    """

    classes: int
    reduction: Reduction = "mean"
    has_params = True

    def init(self, key, y):
        return {"centres": jax.random.normal(key, (self.classes, y.shape[-1]), y.dtype)}

    def with_reduction(self, reduction):
        return replace(self, reduction=reduction)

    def split(self, tree):
        return tree[0], tree[1]

    def merge(self, of_net, of_loss):
        return of_net, of_loss

    def pull(self, params, y, target, weights, read, scale=None):
        d = y - params["centres"][target]
        weights = self.row_weights(y.shape[:-1], y.dtype, weights)
        value, dy = jnp.square(d).sum(-1) / 2, d
        if weights is not None:
            value, dy = value * weights, dy * weights[..., None]
        dy = dy if scale is None else dy * scale
        readings = read({"centres": Rows(target, -dy)}, self)
        return value if self.reduction == "none" else value.sum(), dy, readings
