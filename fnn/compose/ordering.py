"""An order between computations that a compiler must keep."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def with_dependency(x: Any, on: Any) -> Any:
    """Return the arrays of x with an artificial dependency on those of `on`, of which one number is read.

    XLA then cannot merge what is recomputed from x with what the forward computed, which would keep the
    forward's values alive: the memory would be spent after all. On a TPU this is an optimization barrier. XLA
    on a CPU drops barriers, and on a GPU they keep what is behind them from its fusions; there the arrays go
    through a selection that always takes them and depends on the number.
    """
    arrays = [leaf for leaf in jax.tree.leaves(on) if leaf.size and leaf.dtype != jax.dtypes.float0]
    if not arrays or not jax.tree.leaves(x):
        return x

    def selected(x: Any, array: Any) -> Any:
        never = _never(lax.stop_gradient(array[(0,) * array.ndim]))
        return jax.tree.map(lambda leaf: jnp.where(never, jnp.zeros_like(leaf), leaf), x)

    def barrier(x: Any, array: Any) -> Any:
        return lax.optimization_barrier((x, array))[0]

    return lax.platform_dependent(x, arrays[0], tpu=barrier, default=selected)


@jax.custom_batching.custom_vmap
def _never(number: Any) -> Any:
    """Return False, in a way that no compiler sees through; under vmap one for all."""
    return jnp.where(number == 0, 1, 2) > 2


@_never.def_vmap
def _never_of_many(size: int, batched: list[bool], numbers: Any) -> tuple[Any, bool]:
    return _never(numbers[0]), False
