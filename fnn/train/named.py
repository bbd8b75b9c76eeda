"""What a description may name: the classes, functions and constants that networks are made of.

The table is made of modules that are loaded, so that a name in a file leads to no other code. Of JAX it has
initializers, dtypes, and what is traced alone, of which nothing reads or writes a file.
"""

import dataclasses
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PARTS = ("activations", "compose", "function", "initializers", "layers", "losses", "memory")
MODULES = tuple(f"fnn.{part}" for part in PARTS)
OF_JAX = ("jax.nn.initializers", "jax.nn", "jax.numpy")


class Names(NamedTuple):
    """The table.

    Args:
        values: the values by name, of which one may have several.
        by_id: the shortest name by the value's identity.
        by_value: the shortest name of a constant, by its type and the value itself.
    """

    values: dict[str, Any]
    by_id: dict[int, str]
    by_value: dict[Any, str]


@cache
def names() -> Names:
    """Return the table, made once."""
    values, by_id, by_value = dict(_named()), {}, {}
    for name in sorted(values, key=lambda name: (name.count("."), "._" in name, name), reverse=True):
        value = values[name]
        by_id[id(value)] = name
        if not isinstance(value, type) and fields(value) is not None:
            by_value[type(value), value] = name
    return Names(values, by_id, by_value)


def fields(value: Any) -> tuple[str, ...] | None:
    """Return the names of what a dataclass or named tuple, or an instance, is made of; None of others."""
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value) if field.init)
    kind: Any = value if isinstance(value, type) else type(value)
    return getattr(kind, "_fields", None) if issubclass(kind, tuple) else None


def hidden(kind: Any) -> dict[str, Any]:
    """Return the defaults of a class that are None, (), or of a field that its repr does not show."""
    if not dataclasses.is_dataclass(kind):
        return {name: value for name, value in kind._field_defaults.items() if value in (None, ())}
    return {f.name: f.default for f in dataclasses.fields(kind) if not f.repr or f.default in (None, ())}


def full_name(value: Any) -> str:
    """Return the name of a class or function, with its module."""
    return f"{module_of(value)}.{getattr(value, '__qualname__', '')}"


def module_of(value: Any) -> str:
    """Return the name of the module of a class or function; of an instance, that of its class."""
    return str(getattr(value, "__module__", None))


def stands_there(value: Any) -> bool:
    """Return whether a function is found by its name in its module: no lambda is, and no closure."""
    found: Any = sys.modules.get(module_of(value))
    for part in str(getattr(value, "__qualname__", "<none>")).split("."):
        found = getattr(found, part, None)
    return found is value


def _named() -> Iterator[tuple[str, Any]]:
    for module in [name for name in sys.modules if name == "fnn" or name.startswith(MODULES)]:
        for name, value in vars(sys.modules[module]).items():
            if not isinstance(value, ModuleType) and module_of(value).startswith(MODULES):
                yield f"{module}.{name}", value
    jitted, scalar = type(jax.jit(abs)), type(jnp.float32)
    for module in OF_JAX:
        for name, value in vars(sys.modules[module]).items():
            # `jnp.load` reads files, and is not jitted
            pure = isinstance(value, jitted) or (module != "jax.numpy" and callable(value))
            if isinstance(value, scalar):
                own: Any = value
                yield f"{module}.{name}", own
                yield full_name(own.dtype.type), own.dtype.type
            elif pure and not name.startswith("_"):
                yield f"{module}.{name}", value
    for kind in (bool, int, float, complex):
        yield kind.__name__, kind
