"""How params and the optimizer's state follow from a batch: after the gradient, or during the backward."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator
from fnn.core import Layer, Params
from fnn.losses.objective import Objective
from fnn.privacy.clipping import divided
from fnn.privacy.gaussian import private_gradient
from fnn.train.gradients import Found
from fnn.train.metrics import Metric, Observed
from fnn.train.private import Private
from fnn.train.update import Update


class Updates(Protocol):
    """What a step asks for its update: the optimizer's first state, and a call for each batch."""

    def init(self, params: Params, x: Any) -> Any:
        """Return the optimizer's state before the first step. Args: `params`; `x`, as for `Step.init`."""
        ...

    def __call__(
        self, params: Params, optimizer: Any, batch: tuple[Any, Any, Any], key: Any, scale: Any
    ) -> tuple[Params, Any, dict[str, Any]]:
        """Return new params, the optimizer's new state, and the metrics: "loss" and "finite" among them.

        Args:
            params: the params.
            optimizer: the state of the optimizer.
            batch: `(x, target, weights)`, weights or None.
            key: the random key of the step, or None.
            scale: the loss scale, or None.
        """
        ...


@dataclass(frozen=True, eq=False)
class AfterGradient:
    """The usual update: the whole gradient, then the optimizer.

    Args:
        gradient: `gradient(params, x, target, key, weights, scale)` returns a `Found`.
        optimizer: the optax optimizer.
        metrics: the metrics, by name. Their readings and activations are in `Found`, in this order.
        clip: the most that the norm of the whole gradient may be, or None.
    """

    gradient: Callable[..., Found]
    optimizer: Any
    metrics: dict[str, Metric]
    clip: float | None = None

    def init(self, params: Params, x: Any) -> Any:
        """Return the optimizer's state before the first step."""
        with jax.numpy_dtype_promotion("standard"):  # optax asks for promotions
            return self.optimizer.init(params)

    def __call__(
        self, params: Params, optimizer: Any, batch: tuple[Any, Any, Any], key: Any, scale: Any
    ) -> tuple[Params, Any, dict[str, Any]]:
        """Compute the gradient, and update."""
        from optax import apply_updates  # not when fnn is imported: it is heavy

        x, target, weights = batch
        found = self.gradient(params, x, target, key, weights, scale)
        grads = divided(found.grads, scale, 1)
        finite = jnp.isfinite(found.value)
        for leaf in jax.tree.leaves(grads):  # 0 times inf is NaN; a sum takes half the time of a conjunction
            finite &= jnp.isfinite(jnp.sum(0 * leaf))
        used = grads if self.clip is None else _clipped(grads, self.clip)
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer = self.optimizer.update(used, optimizer, params)
            new = apply_updates(params, updates)
        examples = _examples(x, weights)
        by = jnp.float32(1) if scale is None else scale
        observed = Observed(found.value, params, grads, updates, scale=by, examples=examples)
        metrics = {"loss": found.value, "finite": finite}
        readings, watched = iter(found.readings), iter(found.watched)
        for name, metric in self.metrics.items():
            own = () if metric.read is None else next(readings), () if metric.watch is None else next(watched)
            metrics[name] = metric.compute(observed._replace(readings=own[0], watched=own[1]))
        return new, optimizer, metrics


@dataclass(frozen=True, eq=False)
class InBackward:
    """The update of every param during the backward pass.

    Args:
        update: what `update_in_backward` returned.
    """

    update: Update

    def init(self, params: Params, x: Any) -> Any:
        """Return the state before the first step."""
        return self.update.init(params, x)

    def __call__(
        self, params: Params, optimizer: Any, batch: tuple[Any, Any, Any], key: Any, scale: Any
    ) -> tuple[Params, Any, dict[str, Any]]:
        """Run the backward pass."""
        x, target, weights = batch
        params, optimizer, value = self.update.step(params, optimizer, x, target, key, weights, scale)
        return params, optimizer, {"loss": value, "finite": jnp.isfinite(value)}


@dataclass(frozen=True, eq=False)
class PrivateGradient:
    """A private gradient as a `Found`; its value, the mean loss of the examples, is NOT private.

    Args:
        net: the network.
        loss: the loss.
        private: how it is made private.
        microbatch: the number of examples at a time, or None.
    """

    net: Layer
    loss: Objective
    private: Private
    microbatch: int | None = None

    @cached_property
    def _run(self) -> Callable[..., Any]:
        own = self.private
        return private_gradient(
            self.net,
            self.loss,
            own.norm,
            own.noise_multiplier,
            own.batch_size,
            per=own.per,
            automatic=own.automatic,
            microbatch=self.microbatch,
        )

    def __call__(self, params: Params, x: Any, target: Any, key: Any, weights: Any, scale: Any) -> Found:
        """Compute it. Args: `params`, `x`, `target`, `key`, `weights` (the mask), `scale`, as for a step."""
        gradient, info = self._run(params, x, target, key, weights, scale)
        grads = gradient if scale is None else jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)
        drawn = jnp.ones(info.losses.shape, bool) if weights is None else weights.astype(bool)
        losses = jnp.where(drawn & info.finite, info.losses, 0)
        return Found(losses.sum() / jnp.maximum(drawn.sum(dtype=losses.dtype), 1), grads, (), ())


def _examples(x: Any, weights: Any) -> Any:
    """Return the number of examples whose weights are not all 0, () float32."""
    n = next((leaf.shape[0] for leaf in jax.tree.leaves(x) if leaf.ndim), 1)
    counted = jnp.ones(n, bool)
    for leaf in jax.tree.leaves(weights):
        if leaf.shape[:1] == (n,):
            counted &= leaf.astype(bool).reshape(n, -1).any(1)
    return counted.sum(dtype=jnp.float32)


def _clipped(grads: Any, most: float) -> Any:
    """Scale a gradient to a norm of at most `most`, computed in float32 or wider."""
    leaves = [jnp.sum(jnp.square(leaf.astype(accumulator(leaf.dtype)))) for leaf in jax.tree.leaves(grads)]
    with jax.numpy_dtype_promotion("standard"):
        norm = jnp.sqrt(sum(leaves[1:], leaves[0]) if leaves else jnp.zeros(()))
    by = jnp.where(norm < most, 1, most / jnp.where(norm == 0, 1, norm))
    return jax.tree.map(lambda leaf: (leaf * by.astype(accumulator(leaf.dtype))).astype(leaf.dtype), grads)
