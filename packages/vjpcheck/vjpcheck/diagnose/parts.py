"""The mistakes of a value that is cut into parts, as the gates of a recurrent cell are: parts exchanged."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Literal

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Fault
from vjpcheck.diagnose.regions import is_elementwise
from vjpcheck.interpret import Operation

MOST = 6  # parts


def exchanged(operation: Operation) -> Iterator[Fault]:
    """Return, for an operation whose output is cut into equal parts, each two of them exchanged.

    Args: `operation`, the operation.
    """
    if len(operation.equation.outvars) != 1:
        return
    for axis, count in sorted(_cuts(operation, operation.equation.outvars[0])):
        for a, b in combinations(range(count), 2):
            text = f"the cotangents of parts {a} and {b} of {count} along axis {axis} are exchanged"

            def rule(
                back: Any, a: int = a, b: int = b, axis: int = axis, count: int = count
            ) -> dict[int, Any]:
                parts = jnp.split(back.dy, count, axis)
                parts[a], parts[b] = parts[b], parts[a]
                pulled = back.pull(jnp.concatenate(parts, axis))
                return {i: x for i, x in enumerate(pulled) if x is not None and back.right[i] is not None}

            yield Fault(Kind.PARTS_EXCHANGED, text, rule)


def _cuts(operation: Operation, value: Any, depth: int = 3) -> set[tuple[int, int]]:
    """Return the axes along which a value is cut into equal parts, each with their number, at once or behind
    elementwise functions of it.
    """
    shape, found = value.aval.shape, set()
    for q in operation.program.eqns:
        if value not in [v for v in q.invars if not isinstance(v, Literal)]:
            continue
        out = q.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
        if q.primitive.name == "split" and len(set(q.params["sizes"])) == 1:
            found.add((q.params["axis"], len(q.params["sizes"])))
        elif q.primitive.name == "slice":
            axes = [a for a, (n, m) in enumerate(zip(shape, out, strict=True)) if n != m]
            if len(axes) == 1 and shape[axes[0]] % out[axes[0]] == 0:
                found.add((axes[0], shape[axes[0]] // out[axes[0]]))
        elif depth and out == shape and is_elementwise(q):
            found |= _cuts(operation, q.outvars[0], depth - 1)
    return {(axis, count) for axis, count in found if 1 < count <= MOST}
