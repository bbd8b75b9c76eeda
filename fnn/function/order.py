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
    known, times = [own for own in operands if own], batch.outer * batch.inner
    if name == "slice" and eqn.params["strides"] and eqn.params["strides"][batch.axis] > 1:
        return _strided(eqns, known[0] if known else None, batch, sizes)
    if name == "gather" and times > 1 and operands[0] is not False and _names_examples(eqns, sizes):
        return Batch(batch.axis, 1, times)  # `keeps` has seen that those of one lie behind each other
    if name.startswith("scatter") and operands[2] is not False:
        updates = sizes.of(shape_of(eqn.invars[2]), shape_of(eqns[1].invars[2]))
        if updates and not updates.single and (operands[2] is None or operands[2].outer != 1):
            return False
    if not known or None in operands:
        return None
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


def _strided(eqns: tuple[Any, Any], own: Lying, batch: Batch, sizes: Sizes) -> Lying | Literal[False]:
    """Every second, say, of several elements that lie behind each other for each example."""
    p, axis = eqns[0].params, batch.axis
    step, start = p["strides"][axis], p["start_indices"][axis]
    if own is None or own.axis != axis or own.outer != 1 or own.inner % step or start >= step:
        return False
    if any(ends.params["start_indices"][axis] != start for ends in eqns):
        return False
    return Batch(axis, 1, own.inner // step) if batch.outer * batch.inner * step == own.inner else False


def _names_examples(eqns: tuple[Any, Any], sizes: Sizes) -> bool:
    """Tell whether a gather's index names places along the axis of the examples."""
    own = sizes.of(shape_of(eqns[0].invars[0]), shape_of(eqns[1].invars[0]))
    return own is not None and own.axis in eqns[0].params["dimension_numbers"].start_index_map


def _concatenated(known: list[Batch], batch: Batch, all_of_them: bool) -> Lying:
    """Whole batches one after another."""
    if all_of_them and all(own.axis == batch.axis and own.inner == 1 for own in known):
        return Batch(batch.axis, sum(own.outer for own in known))
    return None


def _same_length(eqns: tuple[Any, Any], own: Batch) -> bool:
    axis = own.axis
    return shape_of(eqns[1].invars[0])[axis] == shape_of(eqns[1].outvars[0])[axis]
