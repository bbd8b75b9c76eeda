"""Random keys: what one is, and two made of one."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe


def check_key(who: object, key: Any, fix: str) -> None:
    """Check that a value is one random key: typed, or raw and of the shape that the configured kind has.

    Args:
        who: the layer or function that asks, for the error message.
        key: the value.
        fix: a right call, for the error message.

    Raises:
        InputError: where it is not.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    raw = dtype == np.uint32 and shape == _raw_shape(jax.config.jax_default_prng_impl)  # pyright: ignore[reportAttributeAccessIssue]
    if not raw and not (typed and shape == ()):
        raise InputError(who, "one random key", describe(key), fix)


@cache
def _raw_shape(kind: str) -> tuple[int, ...]:
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=kind))).shape


def check_noise(who: object, key: Any, fix: str) -> None:
    """Check that a value is one random key, or None.

    Args:
        who: the layer or function that asks, for the error message.
        key: the value.
        fix: a right call, for the error message.

    Raises:
        InputError: where it is neither.
    """
    if key is not None:
        check_key(who, key, fix)


def split_key(who: str, key: Any) -> Any:
    """Return two keys made of one, each None where there is none.

    Args:
        who: the layer or function that asks, for the error message.
        key: a random key, or None.

    Raises:
        InputError: where it is neither.
    """
    check_noise(who, key, "jax.random.key(0)")
    return (None, None) if key is None else jax.random.split(key)
