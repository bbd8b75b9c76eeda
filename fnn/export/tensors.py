"""Params as a safetensors file."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe
from fnn.export.files import whole

# The dtypes by the names that the format has for them.
DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2, "C64": np.complex64,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def save_params(params: Any, path: str | os.PathLike[str]) -> None:
    """Write a pytree of arrays to a safetensors file, a leaf under its path: `params[0]["kernel"]` is "0.w".

    An optimizer's state is such a tree, too. Raises InputError for a leaf that is no array or has a dtype
    that the format lacks, and where two leaves have one name. The file is written whole or not at all.
    """
    from safetensors.numpy import save

    # The format wants C's order. `asarray` lets a scalar stay one, which `ascontiguousarray` does not.
    leaves = {k: np.asarray(leaf, order="C") for k, leaf in _named(params, "save_params").items()}
    with whole(path) as new:
        new.write_bytes(save(leaves))


def load_params(path: str | os.PathLike[str], like: Any) -> Any:
    """Read params back, numpy arrays in the structure of `like` (params, or their shapes).

    Raises InputError where a leaf is missing, left over, or of another shape or dtype, and for a file that
    is no safetensors file.
    """
    from safetensors import SafetensorError, deserialize

    wanted = _named(like, "load_params")
    try:
        views = dict(deserialize(Path(path).read_bytes()))
    except SafetensorError as error:
        fix = "fnn.export.save_params(params, path)"
        wish = f"{os.fspath(path)} to be a safetensors file"
        raise InputError("load_params", wish, f"another one ({error})", fix) from error
    fix = "load_params(path, like=fnn.init(net, key, x))"
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
        if tuple(view["shape"]) != leaf.shape or dtype != leaf.dtype:
            got = f"{dtype if dtype != np.void else view['dtype']}[{','.join(map(str, view['shape']))}]"
            raise InputError("load_params", f"{name} like {describe(leaf)}", got, fix)
        leaves.append(np.frombuffer(view["data"], dtype).reshape(view["shape"]).copy())
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: Any, who: str) -> dict[str, Any]:
    """Return the leaves by the names that they have in a file."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in named:
            fix = "fnn.export.save_params(dict(enumerate(jax.tree.leaves(params))), path)"
            raise InputError(who, "leaves with names of their own", f"two that are called {name!r}", fix)
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise InputError(who, f"an array as {name!r}", describe(leaf), f"jnp.asarray({leaf!r})")
        if leaf.dtype not in map(np.dtype, DTYPES.values()):
            key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            fix = "jax.random.key_data(key)" if key else "leaf.astype(jnp.float32)"
            raise InputError(who, f"{name!r} in a dtype of the format", describe(leaf), fix)
        named[name] = leaf
    return named
