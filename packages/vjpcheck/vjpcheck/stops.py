"""Where a function stops its own gradients: what is right then is what it declares, not its slope."""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import Literal

from vjpcheck.jaxprs import CALLS, every

_MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "select_n", "max", *CALLS}


def stops(jaxpr: Any) -> Iterator[Any]:
    """Return the equations of a trace that stop a gradient, but for those of a maximum.

    A stable softmax stops the gradient of its maximum, which changes nothing.
    """
    made = {v: q for q in every(jaxpr) for v in q.outvars}
    for q in every(jaxpr):
        if q.primitive.name == "stop_gradient" and not _is_maximum(q.invars[0], made, 4):
            yield q


def _is_maximum(v: Any, made: dict[Any, Any], steps: int) -> bool:
    q = None if isinstance(v, Literal) else made.get(v)
    if q is None or q.primitive.name == "reduce_max":
        return q is not None
    return q.primitive.name in _MOVES and steps > 0 and any(_is_maximum(x, made, steps - 1) for x in q.invars)
