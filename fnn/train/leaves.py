"""What is stored of the leaves of a state, and how they come back: bit for bit, where the run has them."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.errors import InputError, describe

# What Zarr has no number type for is stored as bytes: integers as their values, others as their bits.
_BYTES = ("int1", "uint1", "uint2", "uint4", "float8_e4m3")
_JAX = (jax.Array, jax.ShapeDtypeStruct)
_NUMBERS = (
    "jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) or np.asarray(leaf).dtype.kind"
    " not in 'OSUMm' else None, state)"
)
WHOLE = "()"  # the path of a tree that is one leaf
NOTHING = {"nothing": np.zeros((), np.int8)}  # in place of no leaves, which orbax does not store


def split(who: str, state: Any) -> tuple[Any, Any]:
    """Return the params of a state, and the state without them.

    Args:
        who: the name of the function that asks, for the error message.
        state: the state.

    Raises:
        InputError: where it is no named tuple with the field `params`.
    """
    if not isinstance(state, tuple) or "params" not in getattr(state, "_fields", ()):
        wanted = "a state that is a named tuple with the field params"
        raise InputError(who, wanted, type(state).__name__, "fnn.train.State(params, optimizer, key, step)")
    rest: Any = state
    return rest.params, rest._replace(params=())


def paths(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their paths, such as `['first']['kernel']`."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def told(leaf: Any) -> str:
    """Return the dtype and the shape of a leaf: `float32 (4, 8)`, `key<threefry2x32> ()`."""
    return f"key<{_impl(leaf)}> {leaf.shape}" if _is_key(leaf) else f"{_dtype(leaf).name} {np.shape(leaf)}"


def shape_of(text: str) -> Any:
    """Return the leaf, without its data, of which `told` told."""
    kind, _, sizes = text.partition(" ")
    shape = tuple(map(int, re.findall(r"\d+", sizes)))
    if kind.startswith("key<"):
        key = jax.eval_shape(lambda: jax.random.key(0, impl=kind[4:-1]))
        return jax.ShapeDtypeStruct(shape, key.dtype)
    return jax.ShapeDtypeStruct(shape, jnp.dtype(kind))


def check(who: str, name: str, leaves: Mapping[str, Any]) -> None:
    """Check that leaves are arrays or numbers.

    Args:
        who: the name of the function that asks, for the error message.
        name: the name of the tree.
        leaves: its leaves by their paths.

    Raises:
        InputError: where one is something else.
    """
    for path, leaf in leaves.items():
        kind = _dtype(leaf)
        if not _is_key(leaf) and kind != np.bool_ and not jnp.issubdtype(kind, np.number):
            fix = f"checkpoints.save(step, {_NUMBERS}, position)"
            raise InputError(who, f"an array or a number at {name}{path}", describe(leaf), fix)


def check_same(
    who: str, saved: Mapping[str, str], like: Mapping[str, Any], name: str, where: Any, fix: str
) -> None:
    """Check that a checkpoint has the leaves that a run has.

    Args:
        who: the name of the function that asks, for the error message.
        saved: what `told` told of its leaves, by their paths.
        like: the leaves of the run.
        name: the name of the tree.
        where: the path of the checkpoint.
        fix: a right call, for the error message.

    Raises:
        InputError: where a path is missing, or one too many, or a leaf has another dtype or shape.
    """
    own = {path: told(leaf) for path, leaf in like.items()}
    differ = [path for path in {**own, **saved} if own.get(path) != saved.get(path)]
    if not differ:
        return
    path = min(differ, key=lambda path: path in own and path in saved)  # a missing one tells most
    wanted = f"{name}{path} {own[path]}" if path in own else f"no {name}{path}"
    got = f"{name}{path} {saved[path]}" if path in saved else f"no {name}{path}"
    more = f", and {len(differ) - 1} more that differ" if len(differ) > 1 else ""
    raise InputError(who, f"a checkpoint with {wanted}", f"{got} in {where}{more}", fix)


def stored(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return leaves as they are stored: keys as their data, numbers as arrays, and none that is empty."""
    found = {}
    for path, leaf in leaves.items():
        if _is_key(leaf):
            leaf = jax.random.key_data(leaf)
        elif not isinstance(leaf, jax.Array):
            leaf = np.array(leaf)  # a copy, as the caller may change it while it is written
        if 0 not in leaf.shape:
            found[path or WHOLE] = _as_bytes(leaf) if leaf.dtype.name in _BYTES else leaf
    return found or NOTHING


