"""What a training step takes and returns: a pytree of arrays, whole in every checkpoint."""

from typing import Any, NamedTuple

from jaxtyping import Array

from fnn.arrays import PyTree
from fnn.core import Params


class State(NamedTuple):
    """The state of a training run: all that the next step depends on beside its batch.

    Args:
        params: the params of the network; a pair with those of the loss where it has some.
        optimizer: the state of the optimizer.
        key: the random key of the run, which stays the same: step i draws from `jax.random.fold_in(key, i)`.
        step: the number of batches that were taken, () int32.
        average: the exponential moving average of the params, a tree like them; () where none is kept.
        scale: a `Scale`, the loss scale of float16; () where there is none.
        spent: a `Spent`, the steps whose noise was drawn; () where nothing is private.
        halted: whether a value was not finite: no further step changes the state, () bool.

    >>> import fnn, jax, optax
    >>> x = jax.numpy.ones((8, 4))
    >>> step = fnn.train.make_step(fnn.mlp([4, 8, 3]), fnn.softmax_cross_entropy(), optax.adam(1e-3))
    >>> state = step.init(jax.random.key(0), x)
    >>> int(state.step), bool(state.halted)
    (0, False)
    """

    params: Params
    optimizer: Any
    key: Array
    step: Array
    average: PyTree[Array] = ()
    scale: Any = ()
    spent: Any = ()
    halted: Any = ()
