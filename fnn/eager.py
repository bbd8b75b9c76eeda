"""Loops outside of `jax.jit`: compiled once, not with every call."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import jax
from jax.core import Tracer

Looping = TypeVar("Looping", bound=Callable[..., Any])


def compiled_once(*static: int) -> Callable[[Looping], Looping]:
    """Make a function run compiled where it is called outside of `jax.jit`, and not be traced again.

    Alone, `lax.scan` traces and compiles its body whenever that is another function, and one that refers to
    arrays is another with every call. Where an argument is traced, or is no array, the function itself runs.

    Args:
        static: the numbers of the arguments that are hashable, such as the layer; others are pytrees of
            arrays.
    """

    def around(loop: Looping) -> Looping:
        compiled = jax.jit(loop, static_argnums=static)

        @wraps(loop)
        def run(*args: Any) -> Any:
            leaves = jax.tree.leaves([arg for i, arg in enumerate(args) if i not in static])
            concrete = all(isinstance(x, jax.Array) and not isinstance(x, Tracer) for x in leaves)
            return (compiled if concrete and _are_hashable(args[i] for i in static) else loop)(*args)

        return run  # pyright: ignore[reportReturnType]

    return around


def _are_hashable(things: Any) -> bool:
    try:
        hash(tuple(things))
    except TypeError:
        return False
    return True
