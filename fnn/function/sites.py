"""What a plan is made of: loops, views of params, the sites of their uses, and the steps of a run.

A value of a trace is plain, or a `View`: some elements of a param, or of a value that is made of params
alone (a *root*), in another order. What meets a view and a plain value is a *use*, and has a `Site`.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from fnn.function.batch import Batch
from fnn.function.layout import Layout


@dataclass(frozen=True)
class Loop:
    """A scan around a use; `examples` where it runs over the examples themselves, as `lax.map` does."""

    number: int
    length: int
    examples: bool = False


@dataclass(frozen=True)
class View:
    """A view of a root; in the body of scans, of what the scans take from stacks of it."""

    root: int
    layout: Layout
    stacks: tuple[tuple[Loop, int], ...] = ()  # each with the stride of its stack in the root


@dataclass(frozen=True)
class Root:
    """A param, or (with a `site`) the result `result` of an operation on params alone.

    One that is made inside of loops is taken for the stack of what all their steps make.
    """

    shape: tuple[int, ...]
    dtype: Any
    loops: tuple[Loop, ...] = ()
    site: "int | None" = None
    result: int = 0


@dataclass(frozen=True)
class Site:
    """A use of one or several views by one operation.

    kind: "dot", "conv", "rows", "scale", "total" (the zero is added to the operand, broadcast to its
    examples), "call" (any operation, whose own derivative is taken), "made" (any operation on params alone).
    """

    kind: str
    eqn: Any
    views: tuple[tuple[int, View], ...]  # each with its place among the operands
    loops: tuple[Loop, ...]
    batch: Batch | None  # the examples in what gets the zero
    record: tuple[int, ...] = ()  # the operands that are kept
    batches: tuple[Batch | None, ...] = ()  # the examples in the operands
    zeros: tuple[
        Any, ...
    ] = ()  # (shape, dtype) of what gets the zero, without the loops; None: it needs none
    outs: tuple[Batch | None, ...] = ()  # the examples in the results
    where: str = ""  # "model.py:12 (forward)"

    @property
    def by_loop(self) -> bool:
        """Whether it lies in a loop over the examples."""
        return any(loop.examples for loop in self.loops)


@dataclass
class Step:
    """One operation: which sites lie before it (by operand) and at its results, or what it runs inside."""

    eqn: Any
    before: dict[int, int] = field(default_factory=dict)  # operand -> site
    at: int | None = None
    bodies: tuple["Body", ...] = ()
    how: str = ""  # "call", "scan" or "cond"
    loop: Loop | None = None


@dataclass
class Body:
    """A jaxpr with a step for each of its operations."""

    jaxpr: Any
    consts: list[Any]
    steps: list[Step]
    sites: list[int]  # of it and of what it runs inside


@dataclass(eq=False)
class Plan:
    """The plan of a whole function."""

    body: Body
    sites: list[Site]
    roots: list[Root]
    out: list[Batch | None]
    inputs: Any = ()  # a tree like the first argument


def count(site: Site) -> int:
    """Count the numbers in the zeros of a site, its loops included."""
    steps = math.prod(loop.length for loop in site.loops)
    return steps * sum(math.prod(zero[0]) for zero in site.zeros if zero)
