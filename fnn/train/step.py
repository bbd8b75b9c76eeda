"""A training step as a pure function of its state and its batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arrays import canonical
from fnn.core import Layer, Params, forward, init
from fnn.errors import InputError, describe
from fnn.keys import check_key
from fnn.losses.noise import draws_noise
from fnn.losses.objective import Objective
from fnn.memory.placed import shardings_like
from fnn.train.private import Private
from fnn.train.scaling import LossScale
from fnn.train.state import State
from fnn.train.updates import Updates

NotFinite = Literal["stop", "skip", "ignore"]


@dataclass(frozen=True, eq=False, repr=False)
class Step:
    """A training step, which `make_step` makes: `step(state, batch)` returns the new state and the metrics.

    Args:
        net: the network.
        loss: the loss.
        updates: how params and optimizer state follow from a batch.
        average: the decay of the average of the params, or None.
        loss_scale: how the loss scale follows the gradients, or None.
        private: how steps are private, or None.
        nonfinite: "stop", "skip" or "ignore", as for `make_step`.
        noise: whether layers draw noise.
        donate: whether a call reuses the buffers of its state.

    >>> import fnn, optax
    >>> step = fnn.train.make_step(fnn.Dense(1), fnn.squared_error(), optax.sgd(0.1))
    >>> isinstance(step, Step)
    True
    """

    net: Layer
    loss: Objective
    updates: Updates
    average: float | None = None
    loss_scale: LossScale | None = None
    private: Private | None = None
    nonfinite: NotFinite = "stop"
    noise: bool = True
    donate: bool = True

    def init(self, key: Any, x: Any, params: Params | None = None, shardings: Any = None) -> State:
        """Make the state before the first step.

        Args:
            key: a random key: for the params, and for the noise of all steps.
            x: the input of a batch, arrays or shapes (n, ..., k).
            params: the params to begin with, a pair with the loss's where it has some; None for those that
                `fnn.init` and `loss.init` make. They are copied, and keep their shardings.
            shardings: where each param lies on a mesh, a tree like the params, as of `fnn.shardings`; the
                rest of the state follows, by `fnn.train.shardings_like`. None to leave all where it is.
        """
        check_key("make_step", key, "step.init(jax.random.key(0), x)")
        of_params, of_noise = jax.random.split(key)
        if params is None:
            params = init(self.net, of_params, x)
            if self.loss.has_params:
                y = jax.eval_shape(lambda params, x: forward(self.net, params, x)[0], params, x)
                params = params, self.loss.init(jax.random.fold_in(of_params, 1), y)
        params = _copied(canonical(params))
        optimizer = _copied(self.updates.init(params, x))
        state = State(
            params,
            optimizer,
            of_noise,
            jnp.int32(0),
            average=() if self.average is None else _copied(params),
            scale=() if self.loss_scale is None else self.loss_scale.init(),
            spent=() if self.private is None else self.private.init(),
            halted=jnp.array(False),
        )
        return state if shardings is None else _put(state, shardings_like(state, params, shardings))

    def key(self, state: State) -> Any:
        """Return the random key of the next step; None where it draws nothing."""
        draws = (self.noise and draws_noise(self.net)) or self.private is not None
        return jax.random.fold_in(state.key, state.step) if draws else None

    def __call__(self, state: State, batch: Any) -> tuple[State, dict[str, Any]]:
        """Run one step, compiled.

        Args:
            state: the state. Where `donate` holds its buffers are reused: it cannot be read afterwards.
            batch: `(x, target)` or `(x, target, weights)`, examples on axis 0; the weights of a private step
                are its mask, (n,) booleans.

        Returns:
            the new state, and the metrics: "loss" (), "finite" () bool, "scale" () where there is one, and
            those that `make_step` was given.

        Raises:
            InputError: where the batch is no such tuple, or does not fit the network or the loss.
        """
        return self._compiled(state, canonical(self._checked(batch)))

    def _checked(self, batch: Any) -> tuple[Any, Any, Any]:
        """Return `(x, target, weights)`. Raises InputError where it is none, or none of a private step."""
        x, target, weights = as_batch(batch)
        if self.private is not None and self.private.sampling < 1 and weights is None:
            wanted = "a batch (x, target, mask) of examples that were drawn with the probability `sampling`"
            size = math.ceil(self.private.batch_size + 8 * math.sqrt(self.private.batch_size))
            fix = f"fnn.train.Batches((x, target), {size}, sampling={self.private.sampling})"
            raise InputError("step", wanted, describe(batch), fix)
        return x, target, weights

    @cached_property
    def _compiled(self) -> Callable[..., tuple[State, dict[str, Any]]]:
        return jax.jit(self.plain, donate_argnums=(0,) if self.donate else ())

    def plain(self, state: State, batch: Any) -> tuple[State, dict[str, Any]]:
        """Run one step as plain code, to be compiled with others. Args: `state`, `batch`, as for a call."""
        batch = canonical(self._checked(batch))
        scale = None if self.loss_scale is None else state.scale.value
        of_batch = self.key(state)
        params, optimizer, metrics = self.updates(state.params, state.optimizer, batch, of_batch, scale)
        finite, average, bearable = metrics["finite"], state.average, metrics["finite"]
        if self.average is not None:
            move = self.average
            average = jax.tree.map(
                lambda old, new: (move * old + (1 - move) * new).astype(old.dtype), average, params
            )
        new, scaled, spent = (params, optimizer, average), state.scale, state.spent
        if self.loss_scale is not None:
            scaled, metrics["scale"] = self.loss_scale.after(state.scale, finite), scale
            fault = ~jnp.isfinite(metrics["loss"]) | (state.scale.value <= self.loss_scale.least)
            bearable = finite | ~fault  # a smaller scale may help
        if self.private is not None:
            spent = self.private.after(spent)
        halted = state.halted | ~bearable if self.nonfinite == "stop" else state.halted
        if self.nonfinite != "ignore":
            old = state.params, state.optimizer, state.average
            new = _chosen(finite & ~halted, new, old)
            scaled, spent = _chosen(~halted, (scaled, spent), (state.scale, state.spent))
        step = state.step + jnp.where(halted, 0, 1)
        params, optimizer, average = new
        return State(params, optimizer, state.key, step, average, scaled, spent, halted), metrics


def as_batch(batch: Any) -> tuple[Any, Any, Any]:
    """Return a batch as `(x, target, weights)`, weights None where there are none.

    Raises:
        InputError: where it is no tuple of two or three.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise InputError(
            "step", "a batch (x, target) or (x, target, weights)", describe(batch), "(x, target)"
        )
    return tuple(batch) if len(batch) == 3 else (*batch, None)  # pyright: ignore[reportReturnType]


def _put(tree: Any, shardings: Any) -> Any:
    """Put a tree on a mesh; where that is of many processes, each has the whole tree."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def one(leaf: Any, sharding: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            impl, own = jax.random.key_impl(leaf), one(jax.random.key_data(leaf), sharding)
            return jax.random.wrap_key_data(own, impl=impl)
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(one, tree, shardings)


def _copied(tree: Any) -> Any:
    """Return copies, with their shardings: no buffer may be donated twice, nor be the caller's."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def _chosen(keep: Any, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)
