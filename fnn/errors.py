"""Errors that say what was expected, what came instead, where in the network, and a call that is right."""

import dataclasses
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class InputError(ValueError):
    """Wrong input, found when a function is traced, from shapes and dtypes.

    Its text is "net.layers[2]: Dense(10): expected ..., got ...: try `...`"; the place is a Python
    expression, to which each composition that the error passes adds its own part.

    Args:
        who: the layer or the name of the function that raises it.
        expected: what was expected.
        got: what came instead.
        fix: a call that is right, as code.

    >>> str(InputError("mlp", "two or more sizes", "[3]", "fnn.mlp([3, 10])"))
    'mlp: expected two or more sizes, got [3]: try `fnn.mlp([3, 10])`'
    """

    def __init__(self, who: object, expected: str, got: str, fix: str) -> None:
        super().__init__(who, expected, got, fix)
        self.text: str = f"{who}: expected {expected}, got {got}: try `{fix}`"
        self.place: str = ""

    def __str__(self) -> str:
        return f"net{self.place}: {self.text}" if self.place else self.text


class at:
    """Name what runs inside by a layer's place: in profiles, and in an error, before the place that it has.

    Args:
        place: a layer's attribute or index in its composition, such as `.layers[2]`.
    """

    def __init__(self, place: str) -> None:
        self.place: str = place
        scope = place.replace('["', ".").replace('"]', "").lstrip(".")  # `["a"].layers[2]`: a.layers[2]
        self.scope: AbstractContextManager[Any] = jax.named_scope(scope) if scope else nullcontext()

    def __enter__(self) -> None:
        self.scope.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.scope.__exit__(kind, error, trace)
        if isinstance(error, InputError):
            error.place = self.place + error.place


def brief(self: Any) -> str:
    """Return a dataclass's repr without the fields that have their default value: `Dense(10, bias=False)`."""
    shown = []
    for field in dataclasses.fields(self):
        value = getattr(self, field.name)
        value = value.item() if isinstance(value, np.generic) else value
        if field.default is dataclasses.MISSING:
            shown.append(repr(value))
        elif field.repr and value != field.default:
            shown.append(f"{field.name}={value!r}")
    return f"{type(self).__name__}({', '.join(shown)})"


def describe(x: Any) -> str:
    """Return a text for an array, `float32[32,64]`, or for any other value, its repr."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype}[{','.join(map(str, x.shape))}]"
    if isinstance(x, (dict, tuple, list)) and jax.tree.leaves(x):
        return str(jax.tree.map(describe, x)).replace("'", "")
    kinds: tuple[Any, ...] = (bool, int, float, complex)  # JAX traces Python's numbers as types of its own
    return repr(next((kind(x) for kind in kinds if isinstance(x, kind)), x))


def is_array(x: Any) -> bool:
    """Return whether `x` has a shape and a dtype."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def check_array(who: object, x: Any, name: str = "x", kind: Any = np.generic) -> None:
    """Check that a value is an array.

    Args:
        who: the layer or function that asks, for the error message.
        x: the value.
        name: the name of the argument, for the error message.
        kind: the kind of dtype that is wanted: of a tree the message suggests an entry of that kind.

    Raises:
        InputError: where it has no shape or no dtype.
    """
    if is_array(x):
        check_numbers(who, x, name)
        return
    if isinstance(x, (dict, tuple, list)) and x and all(map(is_array, jax.tree.leaves(x))) and name == "x":
        entries = dict(x) if isinstance(x, dict) else dict(enumerate(x))
        fits = [key for key, v in entries.items() if is_array(v) and jnp.issubdtype(v.dtype, kind)]
        fix = f"fnn.Serial(fnn.Select({(fits or list(entries))[0]!r}), {who!r})"
        raise InputError(who, "one array as x, not a tree", describe(x), fix)
    raise InputError(who, f"an array as {name}", describe(x), f"jnp.asarray({name})")


def check_numbers(who: object, x: Any, name: str = "x") -> None:
    """Check that an array, which may be NumPy's, is one of numbers.

    Args:
        who: the layer or function that asks, for the error message.
        x: the array.
        name: the name of the argument, for the error message.

    Raises:
        InputError: where its entries are objects, texts, dates or records.
    """
    dtype = x.dtype
    if isinstance(dtype, np.dtype) and dtype != jax.dtypes.float0 and (dtype.kind in "OUSMm" or dtype.names):
        raise InputError(who, f"an array of numbers as {name}", describe(x), "np.zeros((n, k), np.float32)")


