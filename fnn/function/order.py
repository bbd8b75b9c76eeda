"""In which order the examples lie along an axis: a forgotten `swapaxes` leaves it as long as before.

`(x @ w).transpose(1, 0, 2).reshape(x.shape)` has n rows again, made of other examples' tokens. So what is
known of a value's order is followed through every operation that moves elements.
"""

import math
from dataclasses import replace
from typing import Any, Literal

from fnn.function.batch import Batch, Sizes, shape_of

Lying = Batch | None  # None where the order is not known


def followed(
    eqns: tuple[Any, Any], operands: list[Lying | Literal[False]], batch: Batch, sizes: Sizes
) -> Lying | Literal[False]:
    """Return how the examples lie in a result.

    Args:
        eqns: the operation in both traces.
        operands: how they lie in each operand; False for one that is not made of them.
        batch: the axis of the result that has them.
        sizes: the numbers of examples of both traces.

    Returns:
        how they lie; None where that is not known, False where they are put into the places of others.
    """
    eqn, name = eqns[0], eqns[0].primitive.name
    known = [own for own in operands if own]
    if not known or None in operands:
        return None
    times = batch.outer * batch.inner
    if name == "reshape":
        return _reshaped(eqns, known[0], batch, sizes)
    if name == "tile":
        return Batch(batch.axis, known[0].outer * eqn.params["reps"][known[0].axis], known[0].inner)
    if name == "concatenate" and eqn.params["dimension"] == batch.axis:
        return _concatenated(known, batch, len(known) == len(eqn.invars))
    if name in ("slice", "split") and not _same_length(eqns, known[0]):
        return Batch(batch.axis, times) if known[0].inner == 1 else False
    orders = {(own.outer, own.inner) for own in known if own.outer * own.inner == times}
    if len(orders) > 1:
        return False
    return Batch(batch.axis, *orders.pop()) if orders else None


def _reshaped(eqns: tuple[Any, Any], own: Batch, batch: Batch, sizes: Sizes) -> Lying | Literal[False]:
    old, new = shape_of(eqns[1].invars[0]), shape_of(eqns[1].outvars[0])
    turned = eqns[1].params.get("dimensions")
    if turned is not None:  # the axes are put into this order first
        old, own = tuple(old[axis] for axis in turned), replace(own, axis=turned.index(own.axis))
    if math.prod(new) == 0:
        return None
    found = sizes.reshaped(own, old, new)
    return found if found is not None and found.axis == batch.axis else False


def _concatenated(known: list[Batch], batch: Batch, all_of_them: bool) -> Lying:
    """Whole batches one after another."""
    if all_of_them and all(own.axis == batch.axis and own.inner == 1 for own in known):
        return Batch(batch.axis, sum(own.outer for own in known))
    return None


def _same_length(eqns: tuple[Any, Any], own: Batch) -> bool:
    axis = own.axis
    return shape_of(eqns[1].invars[0])[axis] == shape_of(eqns[1].outvars[0])[axis]
