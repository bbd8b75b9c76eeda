"""What a value in a trace is made of: params alone, the examples, or what lost their axis."""

from dataclasses import replace
from typing import NamedTuple

from fnn.function.order import Lying

PARAMS, ALONG, LOST = 1, 2, 3  # what a value is made of: params alone, with examples, without their axis


class Made(NamedTuple):
    """What a value is made of.

    Args:
        of: PARAMS, ALONG or LOST.
        where: the line where it lost the examples' axis, for LOST.
        lying: how the examples lie along their axis, for ALONG; None where that is not known.
    """

    of: int
    where: str = ""
    lying: Lying = None


State = Made | None


def worst(*states: State) -> State:
    """Return the state of what is made of values of some states.

    Args:
        states: the states.
    """
    found = [s for s in states if s is not None]
    most = max(found, key=lambda s: s.of) if found else None
    if most and most.of == ALONG and len({s.lying for s in found if s.of == ALONG}) > 1:
        return Made(ALONG)  # in several orders
    return most


def moved(state: State, by: int) -> State:
    """Return the state of a scan's operand in one step, or of a step's result in the stack of all.

    Args:
        state: the state.
        by: -1 into the loop, whose steps lose the first axis, and 1 out of it.
    """
    if state is None or state.lying is None:
        return state
    return state._replace(lying=replace(state.lying, axis=state.lying.axis + by))
