"""Values as features of a record: lists of bytes, of float32 or of int64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe

_RAW = bytes, bytearray, memoryview, str


def check_name(name: Any, count: int) -> None:
    """Check that a feature can have a name.

    Args:
        name: the name.
        count: the number of its example, for the error message.

    Raises:
        InputError: where it is no text, or UTF-8 cannot write it.
    """
    if not isinstance(name, str):
        fix = "{str(name): value for name, value in example.items()}"
        raise InputError("write_records", "text as a name", shown(name, count), fix)
    if not name.isascii() and name != name.encode(errors="replace").decode():
        fix = "{name.encode(errors='replace').decode(): value for name, value in example.items()}"
        raise InputError("write_records", "a name that UTF-8 can write", shown(name, count), fix)


def feature_of(name: str, value: Any, count: int) -> tuple[str, list[Any]]:
    """Return the kind of list that a value becomes, and what is in it.

    Args:
        name: the feature's name, for the error message.
        value: the value.
        count: the number of its example, for the error message.

    Raises:
        InputError: where the value has no such list.
    """

    def refused(expected: str, fix: str) -> InputError:
        return InputError("write_records", f"{name!r} to be {expected}", shown(value, count), fix)

    raw = [value] if isinstance(value, _RAW) else value
    if isinstance(raw, (list, tuple)) and raw and all(isinstance(v, _RAW) for v in raw):
        try:
            return "bytes", [v.encode() if isinstance(v, str) else bytes(v) for v in raw]
        except UnicodeEncodeError as error:
            fix = 'value.encode("utf-8", "surrogatepass")'
            if raw is value:
                each = f"{fix.replace('value', 'v')} if isinstance(v, str) else v"
                fix = f"[{each} for v in np.asarray(value, object).ravel()]"
            raise refused("text that UTF-8 can write", fix) from error
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise refused("real numbers, or bytes", "jax.random.key_data(value)")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise refused("one array, its rows of one length", _flat(name, value)) from error
    if isinstance(value, (list, tuple)) and array.dtype == np.float64:  # NumPy's for integers beyond int64
        objects = np.asarray(value, object)
        array = objects if all(isinstance(v, int) for v in objects.ravel()) and objects.size else array
    kind = array.dtype.kind
    if array.size and (kind in "SU" or (kind == "O" and all(isinstance(v, _RAW) for v in array.ravel()))):
        return feature_of(name, array.ravel().tolist(), count)
    if kind == "b" or jnp.issubdtype(array.dtype, jnp.integer):
        if not array.size or array.max() <= np.iinfo(np.int64).max:
            return "integers", array.astype(np.int64).ravel().tolist()
        raise refused("real numbers, int64 at most, or bytes", "np.asarray(value).view(np.int64)")
    if jnp.issubdtype(array.dtype, jnp.floating):
        with np.errstate(over="ignore", under="ignore"):
            narrow = array.astype(np.float32)
        if np.any(np.isinf(narrow) & ~np.isinf(array)):
            raise refused("real numbers, float32 at most, or bytes", "np.asarray(value).tobytes()")
        return "floats", narrow.ravel().tolist()
    fix = _without(name)
    if kind == "c":
        fix = "np.stack([np.real(value), np.imag(value)])"
    elif kind in "Mm":
        fix = "np.asarray(value).astype(np.int64)"
    elif kind == "O" and array.size and all(isinstance(v, int) for v in array.ravel()):
        fix = "np.asarray(value, str)"
    raise refused("real numbers, int64 at most, or bytes", fix)


def _flat(name: str, value: Any) -> str:
    """Return the example in which rows of several lengths are one list, beside which are their lengths."""
    try:
        np.concatenate([np.ravel(row) for row in value])
    except ValueError:  # rows of rows of several lengths
        return _without(name)
    flat = "np.concatenate([np.ravel(row) for row in value])"
    return f"{{**example, {name!r}: {flat}, {f'{name}_sizes'!r}: [np.size(row) for row in value]}}"


def _without(name: str) -> str:
    return f"{{name: value for name, value in example.items() if name != {name!r}}}"


def shown(value: Any, count: int) -> str:
    """Return a short text for a value.

    Args:
        value: the value.
        count: the number of its example.
    """
    text = describe(value)
    return f"{text if len(text) < 80 else text[:80] + '...'} in example {count}"


def listed(feature: Any) -> Any:
    """Return the list of a feature."""
    if feature.HasField("bytes"):
        return list(feature.bytes.value)
    if feature.HasField("integers"):
        return np.array(feature.integers.value, np.int64)
    return np.array(feature.floats.value, np.float32)
