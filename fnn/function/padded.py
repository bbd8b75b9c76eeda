"""A batch run among a few examples more, where the program of its own number of examples is another one.

JAX writes less where two sizes agree: a broadcast to one example is none, and a reshape to the shape that is
there. Where a function keeps its examples apart, the first one again behind the batch changes nothing.
"""

from dataclasses import replace
from typing import Any

import jax

from fnn.factors import Factor
from fnn.function.called import Called, Shaped
from fnn.function.forms import Part, Several, Viewed
from fnn.function.placed import among
from fnn.function.run import Kept, Zeros, run
from fnn.function.sites import Plan


def run_batch(plan: Plan, values: list[Any], zeros: Zeros) -> tuple[list[Any], Kept]:
    """Run a whole function on the values of its operands; see `run`.

    Args:
        plan: its plan.
        values: an array or number for each operand.
        zeros: the zeros of its sites.

    Returns:
        the results of the batch, and what each site keeps, of the examples behind the batch, too.
    """
    more = plan.padding
    if more:
        pairs = zip(values, plan.axes, strict=True)
        values = [v if axis is None else among(v, 0, more) for v, axis in pairs]
    outs, kept = run(plan.body, plan.sites, values, zeros)
    if more:
        outs = [o if b is None else among(o, 0, -more) for o, b in zip(outs, plan.out, strict=True)]
    return outs, kept


def first_of(factor: Any, shape: tuple[int, ...], n: int) -> Any:
    """Return the factor of the first examples alone.

    Args:
        factor: the factor, of more examples.
        shape: the shape of its param.
        n: the number of the first ones.
    """
    match factor:
        case Viewed():
            return replace(factor, factor=first_of(factor.factor, factor.layout.shape, n))
        case Part():
            return replace(factor, factor=first_of(factor.factor, factor.matrix, n))
        case Several():
            return replace(factor, factors=tuple(first_of(own, shape, n) for own in factor.factors))
        case Called():
            results = tuple(_first_of_result(own, n) for own in factor.results)
            return replace(factor, results=results, n=n, padding=factor.padding + factor.n - n)
    assert isinstance(factor, Factor)
    stacks = len(shape) - factor.rank
    return jax.tree.map(lambda leaf: among(leaf, stacks, n - leaf.shape[stacks]), factor)


def _first_of_result(own: Any, n: int) -> Any:
    return replace(own, factor=first_of(own.factor, own.shape, n)) if isinstance(own, Shaped) else own
