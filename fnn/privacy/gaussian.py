"""Differentially private gradients (DP-SGD), and the privacy that they spend.

In a training step, draw every example with probability q (Poisson), put those drawn into a batch of fixed
size, mask out the rest of the batch, and pass the `private_gradient` to any optax optimizer. The optimizer
spends no privacy: its update is a function of the private gradient.

>>> import optax, fnn
>>> net, loss, optimizer = fnn.mlp([4, 8, 3]), fnn.softmax_cross_entropy(), optax.adam(1e-2)
>>> x, label, drawn_on_average, places = jnp.ones((256, 4)), jnp.zeros(256, jnp.int32), 32, 80
>>> private = fnn.privacy.private_gradient(net, loss, 1.0, noise_multiplier=1.1, batch_size=drawn_on_average)

>>> def step(carry, key):
...     (params, state), (draw, noise) = carry, jax.random.split(key)
...     drawn = jax.random.uniform(draw, (len(x),)) < drawn_on_average / len(x)
...     rows = jnp.nonzero(drawn, size=places, fill_value=0)[0]
...     mask = jnp.arange(places) < drawn.sum()
...     gradient, info = private(params, x[rows], label[rows], noise, mask)
...     updates, state = optimizer.update(gradient, state, params)
...     return (optax.apply_updates(params, updates), state), None

>>> params = fnn.init(net, jax.random.key(0), x)
>>> start = params, optimizer.init(params)
>>> (params, _), _ = jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 10))

These steps spend `fnn.privacy.privacy_spent(1.1, sampling=32 / 256, steps=10, delta=1e-5)`, which needs the
library dp-accounting, an extra. An example that is drawn beyond the fixed size of the batch is dropped, which
the accountant does not see: with a size eight standard deviations above the mean this happens less than once
in 1e14 steps.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator
from fnn.core import Layer, Params
from fnn.errors import InputError, check_number
from fnn.keys import check_key
from fnn.losses.objective import Objective
from fnn.privacy.clipping import Clipped, clipped_gradient


def private_gradient(
    net: Layer,
    loss: Objective,
    norm: Any,
    noise_multiplier: Any,
    batch_size: Any,
    *,
    per: str = "network",
    automatic: bool = False,
    microbatch: int | None = None,
) -> Callable[..., tuple[Any, Clipped]]:
    """Return a function `(params, x, target, key, mask=None, scale=None) -> (gradient, info)`, private.

    gradient = (sum of clipped example gradients + N(0, (noise_multiplier norm)^2)) / batch_size. Two data
    sets are neighbours if they differ by one example added or removed. The guarantee is for real numbers, not
    for floating-point ones (Mironov 2012).

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, or a function of your own, as for `fnn.Loss`.
        norm: the bound of each example's gradient, a number > 0.
        noise_multiplier: the standard deviation of the noise divided by `norm`, a number >= 0.
        batch_size: the expected number of examples, q times the size of the data: the actual one is private.
        per: "network" or "layer", as for `clipped_gradient`.
        automatic: as for `clipped_gradient`.
        microbatch: as for `clipped_gradient`.

    Args of the function:
        params, x, target, mask, scale: as for `clipped_gradient`.
        key: a random key, split between the dropout of the network and the noise.

    Returns of the function:
        the gradient, a tree like the params, and a `Clipped`, which is NOT private. The noise is drawn in
        float32 or wider.

    Raises:
        InputError: as `clipped_gradient`, and where `noise_multiplier` < 0 or `batch_size` <= 0.

    Cost: that of `clipped_gradient`, and one normal number for each param.
    Source: Abadi et al. 2016.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> private = private_gradient(net, loss, norm=2.0, noise_multiplier=0.0, batch_size=2)
    >>> gradient, info = private(params, jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1)), jax.random.key(0))
    >>> print(gradient["kernel"])
    [[1.5]]
    """
    fix = "fnn.privacy.private_gradient(net, loss, 1.0, noise_multiplier=1.1, batch_size=256)"
    for wanted, value, condition in (
        ("0 < norm < inf", norm, lambda norm: 0 < norm < math.inf),
        ("noise_multiplier >= 0", noise_multiplier, lambda noise: noise >= 0),
        ("batch_size > 0", batch_size, lambda size: size > 0),
    ):
        check_number("private_gradient", wanted, value, condition, fix)
    clipped = clipped_gradient(net, loss, norm, per=per, automatic=automatic, microbatch=microbatch)

    def run(
        params: Params, x: Any, target: Any, key: Any, mask: Any = None, scale: Any = None
    ) -> tuple[Any, Clipped]:
        check_key("private_gradient", key, "private(params, x, target, jax.random.key(0))")
        of_net, of_noise = jax.random.split(key)
        info = clipped(params, x, target, of_net, mask, scale)
        leaves, structure = jax.tree.flatten(info.gradient)
        keys = jax.random.split(of_noise, max(1, len(leaves)))

        def noisy(leaf: Any, key: Any) -> Any:
            acc = accumulator(leaf.dtype)
            noise = jax.random.normal(key, leaf.shape, acc) * jnp.asarray(noise_multiplier * norm, acc)
            return ((leaf.astype(acc) + noise) / jnp.asarray(batch_size, acc)).astype(leaf.dtype)

        return jax.tree.unflatten(structure, list(map(noisy, leaves, keys))), info

    return run


def privacy_spent(noise_multiplier: float, sampling: float, steps: int, delta: float) -> float:
    """Compute the epsilon that DP-SGD spends: an upper bound, by dp-accounting's privacy loss distributions.

    Two data sets are neighbours if they differ by one example added or removed.

    Args:
        noise_multiplier: the standard deviation of the noise divided by the clipping norm, > 0.
        sampling: the probability with which a step draws each example (Poisson), in (0, 1].
        steps: the number of steps, >= 1.
        delta: the delta of the guarantee, in (0, 1).

    Returns:
        epsilon.

    Raises:
        InputError: where a number is out of its range, or dp-accounting is not installed.

    Source: Koskela et al. 2020; Doroshenko et al. 2022.

    >>> round(privacy_spent(4.0, sampling=1.0, steps=1, delta=1e-5), 2)
    0.93
    """
    event = _event(noise_multiplier, sampling, steps, delta)
    return float(_dp_accounting().pld.PLDAccountant().compose(event).get_epsilon(delta))


def noise_for(epsilon: float, sampling: float, steps: int, delta: float) -> float:
    """Compute the least noise multiplier with which DP-SGD spends no more than `epsilon` at `delta`.

    Args:
        epsilon: the epsilon of the guarantee, > 0.
        sampling: the probability with which a step draws each example (Poisson), in (0, 1].
        steps: the number of steps, >= 1.
        delta: the delta of the guarantee, in (0, 1).

    Returns:
        the noise multiplier, the standard deviation of the noise divided by the clipping norm.

    Raises:
        InputError: where a number is out of its range, or dp-accounting is not installed.

    >>> round(noise_for(1.0, sampling=1.0, steps=1, delta=1e-5), 2)
    3.73
    """
    if not 0 < epsilon < math.inf:
        fix = "fnn.privacy.noise_for(3.0, sampling=1.0, steps=10, delta=1e-5)"
        raise InputError("noise_for", "0 < epsilon < inf", f"epsilon={epsilon}", fix)

    # With little noise the exact accountant takes long: Renyi's bound is had at once, and not far above.
    # Whole orders do for it: the sums of others may not converge, of which it warns.
    library = _dp_accounting()
    renyi = partial(library.rdp.RdpAccountant, orders=(*range(2, 65), 128, 256, 512, 1024))
    bound = _least_noise(renyi, 1.0, epsilon, sampling, steps, delta)
    return _least_noise(library.pld.PLDAccountant, bound, epsilon, sampling, steps, delta)


def _least_noise(
    accountant: Callable[[], Any], guess: float, epsilon: float, sampling: float, steps: int, delta: float
) -> float:
    """Compute the least noise multiplier by an accountant.

    Args:
        accountant: makes an accountant of dp-accounting.
        guess: where to look first.
        epsilon: the epsilon of the guarantee.
        sampling: the probability with which a step draws each example.
        steps: the number of steps.
        delta: the delta of the guarantee.
    """
    library = _dp_accounting()

    def event(noise_multiplier: float) -> Any:
        return _event(noise_multiplier, sampling, steps, delta)

    low = 0.85 * guess  # the less noise, the longer it takes
    while accountant().compose(event(low)).get_epsilon(delta) <= epsilon:
        guess, low = low, 0.85 * low
    bracket = library.LowerEndpointAndGuess(low, guess)
    return float(library.calibrate_dp_mechanism(accountant, event, epsilon, delta, bracket))


def _event(noise_multiplier: float, sampling: float, steps: int, delta: float) -> Any:
    if not 0 < sampling <= 1 or steps < 1 or not noise_multiplier > 0 or not 0 < delta < 1:
        got = f"noise_multiplier={noise_multiplier}, sampling={sampling}, steps={steps}, delta={delta}"
        fix = "fnn.privacy.privacy_spent(1.1, sampling=256 / 60_000, steps=1000, delta=1e-5)"
        wanted = "noise_multiplier > 0, 0 < sampling <= 1, steps >= 1, 0 < delta < 1"
        raise InputError("privacy_spent", wanted, got, fix)
    library = _dp_accounting()
    step = library.PoissonSampledDpEvent(sampling, library.GaussianDpEvent(noise_multiplier))
    return library.SelfComposedDpEvent(step, steps)


def _dp_accounting() -> Any:
    """Import Google's accountants. Raises InputError where they are not installed."""
    try:
        import dp_accounting
        from dp_accounting import pld as pld
        from dp_accounting import rdp as rdp
    except ImportError as error:
        raise InputError("fnn.privacy", "dp-accounting", str(error), 'pip install "fnn[privacy]"') from error
    return dp_accounting
