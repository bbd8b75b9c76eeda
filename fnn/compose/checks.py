"""Checks of the arguments of compositions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from fnn.arrays import same_shapes
from fnn.contract import check_declared
from fnn.core import Layer
from fnn.errors import InputError, describe


def check_layers(who: str, layers: Sequence[Any], fix: str) -> None:
    """Check that all arguments of a composition are layers, and that there is one.

    Args:
        who: the name of the composition, for the error message.
        layers: its arguments.
        fix: a right call, for the error message.

    Raises:
        InputError: where one is no layer, or there is none.
    """
    for layer in layers:
        if not isinstance(layer, Layer):
            if isinstance(layer, (list, tuple)):
                fix = "fnn.Serial(*layers)"
            elif isinstance(layer, type):
                fix = f"fnn.{layer.__name__}({', '.join(_asked(layer))})"
            elif callable(layer):
                fix = "fnn.activation(f)"
            raise InputError(who, "layers, which derive from fnn.Leaf or fnn.Composition", repr(layer), fix)
        check_declared(layer)
    if not layers:
        raise InputError(who, "one or more layers", "none", fix)


def _asked(layer: type) -> list[str]:
    """Return the names of the fields of a layer's class that have no default."""
    fields = dataclasses.fields(layer) if dataclasses.is_dataclass(layer) else ()
    return [f.name for f in fields if f.init and f.default is f.default_factory is dataclasses.MISSING]


def check_same(
    who: object, x: Any, y: Any, fix: str, what: str = "the layer's output like its input"
) -> None:
    """Check that a tree of arrays has the structure, shapes and dtypes of another.

    Args:
        who: the composition, for the error message.
        x: the tree that is right.
        y: the tree to check.
        fix: a right call, for the error message.
        what: what is expected, for the error message.

    Raises:
        InputError: where it has not.
    """
    if not same_shapes((x, y)):
        raise InputError(who, f"{what}, {describe(x)}", describe(y), fix)


def check_params(who: str, params: Any, count: int) -> None:
    """Check that params are a tuple with those of a given number of layers.

    Args:
        who: the name of the composition, for the error message.
        params: the params.
        count: the number of layers.

    Raises:
        InputError: where they are not.
    """
    if not isinstance(params, (tuple, list)) or len(params) != count:
        wanted = f"a tuple of params for {count} layers"
        raise InputError(who, wanted, describe(params), "params = fnn.init(net, key, x)")


def key_of(key: Any, i: int) -> Any:
    """Return the key of a layer; None where there is none.

    Args:
        key: the random key of the composition, or None.
        i: the number of the layer.
    """
    return None if key is None else jax.random.fold_in(key, i)


def coupled(layers: Sequence[Layer]) -> bool | None:
    """Return whether layers that run together couple examples: True if one does, None if one does not say."""
    said = [layer.couples_examples for layer in layers]
    return True if True in said else None if None in said else False
