"""Private steps: how the gradient is made private, and what the steps spend."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from fnn.errors import InputError
from fnn.privacy.gaussian import privacy_spent


class Spent(NamedTuple):
    """The accountant of a run: what its private steps were, as the state of the run holds it.

    Where steps had different noise or sampling (a run that was resumed with others), the guarantee is that of
    as many steps with the least noise and the largest sampling: an upper bound.

    Args:
        noise_multiplier: the least noise multiplier of a step, () float32.
        sampling: the largest probability with which a step drew each example, () float32.
        steps: the number of steps, () int32.

    >>> spent = Private(norm=1.0, noise_multiplier=4.0, batch_size=32, sampling=1.0).init()
    >>> spent = spent._replace(steps=spent.steps + 1)
    >>> round(spent.epsilon(1e-5), 2)
    0.93
    """

    noise_multiplier: Array
    sampling: Array
    steps: Array

    def epsilon(self, delta: float) -> float:
        """Compute the epsilon of the guarantee at `delta`, in (0, 1): 0 before the first step."""
        if int(self.steps) == 0:
            return 0.0
        return privacy_spent(float(self.noise_multiplier), float(self.sampling), int(self.steps), delta)


@dataclass(frozen=True)
class Private:
    """How steps are private (DP-SGD): clipped example gradients, their sum, noise; see `private_gradient`.

    Batches are drawn by Poisson sampling, and padded to one size; the third entry of a batch is the mask,
    (n,) booleans, False for padding.

    Args:
        norm: the bound of an example's gradient, > 0.
        noise_multiplier: the standard deviation of the noise divided by `norm`, > 0.
        batch_size: the number of examples that a step draws on average.
        sampling: the probability with which a step draws each example, in (0, 1]: `batch_size` / data set.
        per: "network" or "layer", what is clipped, as for `fnn.privacy.clipped_gradient`.
        automatic: whether gradients are normalised rather than clipped, likewise.

    Raises:
        InputError: where a number is out of its range.

    >>> import fnn, jax, optax
    >>> private = Private(norm=1.0, noise_multiplier=1.1, batch_size=4, sampling=0.5)
    >>> x, label = jnp.ones((8, 4)), jnp.zeros(8, jnp.int32)
    >>> loss, net = fnn.softmax_cross_entropy(), fnn.mlp([4, 8, 3])
    >>> step = fnn.train.make_step(net, loss, optax.sgd(0.1), private=private)
    >>> state, metrics = step(step.init(jax.random.key(0), x), (x, label, jnp.arange(8) < 4))
    >>> int(state.spent.steps)
    1
    """

    norm: float
    noise_multiplier: float
    batch_size: float
    sampling: float
    per: str = "network"
    automatic: bool = False

    def __post_init__(self) -> None:
        fits = self.norm > 0 and self.noise_multiplier > 0 and self.batch_size > 0
        if not (fits and 0 < self.sampling <= 1 and self.per in ("network", "layer")):
            wanted = 'norm, noise_multiplier, batch_size > 0, sampling in (0, 1], per "network" or "layer"'
            fix = "fnn.train.Private(norm=1.0, noise_multiplier=1.1, batch_size=256, sampling=256 / 60_000)"
            raise InputError("Private", wanted, repr(self), fix)

    def init(self) -> Spent:
        """Return the accountant before the first step."""
        return Spent(jnp.float32(self.noise_multiplier), jnp.float32(self.sampling), jnp.int32(0))

    def after(self, spent: Spent) -> Spent:
        """Return the accountant after one more step."""
        noise = jnp.minimum(spent.noise_multiplier, self.noise_multiplier)
        return Spent(noise, jnp.maximum(spent.sampling, self.sampling), spent.steps + 1)