def refuted(condition: Callable[[Any], Any], value: Any) -> bool:
    """Return whether a number is known to break a rule. Args: `condition`, the rule; `value`, the number."""
    try:
        return not condition(value)
    except jax.errors.ConcretizationTypeError:
        return False


def check_number(who: object, wanted: str, value: Any, condition: Callable[[Any], Any], fix: str) -> None:
    """Check that a value is one real number, of which a condition holds as far as the number is known.

    Args:
        who: the layer or function that asks, for the error message.
        wanted: the condition in words, for the error message: `norm > 0`.
        value: the value.
        condition: the condition, a function of the number.
        fix: a right call, for the error message.

    Raises:
        InputError: where it is no number, or the condition is known to be false.
    """
    if is_array(value):
        number = value.shape == () and any(
            jnp.issubdtype(value.dtype, k) for k in (jnp.floating, jnp.integer)
        )
    else:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or refuted(condition, value):
        raise InputError(who, wanted, f"{value}" if number else describe(value), fix)


def check_floating(who: object, x: Any, name: str = "x") -> None:
    """Check that a value is an array of a floating dtype.

    Args:
        who: the layer or function that asks, for the error message.
        x: the value.
        name: the name of the argument, for the error message.

    Raises:
        InputError: where it is not.
    """
    check_array(who, x, name, jnp.floating)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(who, f"floating-point {name}", describe(x), f"{name}.astype(jnp.float32)")


def check_params(who: object, params: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Check that params are a dict of arrays of these shapes, so not the params of another layer.

    Args:
        who: the layer that asks, for the error message.
        params: the params.
        shapes: the shape of each array by name.

    Raises:
        InputError: where they are not.
    """
    if not isinstance(params, dict) or {name: np.shape(p) for name, p in params.items()} != shapes:
        expected = "params {" + ", ".join(f"{name}: {shape}" for name, shape in shapes.items()) + "}"
        raise InputError(who, expected, describe(params), "params = fnn.init(net, key, x)")


def check_cotangent(who: object, dy: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Check that a cotangent has the shape and the dtype of its primal y.

    Args:
        who: the layer that asks, for the error message.
        dy: the cotangent.
        shape: the shape of y.
        dtype: the dtype of y.

    Raises:
        InputError: where it has not.
    """
    if getattr(dy, "shape", None) != shape or dy.dtype != dtype:
        wanted = f"{np.dtype(dtype).name}[{','.join(map(str, shape))}]"
        fits = is_array(dy) and math.prod(dy.shape) == math.prod(shape)
        turned = fits and dy.ndim > 1 and dy.shape == shape[::-1] != shape
        fix = f"dy.{'T' if turned else 'reshape(y.shape)'}.astype(y.dtype)" if fits else "jnp.ones_like(y)"
        raise InputError(who, f"dy like y, {wanted}", describe(dy), fix)


def check_size(who: str, name: str, value: Any, fix: str) -> None:
    """Check that a value is an integer of at least one.

    Args:
        who: the layer or function that asks, for the error message.
        name: the name of the argument, for the error message.
        value: the value.
        fix: a call with a right one, for the error message.

    Raises:
        InputError: where it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(who, f"{name} to be an integer >= 1", repr(value), fix)


def check_range(who: object, index: Any, size: int, what: str, fix: str, below: str) -> None:
    """Check that all numbers of an integer array are in 0 .. size - 1.

    Under jit and vmap the numbers are not known, and nothing is raised: there the caller returns NaN.

    Args:
        who: the layer or function that asks, for the error message.
        index: the integer array.
        size: the number of values that are right.
        what: what the numbers are, for the error message.
        fix: a right call where a number is too large, with `{least}` for the size that it needs.
        below: a right call where a number is negative, or far too large.

    Raises:
        InputError: where a number is known to be out of the range.
    """
    try:
        low, high = (int(index.min()), int(index.max())) if index.size else (0, 0)
    except jax.errors.ConcretizationTypeError:
        return
    if low < 0 or high >= size:
        fix = below if low < 0 or high >= 100 * max(size, 100) else fix.format(least=high + 1)
        raise InputError(who, f"{what} in 0 .. {size - 1}", f"{low} .. {high}", fix)
