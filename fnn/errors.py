"""Errors that say what was expected, what came, where in the network, and the call that would be right."""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class InputError(ValueError):
    """Bad input, found at trace time from shapes and dtypes.

    Its text reads "net.layers[2]: Dense(10): expected ..., got ...: try `...`"; the place is a Python
    expression, filled in by the compositions that the error passes on its way out.
    """

    def __init__(self, who: object, expected: str, got: str, fix: str):
        super().__init__(who, expected, got, fix)
        self.text = f"{who}: expected {expected}, got {got}: try `{fix}`"
        self.place = ""

    def __str__(self) -> str:
        return f"net{self.place}: {self.text}" if self.place else self.text


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put `place`, an attribute or index such as `.layers[2]`, before the place of an error from inside."""
    try:
        yield
    except InputError as error:
        error.place = place + error.place
        raise


def brief(self: Any) -> str:
    """Return a dataclass's repr without the fields that have their default value: `Dense(10, bias=False)`."""
    shown = []
    for field in dataclasses.fields(self):
        value = getattr(self, field.name)
        if field.default is dataclasses.MISSING:
            shown.append(repr(value))
        elif field.repr and value != field.default:
            shown.append(f"{field.name}={value!r}")
    return f"{type(self).__name__}({', '.join(shown)})"


def describe(x: Any) -> str:
    """Name an array by dtype and shape, `float32[32,64]`; any other value by its type or itself."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype}[{','.join(map(str, x.shape))}]"
    if isinstance(x, (dict, tuple, list)) and jax.tree.leaves(x):
        return str(jax.tree.map(describe, x)).replace("'", "")
    return repr(x)


def is_array(x: Any) -> bool:
    """Tell whether `x` has a shape and a dtype."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def check_array(who: object, x: Any, name: str = "x", kind: Any = np.generic) -> None:
    """Raise unless `x` has a shape and a dtype. Of a tree the hint picks an entry of this `kind` of dtype."""
    if is_array(x):
        return
    if isinstance(x, (dict, tuple, list)) and x and all(map(is_array, jax.tree.leaves(x))) and name == "x":
        entries = dict(x) if isinstance(x, dict) else dict(enumerate(x))
        fits = [
            key for key, entry in entries.items() if is_array(entry) and jnp.issubdtype(entry.dtype, kind)
        ]
        fix = f"fnn.Serial(fnn.Select({(fits or list(entries))[0]!r}), {who!r})"
        raise InputError(who, "one array as x, not a tree", describe(x), fix)
    raise InputError(who, f"an array as {name}", describe(x), f"jnp.asarray({name})")


def check_key(who: object, key: Any, fix: str) -> None:
    """Raise unless `key` is one random key: typed, or raw and of the shape that the configured kind has."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    raw = dtype == np.uint32 and shape == _raw_shape(jax.config.jax_default_prng_impl)  # pyright: ignore[reportAttributeAccessIssue]
    if not raw and not (typed and shape == ()):
        raise InputError(who, "one random key", describe(key), fix)


@cache
def _raw_shape(kind: str) -> tuple[int, ...]:
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=kind))).shape


def check_noise(who: object, key: Any, fix: str) -> None:
    """Raise unless `key` is one random key, or None."""
    if key is not None:
        check_key(who, key, fix)


def split_key(who: str, key: Any) -> Any:
    """Return two keys, each None where `key` is. Raises InputError unless it is None or one random key."""
    check_noise(who, key, "jax.random.key(0)")
    return (None, None) if key is None else jax.random.split(key)


def check_floating(who: object, x: Any, name: str = "x") -> None:
    """Raise unless `x` is an array of a floating dtype."""
    check_array(who, x, name, jnp.floating)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(who, f"floating-point {name}", describe(x), f"{name}.astype(jnp.float32)")


def check_params(who: object, params: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise unless `params` is a dict of arrays of these shapes: params of another network come to light."""
    good = isinstance(params, dict) and {name: np.shape(p) for name, p in params.items()} == shapes
    if not good:
        expected = "params {" + ", ".join(f"{name}: {shape}" for name, shape in shapes.items()) + "}"
        raise InputError(who, expected, describe(params), "params = fnn.init(net, key, x)")


def check_cotangent(who: object, dy: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise unless the cotangent `dy` has the shape and the dtype of its primal `y`."""
    if getattr(dy, "shape", None) != shape or dy.dtype != dtype:
        wanted = f"{np.dtype(dtype).name}[{','.join(map(str, shape))}]"
        fits = is_array(dy) and math.prod(dy.shape) == math.prod(shape)
        fix = "dy.reshape(y.shape).astype(y.dtype)" if fits else "jnp.ones_like(y)"
        raise InputError(who, f"dy like y, {wanted}", describe(dy), fix)


def check_size(who: str, name: str, value: Any, fix: str) -> None:
    """Raise unless `value` is an integer of at least one; `fix` is a call with one."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(who, f"{name} to be an integer >= 1", repr(value), fix)


def check_range(who: object, index: Any, size: int, what: str, fix: str, below: str) -> None:
    """Raise if an integer array that holds values, not only a shape, leaves 0 .. size - 1.

    `fix` is the call for a number that is too large, with `{least}` for the size that it asks for; where that
    is absurd, or a number is negative, `below` is.

    Under jit and vmap the values are not known, and nothing is raised: there the caller gives NaN.
    """
    try:
        low, high = (int(index.min()), int(index.max())) if index.size else (0, 0)
    except jax.errors.ConcretizationTypeError:
        return
    if low < 0 or high >= size:
        fix = below if low < 0 or high >= 100 * max(size, 100) else fix.format(least=high + 1)
        raise InputError(who, f"{what} in 0 .. {size - 1}", f"{low} .. {high}", fix)
