"""What was not finite in a training step: which layer, which examples."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fnn.core import forward
from fnn.describe.activations import activations
from fnn.errors import InputError
from fnn.losses.objective import value_and_grad
from fnn.readers.examples import squared_norm
from fnn.readers.seeding import losses_and_readings
from fnn.readings import sum_over_params
from fnn.train.state import State
from fnn.train.step import Step, as_batch


class NotFiniteError(ArithmeticError):
    """A loss or a gradient is infinite or not a number; the text says in which step, layer and example.

    Args:
        step: the number of the step.
        what: what is not finite.

    >>> str(NotFiniteError(12, "the loss"))
    'step 12: the loss is not finite'
    """

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"step {step:,}: {what} is not finite")
        self.step, self.what = step, what


def fault(step: Step, state: State, batch: Any) -> str | None:
    """Find the first thing that is not finite in a step, computed again without compilation.

    Args:
        step: the step.
        state: the state before it, as a step with "stop" leaves it.
        batch: its batch.

    Returns:
        what it is: a param, a part of the batch, the output of a layer, the loss or the gradient, with the
        examples; None where all is finite.

    >>> import fnn, jax.numpy as jnp, optax
    >>> step = fnn.train.make_step(fnn.Dense(1), fnn.squared_error(), optax.sgd(0.1), donate=False)
    >>> batch = jnp.array([[1.0], [jnp.inf]]), jnp.zeros((2, 1))
    >>> fault(step, step.init(jax.random.key(0), batch[0]), batch)
    "the batch's [0] of example 1"
    """
    return next(_faults(step, state, batch), None)


def _faults(step: Step, state: State, batch: Any) -> Iterator[str]:
    x, target, weights = as_batch(batch)
    for path, leaf in jax.tree.leaves_with_path(state.params):
        if not _finite(leaf).all():
            yield f"params{jax.tree_util.keystr(path)}"
    entries = (x, target) if weights is None else (x, target, weights)
    for path, leaf in jax.tree.leaves_with_path(entries):
        if not _finite(leaf).all():
            yield f"the batch's {jax.tree_util.keystr(path)}{_examples(leaf)}"
    of_net, _ = step.loss.split(state.params)
    key = step.key(state)
    y, residuals = forward(step.net, of_net, x, key)
    for place, value in {**activations(step.net, of_net, residuals), "": y}.items():
        for leaf in jax.tree.leaves(value):
            if not _finite(leaf).all():
                n = jax.tree.leaves(x)[0].shape[0]
                rows = (
                    leaf
                    if leaf.shape[:1] == (n,)
                    else np.moveaxis(np.asarray(leaf), 1, 0)
                    if leaf.ndim > 1
                    else leaf
                )
                yield f"the output of {place or 'the network'}{_examples(rows)}"
    run = losses_and_readings(step.net, step.loss, squared_norm)
    try:
        losses, readings = run(state.params, x, target, key, weights=weights)
    except InputError:  # examples that cannot be told apart
        losses, readings = value_and_grad(step.net, step.loss)(state.params, x, target, key, weights)
        losses, squares = losses.reshape(1), None
    else:
        squares = sum_over_params(readings)
    if not _finite(losses).all():
        yield f"the loss{_examples(losses) if squares is not None else ''}"
    if squares is not None and not _finite(squares).all():
        yield f"the gradient{_examples(squares)}"
    _, grads = value_and_grad(step.net, step.loss, noise=False)(state.params, x, target, key, weights)
    for path, leaf in jax.tree.leaves_with_path(grads):
        if not _finite(leaf).all():
            yield f"the gradient by params{jax.tree_util.keystr(path)}"


def _finite(leaf: Any) -> Any:
    array = np.asarray(leaf)
    if array.dtype.kind in "biu?":
        return np.ones(array.shape, bool)
    return np.isfinite(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))


def _examples(leaf: Any) -> str:
    """Return which indices of axis 0 are not finite, in words; the first few of many."""
    finite = _finite(leaf)
    if finite.ndim == 0:
        return ""
    bad = np.flatnonzero(~finite.reshape(len(finite), -1).all(1)).tolist()
    few = ", ".join(map(str, bad[:5]))
    return f" of example{'s' * (len(bad) > 1)} {few}" + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
