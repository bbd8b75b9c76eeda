"""Which operations are one line of code run again: the steps of a loop that was unrolled.

A mistake in such a line is made at every step, so the steps share their dials.
"""

from collections import defaultdict
from typing import Any

from jax.extend.core import Literal

from vjpcheck.jaxprs import instructions
from vjpcheck.source import within_jax

Key = tuple[Any, ...]
_HELPERS = ("/numpy/", "/nn/", "/scipy/", "/lax/")  # JAX's own lines that tell operations apart


class Repeats:
    """The operations of one jaxpr, grouped by their line: `key(equation)`, and which repetition it is.

    Args: `program`, the jaxpr.
    """

    def __init__(self, program: Any):
        self.groups: dict[Key, list[Any]] = defaultdict(list)
        self.made: dict[Any, tuple[Key, int]] = {}
        self._at: dict[int, tuple[Key, int]] = {}
        for equation in program.eqns:
            key = _key(equation) or (id(equation),)
            group = self.groups[key]
            self._at[id(equation)] = key, len(group)
            for n, v in enumerate(equation.outvars):
                self.made[v] = (*key, n), len(group)
            group.append(equation)

    def key(self, equation: Any) -> Key:
        """Return what the repetitions of an operation have in common."""
        return self._at[id(equation)][0]

    def operand(self, equation: Any, position: int, step: int) -> Any:
        """Return what an operand is `step` repetitions later; None where there is none.

        Args: `equation`, the operation; `position`, the number of the operand; `step`, how many repetitions
        later.
        """
        key, n = self._at[id(equation)]
        group = self.groups[key]
        if 0 <= n + step < len(group):
            return _variable(group[n + step].invars[position])
        line, m = self.made.get(_variable(equation.invars[position]), ((), 0))
        if step > 0 and len(group) > 1:
            if not line:  # what the loop began with: the next is the first that it made
                line, m = self.made.get(_variable(group[min(1, len(group) - 1)].invars[position]), ((), 0))
                m -= 1
            made = self.groups[line[:-1]] if line else []
            return made[m + step].outvars[line[-1]] if 0 <= m + step < len(made) else None
        return None

    def mirrored(self, equation: Any, position: int) -> Any:
        """Return what an operand is in the loop run backwards; None outside of a loop.

        Args: `equation`, the operation; `position`, the number of the operand.
        """
        key, n = self._at[id(equation)]
        group = self.groups[key]
        return _variable(group[len(group) - 1 - n].invars[position]) if len(group) > 1 else None

    def relation(self, equation: Any, variable: Any) -> Key:
        """Name a value as this operation and its repetitions see it: who made it, and how long before.

        Args: `equation`, the operation; `variable`, the value.
        """
        n = self._at[id(equation)][1]
        line, m = self.made.get(variable, ((id(variable),), n))
        return (*line, n - m if len(self.groups.get(line[:-1], ())) > 1 else 0)


def _variable(atom: Any) -> Any:
    return None if isinstance(atom, Literal) else atom


def _key(equation: Any) -> Key:
    at = [frame for frame in instructions(equation) if _tells_apart(frame[0])]
    shapes = tuple(str(v.aval) for v in (*equation.invars, *equation.outvars))
    return (*at, equation.primitive.name, shapes) if at else ()


def _tells_apart(path: str) -> bool:
    inside = within_jax(path)
    return not inside or any(part in inside for part in _HELPERS)