def wanted(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return what orbax is asked for: arrays on their shards, or numpy's where a leaf is bound to no device.

    Raises:
        InputError: where a dtype needs 64 bits and JAX has 32.
    """
    found = {}
    for path, leaf in leaves.items():
        shape, dtype = np.shape(leaf), _dtype(leaf)
        if _is_key(leaf):
            shape, dtype = _data_shape(leaf), np.dtype(np.uint32)
        elif isinstance(leaf, _JAX) and jax.dtypes.canonicalize_dtype(dtype) != dtype:
            fix = 'jax.config.update("jax_enable_x64", True)'
            raise InputError("restore", f"64 bits for {path} {told(leaf)}", "a JAX of 32", fix)
        if 0 in shape:
            continue
        dtype = np.dtype(np.uint8) if dtype.name in _BYTES else dtype
        sharding = None if _is_key(leaf) else _sharding(leaf)
        if sharding is None:
            found[path or WHOLE] = np.broadcast_to(np.zeros((), dtype), shape)
        else:
            found[path or WHOLE] = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    return found or NOTHING


def come_back(found: Mapping[str, Any], like: Any) -> Any:
    """Return a tree like `like` of what orbax found.

    Args:
        found: the arrays by their paths.
        like: the tree of arrays, shapes or numbers.
    """
    leaves = [_comes_back(found.get(path or WHOLE), leaf) for path, leaf in paths(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _comes_back(value: Any, like: Any) -> Any:
    shape, dtype, sharding = np.shape(like), _dtype(like), _sharding(like)
    if _is_key(like):
        data: Any = np.zeros(_data_shape(like), np.uint32) if value is None else np.asarray(value)
        # jitted, for the devices of other processes, on which `device_put` puts no keys
        wrapped = partial(jax.random.wrap_key_data, impl=_impl(like))
        return wrapped(data) if sharding is None else jax.jit(wrapped, out_shardings=sharding)(data)
    value = np.zeros(shape, dtype) if value is None else value
    if value.dtype != dtype:
        value = _from_bytes(value, dtype)
    if isinstance(like, np.generic):
        return dtype.type(value)
    if not isinstance(like, _JAX):
        return np.asarray(value) if isinstance(like, np.ndarray) else type(like)(value)
    return value if isinstance(value, jax.Array) else jax.device_put(value, sharding)


def _sharding(leaf: Any) -> Any:
    """Return the sharding of a leaf that is bound to devices, else None: it may then go where others are."""
    bound = isinstance(leaf, jax.ShapeDtypeStruct) or (isinstance(leaf, jax.Array) and leaf.committed)
    return leaf.sharding if bound else None


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _data_shape(key: Any) -> tuple[int, ...]:
    return jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(key.shape, key.dtype)).shape


def _impl(key: Any) -> Any:
    """Return the implementation of keys, of shapes of keys too."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), jax.ShapeDtypeStruct((), key.dtype))
    return found[0]


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _as_bytes(leaf: Any) -> Any:
    if "int" in leaf.dtype.name:
        return leaf.astype(np.uint8)
    return leaf.view(np.uint8) if isinstance(leaf, np.ndarray) else lax.bitcast_convert_type(leaf, jnp.uint8)


def _from_bytes(value: Any, dtype: Any) -> Any:
    if "int" in dtype.name:
        return value.astype(dtype)
    return value.view(dtype) if isinstance(value, np.ndarray) else lax.bitcast_convert_type(value, dtype)
