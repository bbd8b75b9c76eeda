"""The one place where fnn meets autodiff: a function with a derivative made by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental.jet import JetTracer

from fnn.arrays import canonical
from fnn.errors import InputError, check_numbers
from fnn.sharding import as_cotangent


def with_rule(
    who: object, plain: str, run: Callable, back: Callable, *args: Any, alone: Callable | None = None
) -> Any:
    """Return `run(*args)[0]`, differentiated by a derivative made by hand, in reverse mode alone.

    Args:
        who: the caller, for the error message.
        plain: the call that gives the same value as plain code, likewise.
        run: `run(*args)` returns `(value, saved)`.
        back: `back(saved, dvalue)` returns a cotangent for each of `args`.
        args: pytrees of arrays.
        alone: `alone(*args)` returns the same value at a lower cost, for calls that are not differentiated;
            None if there is no such function.

    Raises:
        InputError: in forward mode, where this call sees it; what a later program meets (`jax.jvp` under or
            around `jax.jit`, `jax.linearize`) JAX refuses itself.
    """
    args = canonical(args)
    for leaf in jax.tree.leaves(args):
        if isinstance(leaf, np.ndarray):
            check_numbers(who, leaf, "an argument")
        elif isinstance(leaf, str):
            raise InputError(who, "arrays of numbers", repr(leaf), "np.zeros((n, k), np.float32)")
    if any(not jax.typeof(leaf).sharding.mesh.empty for leaf in jax.tree.leaves(args)):
        back = partial(_typed, back, jax.eval_shape(lambda *args: args, *args))
    if any(isinstance(leaf, JetTracer) for leaf in jax.tree.leaves(args)):
        raise _forward_mode(who, plain)
    with _reverse_mode_alone(who, plain):
        return _with_rule(alone or (lambda *args: run(*args)[0]), run, back, *args)


@contextmanager
def _reverse_mode_alone(who: object, plain: str) -> Iterator[None]:
    """Say what to call where JAX says that what is inside has no forward mode."""
    try:
        yield
    except (TypeError, NotImplementedError) as error:
        if "forward-mode" not in str(error) and "custom_lin" not in str(error):
            raise
        raise _forward_mode(who, plain) from error


def _forward_mode(who: object, plain: str) -> InputError:
    return InputError(who, "reverse mode (jax.grad, jax.vjp)", "forward mode", plain)


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
