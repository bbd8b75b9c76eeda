"""The one place where fnn meets autodiff: a function with a derivative made by hand."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from fnn.arrays import canonical
from fnn.sharding import as_cotangent


def with_rule(run: Callable, back: Callable, *args: Any, alone: Callable | None = None) -> Any:
    """Return `run(*args)[0]`, differentiated by a derivative made by hand, in reverse mode.

    Args:
        run: `run(*args)` returns `(value, saved)`.
        back: `back(saved, dvalue)` returns a cotangent for each of `args`.
        args: pytrees of arrays.
        alone: `alone(*args)` returns the same value at a lower cost, for calls that are not differentiated;
            None if there is no such function.
    """
    args = canonical(args)
    if any(not jax.typeof(leaf).sharding.mesh.empty for leaf in jax.tree.leaves(args)):
        back = partial(_typed, back, jax.eval_shape(lambda *args: args, *args))
    return _with_rule(alone or (lambda *args: run(*args)[0]), run, back, *args)


def _typed(back: Callable, types: tuple[Any, ...], saved: Any, dvalue: Any) -> tuple[Any, ...]:
    """Return the cotangents with the shardings and the varying axes of the arguments."""
    found = zip(back(saved, dvalue), types, strict=True)
    return tuple(None if ours is None else as_cotangent(ours, of) for ours, of in found)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _with_rule(alone: Callable, run: Callable, back: Callable, *args: Any) -> Any:
    return alone(*args)


_with_rule.defvjp(
    lambda alone, run, back, *args: run(*args),
    lambda alone, run, back, saved, dvalue: back(saved, dvalue),
)
