"""What is said of descriptions: where two differ, what is known, and what can be described instead."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any


def difference(a: Any, b: Any, unless: Sequence[str] = (), place: str = "") -> str | None:
    """Return the first place where two descriptions differ, with both; None where they do not.

    Args:
        a: a description.
        b: another.
        unless: names of fields that may differ.
        place: where the two stand.
    """
    if isinstance(a, dict) and isinstance(b, dict) and not (a.keys() ^ b.keys()) - {*unless}:
        steps = {key: "" if "." in key or key in ("dict", "list", "name") else f".{key}" for key in a}
        pairs = [(place + step, a[key], b[key]) for key, step in steps.items() if key not in unless]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = [(f"{place}[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return None if a == b else f"{place}: {short(a)}, not {short(b)}"
    return next(filter(None, (difference(x, y, unless, where) for where, x, y in pairs)), None)


def short(value: Any) -> str:
    """Return the beginning of a repr."""
    text = repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."


def instead(value: Any) -> str:
    """Return what stands for a value that cannot be described, as code: its numbers, parts, or repr."""
    if isinstance(value, Mapping):
        return "dict(value)"
    if isinstance(value, (list, tuple, Set)):
        return "tuple(value)"
    if isinstance(value, complex):
        return "(value.real, value.imag)"
    if hasattr(value, "tolist"):
        return "value.tolist()"
    own = getattr(value, "__dict__", None)
    if own:
        made = f"dataclasses.make_dataclass({type(value).__name__!r}, {list(own)}, frozen=True)"
        return f"{made}(**vars(value))"
    return "repr(value)"


def thawed(met: Iterable[Any]) -> str:
    """Return what makes a value one that its fields tell, as code: a frozen class, or no description at all.

    Args:
        met: the classes and functions of the value that are not fnn's.
    """
    for kind in met:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and not _frozen(kind):
            own = [field.name for field in dataclasses.fields(kind)]
            return f"dataclasses.make_dataclass({kind.__name__!r}, {own}, frozen=True)"
    return "fnn.train.Checkpoints(folder, net=None)"


def as_known(names: Iterable[str]) -> str:
    """Return classes and functions, by their full names, as the tuple `known`."""
    short = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    return f"({', '.join(short)}{',' * (len(short) == 1)})"


def named(part: Any) -> Iterator[str]:
    """List the names of the classes and functions in a description."""
    if isinstance(part, list):
        for item in part:
            yield from named(item)
    match list(part.items()) if isinstance(part, dict) else ():
        case [("dict", dict(items))]:
            yield from named(list(items.values()))
        case [("dict" | "list", list(items))]:
            yield from named(items)
        case [("name", str(name))]:
            yield name
        case [(str(name), dict(told))] if "." in name:
            yield name
            yield from named(list(told.values()))


def _frozen(kind: Any) -> bool:
    return kind.__dataclass_params__.frozen
