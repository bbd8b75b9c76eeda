"""Layers under names: where their params are, and from which keys these are drawn."""

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import jax

from fnn.core import Layer
from fnn.errors import InputError, describe

Name = str | int


def place_of(name: Name) -> str:
    """Write a name as an index: `["encoder"]`, `[0]`."""
    return f"[{quoted(name)}]"


def quoted(name: Name) -> str:
    """Write a name as a Python literal, in double quotes where it is a string."""
    return f'"{name}"' if isinstance(name, str) and name.isidentifier() else repr(name)


def own_key(key: Any, name: Name) -> Any:
    """Return the key of a layer, whatever layers stand beside it; None where there is none.

    Args:
        key: the random key of the composition, or None.
        name: the layer's name.
    """
    if key is None:
        return None
    return jax.random.fold_in(key, name if isinstance(name, int) else crc32(name.encode()))


def share(tree: Any, name: Name) -> Any:
    """Return the part of params that belongs to a name; `()` where there is none.

    Args:
        tree: the params, or a tree like them.
        name: the layer's name.
    """
    return tree.get(name, ()) if isinstance(name, str) else tree[name]


def gathered(values: Mapping[Name, Any], like: Any = None) -> Any:
    """Undo `share`: a tuple of the values, or a dict without the names that have no params.

    Args:
        values: the part of each name.
        like: params, for a dict that has the names that they have; None for a dict of all names whose part is
            not `()`, which `share` returns for a name that is not there.
    """
    if all(isinstance(name, int) for name in values):
        return tuple(values.values())
    if like is None:
        return {name: value for name, value in values.items() if not isinstance(value, tuple) or value}
    return {name: value for name, value in values.items() if name in like}


def check_shares(who: str, params: Any, names: Sequence[Name]) -> None:
    """Check that params are a tuple with those of each layer, or a dict with no names but these.

    Args:
        who: the name of the composition, for the error message.
        params: the params.
        names: the names of the layers.

    Raises:
        InputError: where they are not.
    """
    fix = "params = fnn.init(net, key, x)"
    if all(isinstance(name, int) for name in names):
        if not isinstance(params, (tuple, list)) or len(params) != len(names):
            wanted = f"a tuple of params for {len(names)} layers"
            raise InputError(who, wanted, describe(params), fix)
    elif not isinstance(params, dict) or not set(params) <= set(names):
        wanted = f"a dict of params for {', '.join(map(str, names))}"
        raise InputError(who, wanted, describe(params), fix)


def named(who: str, layers: Any) -> dict[Name, Layer]:
    """Return layers by name, those of a sequence by number.

    Args:
        who: the name of the composition, for the error message.
        layers: a dict or a tuple of layers.

    Raises:
        InputError: where it is neither, or a name is no string.
    """
    if isinstance(layers, Mapping):
        for name in layers:
            if not isinstance(name, str):
                raise InputError(who, "names that are strings", repr(name), f'fnn.{who}({{"{name}": layer}})')
        return dict(layers)
    if not isinstance(layers, (tuple, list)):
        fix = f'fnn.{who}({{"name": layer}})'
        raise InputError(who, "a dict or a tuple of layers", repr(layers), fix)
    return dict(enumerate(layers))
