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
    """A scan around a use.

    Args:
        number: its number, which no other loop of the plan has.
        length: the number of its steps.
        examples: whether it runs over the examples themselves, as `lax.map` does.
    """

    number: int
    length: int
    examples: bool = False


@dataclass(frozen=True)
class View:
    """A view of a root; in the body of scans, of what the scans take from stacks of it.

    Args:
        root: the number of the root.
        layout: where its elements lie in the root; in scans, those of the first entry of every stack.
        stacks: each scan whose steps have elements of their own, with the stride of that stack in the root.
    """

    root: int
    layout: Layout
    stacks: tuple[tuple[Loop, int], ...] = ()


@dataclass(frozen=True)
class Root:
    """A param, or a result of an operation on params alone.

    Args:
        shape: its shape, without the loops.
        dtype: its dtype.
        loops: the loops inside of which it is made; it is taken for the stack of what all their steps make.
        site: the number of the site of the operation that makes it; None for a param.
        result: its place among the results of that operation.
    """

    shape: tuple[int, ...]
    dtype: Any
    loops: tuple[Loop, ...] = ()
    site: "int | None" = None
    result: int = 0


@dataclass(frozen=True)
class Site:
    """A use of one or several views by one operation.

    Args:
        kind: "dot", "conv", "rows", "scale", "total" (the zero is added to the operand, broadcast to its
            examples), "call" (any operation, whose own derivative is taken), "made" (any operation on params
            alone).
        eqn: the operation, an equation of the trace.
        views: the views, each with its place among the operands.
        loops: the loops around it, the outermost first.
        batch: the examples in what gets the zero.
        record: the places of the operands that are kept.
        batches: the examples in the operands.
        zeros: (shape, dtype) of what gets a zero, without the loops: of the operand for "total", else of
            every result; None for a result that needs none.
        outs: the examples in the results.
        where: the line of the user's program, "model.py:12 (forward)".
    """

    kind: str
    eqn: Any
    views: tuple[tuple[int, View], ...]
    loops: tuple[Loop, ...]
    batch: Batch | None
    record: tuple[int, ...] = ()
    batches: tuple[Batch | None, ...] = ()
    zeros: tuple[Any, ...] = ()
    outs: tuple[Batch | None, ...] = ()
    where: str = ""

    @property
    def by_loop(self) -> bool:
        """Whether it lies in a loop over the examples."""
        return any(loop.examples for loop in self.loops)


@dataclass
class Step:
    """One operation: which sites lie before it and at its results, or what it runs inside.

    Args:
        eqn: the operation, an equation of the trace.
        before: the number of the site before an operand, by the operand's place.
        at: the number of the site at its results; None for none.
        bodies: the bodies that it runs inside: one, or, of a `cond`, one for each branch.
        how: how it runs them: "call", "scan" or "cond"; "" where it runs none.
        loop: the loop of a scan.
    """

    eqn: Any
    before: dict[int, int] = field(default_factory=dict)
    at: int | None = None
    bodies: tuple["Body", ...] = ()
    how: str = ""
    loop: Loop | None = None


@dataclass
class Body:
    """A jaxpr with a step for each of its operations.

    Args:
        jaxpr: the jaxpr, an open one.
        consts: the values of its constants.
        steps: the steps, in the order of the operations.
        sites: the numbers of the sites in it and in what it runs inside.
    """

    jaxpr: Any
    consts: list[Any]
    steps: list[Step]
    sites: list[int]


@dataclass(eq=False)
class Plan:
    """The plan of a whole function.

    Args:
        body: the trace with its steps.
        sites: all sites, in the order of their numbers.
        roots: all roots, in the order of their numbers; the params come first.
        out: the examples in the results.
        inputs: a tree like the first argument behind the params.
        axes: for each operand the axis on which its examples lie; None where it has none.
        padding: how many examples run behind those of the batch: see padded.py.
    """

    body: Body
    sites: list[Site]
    roots: list[Root]
    out: list[Batch | None]
    inputs: Any = ()
    axes: tuple[int | None, ...] = ()
    padding: int = 0


def count(site: Site) -> int:
    """Count the numbers in the zeros of a site, its loops included."""
    steps = math.prod(loop.length for loop in site.loops)
    return steps * sum(math.prod(zero[0]) for zero in site.zeros if zero)
