"""Params as a safetensors file."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe
from fnn.export.graph import write_whole


def save_params(params: Any, path: str | os.PathLike[str]) -> None:
    """Write a pytree of arrays to a safetensors file, a leaf under its path: `params[0]["w"]` is "0.w".

    The file is written whole or not at all.
    """
    from safetensors.numpy import save

    leaves = {name: np.ascontiguousarray(leaf) for name, leaf in _named(params)}  # issue 825: it must be
    write_whole(Path(path), save(leaves))


def load_params(path: str | os.PathLike[str], like: Any) -> Any:
    """Read params back, numpy arrays in the structure of `like` (params, or their shapes).

    Raises InputError where a leaf is missing, left over, or of another shape or dtype.
    """
    from safetensors import deserialize

    wanted = dict(_named(like))
    found = {
        name: np.frombuffer(bytes(view["data"]), _DTYPES[view["dtype"]]).reshape(view["shape"])
        for name, view in deserialize(Path(path).read_bytes())
    }
    if found.keys() != wanted.keys():
        other = ", ".join(sorted(found.keys() ^ wanted.keys()))
        raise InputError("load_params", f"the leaves {', '.join(wanted)}", f"a difference in {other}", _FIX)
    for name, leaf in wanted.items():
        if found[name].shape != leaf.shape or found[name].dtype != leaf.dtype:
            raise InputError("load_params", f"{name} like {describe(leaf)}", describe(found[name]), _FIX)
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])


# safetensors.numpy writes bfloat16 but does not read it
_DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U32": np.uint32, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_FIX = "like = fnn.init(net, key, x)"


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
