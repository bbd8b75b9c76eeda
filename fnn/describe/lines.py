"""The lines of an explanation: equations in which names or shapes are filled in."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax


class Value(NamedTuple):
    """The name and the shape of a boundary or a param.

    Args:
        name: the name, such as "v1".
        shape: the shape, or a tree of shapes.
    """

    name: str
    shape: Any


@dataclass
class Line:
    """One equation: a template with boundaries and params in braces, to be filled with names or shapes.

    Args:
        template: the equation, such as "{y} = {x} {kernel}".
        values: for each name in braces the `Value` that is filled in.
        part: "forward" or "backward".
        depth: the number of loops around it.
        notes: what is said of the boundaries behind the equation.
    """

    template: str
    values: dict[str, Value]
    part: str
    depth: int
    notes: list[str] = field(default_factory=list)

    def fill(self, show: Callable[[str, Value], str]) -> str:
        """Return the template with each `{name}` or `d{name}` replaced by `show("" or "d", value)`."""
        return re.sub(r"(d?)\{(\w+)\}", lambda m: show(m[1], self.values[m[2]]), self.template)

    def boundaries(self, right: bool) -> set[str]:
        """Return the names of the boundaries on the right side of the equation, or on the left."""
        found = re.findall(r"(?<!d)\{(\w+)\}", self.template.partition("=")[2 if right else 0])
        return {whole[0] for key in found if (whole := re.match(r"v\d+", self.values[key].name))}


def shape_of(like: Any) -> Any:
    """Return the shape of an array, or a tree of the shapes of a tree of arrays."""
    return jax.tree.map(lambda leaf: leaf.shape, like)
