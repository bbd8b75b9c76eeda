"""What a network or a loss is, as JSON that a person can read: no pickle, and no code but fnn's and yours.

>>> import fnn
>>> to_json(fnn.Serial(fnn.Scale(), fnn.gelu))
{'fnn.Serial': {'layers': [{'fnn.Scale': {'value': 1.0}}, {'name': 'fnn.gelu'}]}}

A list stands for a tuple, and an object with one key for what JSON has not: `{"fnn.Dense": {...}}` for an
instance of a class and its fields, `{"name": "fnn.gelu"}` for a value that has a name, `{"dict": {...}}`,
`{"list": [...]}`, `{"dtype": "bfloat16"}`, `{"float": "inf"}`, `{"bytes": "..."}` in base64. Names are looked
up in a table of what networks are made of, and among `known`: nothing else is imported or called.
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.compose.branches import Parallel
from fnn.compose.entries import Each, Heads
from fnn.compose.serial import Serial
from fnn.errors import InputError, at
from fnn.function.layer import Function
from fnn.train.named import fields, full_name, hidden, module_of, names, stands_there
from fnn.train.spelled import as_known, instead, named, short, thawed

CALL = "fnn.train.recipe.from_json(description, known={})"
_DESCRIBE = "fnn.train.recipe.to_json(net)"


def to_json(value: Any) -> Any:
    """Describe a network, a loss or another value: layers, numbers, strings, tuples, lists, dicts, dtypes.

    A field is left out where it has its default and that is None, (), or not shown by the repr; so another
    default in a later version changes nothing that the repr shows. What is returned was built again, and
    compared.

    Raises:
        InputError: where a part has no name to be found by, such as a lambda, or does not come back equal.

    >>> to_json((1, 2.5, {"a": None}))
    [1, 2.5, {'dict': {'a': None}}]
    """
    met: dict[str, Any] = {}
    description = _described(value, met)
    again = build(json.loads(json.dumps(description)), tuple(met.values()), CALL)
    if not _same(again, value):
        got = f"{short(value)}, which comes back as {short(again)}"
        raise InputError("to_json", "a value that its fields tell", got, thawed(met.values()))
    return description


def from_json(description: Any, known: Sequence[Any] = ()) -> Any:
    """Build what `to_json` described; equal to that, with the same hash.

    Args:
        description: what `to_json` returned, also after it was written as JSON and read.
        known: the classes and functions that are not fnn's, such as layers of your own.

    Raises:
        InputError: where one is missing in `known`, or the description is none.

    >>> import fnn
    >>> from_json(to_json(fnn.mlp([4, 8, 3]))) == fnn.mlp([4, 8, 3])
    True
    """
    return build(description, known, CALL)


def build(description: Any, known: Sequence[Any], call: str) -> Any:
    """Build what `to_json` described, for a function that is called in another way.

    Args:
        description: what `to_json` returned.
        known: the classes and functions that are not fnn's.
        call: the call that would be right, with `{}` for what `known` must be.

    Raises:
        InputError: as `from_json`.
    """
    who = call.partition("(")[0].rpartition(".")[2]
    given = {key: one for one in known for key in (one.__name__, full_name(one))}

    def look_up(name: str) -> Any:
        return given.get(name, names().values.get(name, given.get(name.rpartition(".")[2])))

    def find(name: str) -> Any:
        own = look_up(name)
        if own is None:
            got = f"known=({', '.join(map(full_name, known))})"
            missing = [name for name in named(description) if look_up(name) is None]
            fix = call.format(as_known([*map(full_name, known), *missing]))
            raise InputError(who, f"{name} among `known`", got, fix)
        return own

    def made(name: str, told: dict[str, Any]) -> Any:
        kind = find(name)
        if not isinstance(kind, type) or fields(kind) is None:
            raise InputError(who, "a class with fields", name, _DESCRIBE)
        told = {key: built(item) for key, item in told.items()}
        try:
            return _SPELLED[kind][1](**told) if kind in _SPELLED else kind(**told)
        except TypeError as error:
            raise InputError(who, f"the fields of {name}", str(error), _DESCRIBE) from error

    def built(part: Any) -> Any:
        if part is None or isinstance(part, (bool, int, float, str)):
            return part
        if isinstance(part, list):
            return tuple(map(built, part))
        match list(part.items()) if isinstance(part, dict) else ():
            case [("dict", dict(items))]:
                return {key: built(item) for key, item in items.items()}
            case [("dict", list(items))]:
                return {built(key): built(item) for key, item in items}
            case [("list", list(items))]:
                return [built(item) for item in items]
            case [("dtype", str(name))]:
                return jnp.dtype(name)
            case [("float", str(text))]:
                return float(text)
            case [("bytes", str(text))]:
                return b64decode(text)
            case [("name", str(name))]:
                return find(name)
            case [(str(name), dict(told))] if "." in name:
                return made(name, told)
        raise InputError(who, "what `to_json` returned", short(part), _DESCRIBE)

    return built(description)


# What is made of other arguments than its fields: those of a value, and the value of those.
_SPELLED: dict[type, tuple[Callable[[Any], dict[str, Any]], Callable[..., Any]]] = {
    Serial: (
        lambda net: {"layers": _entries(net.with_plan(()), net.spelling.names), "plan": net.plan},
        lambda layers, plan=(): (
            Serial(plan=plan, **layers) if isinstance(layers, dict) else Serial(*layers, plan=plan)
        ),
    ),
    Parallel: (
        lambda net: {"layers": net.layers, "join": net.join},
        lambda layers, join: Parallel(*layers, join=join),
    ),
    Each: (lambda net: {"layers": _entries(net, net.names)}, Each),
    Heads: (lambda net: {"layers": _entries(net, net.names)}, Heads),
    Function: (
        lambda net: {"f": net.f, "init": net.make, "batched": net.batched, "wrt": net.wrt},
        lambda f, **options: Function(f, **options),
    ),
}
_LEFT_OUT = {"plan": (), "init": None, "wrt": None}


def _entries(net: Serial | Each | Heads, own: Sequence[Any]) -> Any:
    found = {name: net[name] for name in own}
    return found if any(isinstance(name, str) for name in own) else tuple(found.values())


def _described(value: Any, met: dict[str, Any]) -> Any:
    """Describe a value; `met` gets the classes and functions in it that are not fnn's."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode()}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if type(value) in (tuple, list):
        items = [_at(f"[{i}]", item, met) for i, item in enumerate(value)]
        return items if isinstance(value, tuple) else {"list": items}
    if type(value) is dict:
        entries = [[_described(key, met), _at(f"[{key!r}]", item, met)] for key, item in value.items()]
        return {"dict": dict(entries) if all(isinstance(key, str) for key in value) else entries}
    known = names()
    if id(value) in known.by_id:
        return {"name": known.by_id[id(value)]}
    own = fields(value)
    if isinstance(value, type) or (own is None and callable(value)):
        return {"name": _met(value, met)}
    if own is None:
        wanted = "numbers, strings, tuples, frozen dataclasses"
        raise InputError("to_json", wanted, short(value), instead(value))
    kind = type(value)
    told = _SPELLED[kind][0](value) if kind in _SPELLED else {name: getattr(value, name) for name in own}
    try:
        return {"name": known.by_value[kind, value]}
    except (KeyError, TypeError):  # no constant; or not hashable, and refused at the part that is not
        out = _LEFT_OUT if kind in _SPELLED else hidden(kind)
        told = {key: item for key, item in told.items() if not (key in out and _same(item, out[key]))}
    return {
        known.by_id.get(id(kind)) or _met(kind, met): {
            key: _at(f".{key}", item, met) for key, item in told.items()
        }
    }


def _at(place: str, value: Any, met: dict[str, Any]) -> Any:
    with at(place):
        return _described(value, met)


def _met(value: Any, met: dict[str, Any]) -> str:
    if not isinstance(value, type) and not stands_there(value):
        fix = "def f(x): return jnp.sin(x)"
        if module_of(value).startswith("jax._src.nn.initializers"):
            fix = "fnn.initializers.he_normal()"
        raise InputError("to_json", "a function that its module has by its name", short(value), fix)
    met[full_name(value)] = value
    return full_name(value)


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are equal and have the same hash, in containers of the same type."""
    if isinstance(a, (list, tuple, dict)) and (type(a) is not type(b) or len(a) != len(b)):
        return False
    if isinstance(a, (list, tuple)):
        return all(map(_same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(_same, a.values(), b.values()))
    try:
        numbers = isinstance(b, (np.generic, float, int))
        return (numbers or type(a) is type(b)) and bool(a == b) and hash(a) == hash(b)
    except TypeError:  # not hashable
        return False
