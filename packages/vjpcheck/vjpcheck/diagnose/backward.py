"""One operation on the way back, and what a mistake in its derivative rule is.

A mistake is `Named`; a `Fault` gives other cotangents for some operands, from the operation's inputs,
outputs, incoming cotangent and right answer. Whether it is the mistake is for the numbers to say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from vjpcheck.arguments import replaced
from vjpcheck.catalogue import Kind
from vjpcheck.interpret import Operation


@dataclass(frozen=True)
class Back:
    """An operation during the backward pass: `right[i]` is the right cotangent of input `i`, None for
    integers.

    Args: `operation`, the operation; `inputs`, its inputs; `outputs`, its outputs; `dy`, the cotangent of its
    first output; `right`, the right cotangents, None for integers; `dys`, the cotangents of all its outputs.
    """

    operation: Operation
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    dy: Any  # the cotangent of its first output
    right: Sequence[Any]
    dys: Sequence[Any] = ()

    def pull(self, dy: Any, run: Callable[..., Any] | None = None, /, **others: Any) -> list[Any]:
        """Pull another cotangent back, or through other inputs: `pull(dy, at1=w.T)`.

        Args: `dy`, the cotangent; `run`, the operation with other parameters, or None for itself; `others`,
        inputs.
        """
        inputs = [others.get(f"at{i}", x) for i, x in enumerate(self.inputs)]
        floating, run = self.operation.floating(inputs), run or self.operation.run
        of_floating = lambda *xs: run(*replaced(inputs, floating, xs))[0]  # noqa: E731
        cotangents = iter(jax.vjp(of_floating, *[inputs[i] for i in floating])[1](dy))
        return [next(cotangents) if i in floating else None for i in range(len(inputs))]


@dataclass(frozen=True)
class Named:
    """A mistake at one operation, by its name.

    Args: `name`, as in the catalogue; `words`, what is wrong; `less`, how much less plain it is than others
    of its name.
    """

    name: Kind
    words: str
    less: float = field(default=0.0, kw_only=True)

    @property
    def cost(self) -> float:
        """Its rank: the plainer, the lower."""
        return self.name.cost + self.less


Rule = Callable[[Back], dict[int, Any]]


@dataclass(frozen=True)
class Fault(Named):
    """A wrong derivative rule: `rule(back)` gives the wrong cotangents by operand.

    Args: `name`, `words`, `less`, as for `Named`; `rule`, `rule(back)`, the wrong cotangents by operand.
    """

    rule: Rule


def is_square(x: Any) -> bool:
    """Whether an array holds square matrices of more than one element."""
    return len(x.shape) >= 2 and x.shape[-1] == x.shape[-2] > 1
