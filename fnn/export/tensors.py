"""Params as a safetensors file."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe
from fnn.export.files import check_path, whole

# The dtypes by the names that the format has for them.
DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2, "C64": np.complex64,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip

_ZEROS = (
    "jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct)"
    " else leaf, params)"
)
_ARRAYS = (
    "jax.tree.map(lambda leaf: leaf if isinstance(leaf, {kinds}) and leaf.dtype != object else None, {tree})"
)


def save_params(params: Any, path: str | os.PathLike[str]) -> None:
    """Write a tree of arrays to a safetensors file: `params[0]["kernel"]` has the name "0.kernel".

    The file is written whole or not at all; a file that it replaces keeps its mode, and a symbolic link leads
    to the new file.

    Args:
        params: a pytree of arrays: params, or an optimizer's state.
        path: the file to write.

    Raises:
        InputError: for a leaf that is no array, has a dtype that the format lacks or the name "__metadata__"
            that it reserves, and where two leaves have one name.

    >>> import fnn.export, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.export.save_params({"bias": np.ones(2)}, f"{folder}/params.safetensors")
    ...     fnn.export.load_params(f"{folder}/params.safetensors", like={"bias": np.zeros(2)})
    {'bias': array([1., 1.])}
    """
    from safetensors.numpy import save

    check_path("save_params", path, "fnn.export.save_params(params, path)")
    # The format wants C's order and little ends first. `asarray` lets a scalar stay one, which
    # `ascontiguousarray` does not.
    leaves = {
        name: np.asarray(leaf, _native(leaf.dtype), order="C")
        for name, leaf in _named(params, "save_params").items()
    }
    with whole(path) as new:
        new.write_bytes(save(leaves))


def load_params(path: str | os.PathLike[str], like: Any) -> Any:
    """Read a tree of arrays from a safetensors file.

    Args:
        path: the file.
        like: a tree of the same structure, shapes and dtypes: params, or their shapes.

    Returns:
        a tree of NumPy arrays like `like`.

    Raises:
        InputError: where a leaf is missing, left over, or of another shape or dtype, and for a file that is
            no safetensors file.

    >>> import fnn.export, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.export.save_params([np.arange(3)], f"{folder}/params.safetensors")
    ...     fnn.export.load_params(f"{folder}/params.safetensors", like=[np.zeros(3, int)])
    [array([0, 1, 2])]
    """
    from safetensors import SafetensorError, deserialize

    check_path("load_params", path, "fnn.export.load_params(path, like=params)")
    wanted = _named(like, "load_params")
    try:
        views = dict(deserialize(Path(path).read_bytes()))
    except SafetensorError as error:
        fix = "fnn.export.save_params(params, path)"
        wish = f"{os.fspath(path)} to be a safetensors file"
        raise InputError("load_params", wish, f"another one ({error})", fix) from error
    fix = "fnn.export.load_params(path, like=fnn.init(net, key, x))"
    if views.keys() != wanted.keys():
        parts = {"without": wanted.keys() - views.keys(), "with": views.keys() - wanted.keys()}
        got = " and ".join(
            f"a file {word} {', '.join(sorted(names))}" for word, names in parts.items() if names
        )
        raise InputError("load_params", f"the leaves {', '.join(wanted)}", got, fix)
    leaves = []
    for name, leaf in wanted.items():
        view = views[name]
        dtype = np.dtype(DTYPES.get(view["dtype"], np.void))
        if tuple(view["shape"]) != leaf.shape or dtype != _native(leaf.dtype):
            got = f"{dtype if dtype != np.void else view['dtype']}[{','.join(map(str, view['shape']))}]"
            raise InputError("load_params", f"{name} like {describe(leaf)}", got, fix)
        leaves.append(np.frombuffer(view["data"], dtype).reshape(view["shape"]).copy())
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: Any, who: str) -> dict[str, Any]:
    """Collect the leaves by the names that they have in a file."""
    named: dict[str, Any] = {}
    argument, call, kinds = "params", "fnn.export.save_params({}, path)", "np.ndarray, np.generic, jax.Array"
    if who == "load_params":
        argument, call = "like", "fnn.export.load_params(path, like={})"
        kinds += ", jax.ShapeDtypeStruct"
    arrays = _ARRAYS.format(kinds=f"({kinds})", tree=argument)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in named:
            fix = call.format(f"dict(enumerate(jax.tree.leaves({argument})))")
            raise InputError(who, "leaves with names of their own", f"two that are called {name!r}", fix)
        if name == "__metadata__":
            fix = call.format(f'{{"params": {argument}}}')
            raise InputError(who, "a name that the format leaves free", repr(name), fix)
        shape = isinstance(leaf, jax.ShapeDtypeStruct)
        if shape and who == "save_params":
            raise InputError(who, f"an array as {name!r}", f"the shape of one, {describe(leaf)}", _ZEROS)
        if not (shape or isinstance(leaf, (np.ndarray, np.generic, jax.Array))):
            number = isinstance(leaf, (bool, int, float)) and np.asarray(leaf).dtype != object
            fix = "np.asarray(leaf)" if number else arrays
            raise InputError(who, f"an array as {name!r}", describe(leaf), fix)
        if _native(leaf.dtype) not in map(np.dtype, DTYPES.values()):
            fix = _stored_as(leaf.dtype) or arrays
            if shape and fix != arrays:
                fix = f"jax.eval_shape(lambda leaf: {fix.replace('np.', 'jnp.')}, leaf)"
            raise InputError(who, f"{name!r} in a dtype of the format", describe(leaf), fix)
        named[name] = leaf
    return named


def _native(dtype: Any) -> Any:
    """Turn a dtype into the byte order of this machine."""
    return dtype.newbyteorder("=") if isinstance(dtype, np.dtype) else dtype


def _stored_as(dtype: Any) -> str | None:
    """Find the call that brings a leaf of another dtype into the format, without loss where there is one.

    There is none for objects.
    """
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return "jax.random.key_data(leaf)"
    if dtype == jax.dtypes.float0:
        return "np.zeros(leaf.shape, bool)"
    match dtype.kind:
        case "c":
            return "np.stack([leaf.real, leaf.imag])" + ".astype(np.float64)" * (dtype.itemsize > 16)
        case "M" | "m":
            return "leaf.astype(np.int64)"
        case "O":
            return None
    for kind, wide in ((jnp.floating, "float"), (jnp.unsignedinteger, "uint"), (jnp.integer, "int")):
        if jnp.issubdtype(dtype, kind):
            bits = {"float": 64 if dtype.itemsize > 8 else 32}.get(wide, 8)
            return f"leaf.astype(np.{wide}{bits})"
    return "np.frombuffer(leaf.tobytes(), np.uint8)"
