"""Which constants of a trace depend on how many examples there are: `x @ w / x.shape[0]` divides by one.

The shapes depend on it in every program. A number does so only where it differs between the two traces: it
is computed in both, and compared, of what lies along the examples each row with itself.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.function import internals
from fnn.function.batch import Sizes, is_literal, shape_of
from fnn.function.positions import Scopes, inside

LARGEST = 1 << 20  # elements of a constant that is computed to see


def reads_number(
    sizes: Sizes, scopes: Scopes | None, eqns: tuple[Any, Any], free: list[bool], strict: bool
) -> bool:
    """Tell whether an operation reads a number that depends on how many examples there are.

    Args:
        sizes: the numbers of examples of both traces.
        scopes: where the operation stands in both; None where that is not known.
        eqns: the operation in both.
        free: which of its operands no example enters; these are looked at.
        strict: whether one of which it is not known counts as one that does.
    """
    if internals.called(eqns[0]) or internals.ruled(eqns[0]):
        return False  # where it is read inside
    pairs = zip(eqns[0].invars, eqns[1].invars, free, strict=False)
    found = [same(sizes, scopes, var, other) for var, other, one in pairs if one]
    return False in found or strict and None in found or bool(free) and _reads_option(*eqns)


def _reads_option(eqn: Any, its: Any) -> bool:
    """Tell whether what is written into an operation itself does, as a power and the places of a slice."""
    if eqn.primitive.name in internals.ELEMENTWISE:
        return _options(eqn) != _options(its)
    if eqn.primitive.name != "slice":
        return False
    axes = zip(shape_of(eqn.invars[0]), shape_of(its.invars[0]), _ends(eqn), _ends(its), strict=True)
    return any(size == other and ends != theirs for size, other, ends, theirs in axes)


def _ends(eqn: Any) -> list[tuple[int, int]]:
    return list(zip(eqn.params["start_indices"], eqn.params["limit_indices"], strict=True))


def same(sizes: Sizes, scopes: Scopes | None, var: Any, other: Any) -> bool | None:
    """Tell whether a value that no example enters is the same for any number of examples, row by row.

    Args:
        sizes: the numbers of examples of both traces.
        scopes: where the value stands in both; None where that is not known.
        var: the value in the first trace.
        other: the same in the second.

    Returns:
        whether it is; None where that is not known.
    """
    if is_literal(var) or is_literal(other):
        return is_literal(var) and is_literal(other) and bool(np.array_equal(var.val, other.val, True))
    if scopes is None:
        return None
    known = scopes[0].same
    if var not in known:
        known[var] = _same(sizes, scopes, var, other)
    return known[var]


def _same(sizes: Sizes, scopes: Scopes, var: Any, other: Any) -> bool | None:
    ours, theirs = scopes
    if var in ours.given:
        if ours.around is not None and theirs.around is not None and ours.given[var] is not None:
            return same(sizes, (ours.around, theirs.around), ours.given[var], theirs.given[other])
        if ours.given[var] is None:
            return ours.outermost or None  # params and keys are as they are
        return _equal(sizes, var, other, ours.given[var], theirs.given[other])
    (eqn, k), (its, _) = ours.maker(var), theirs.maker(other)
    if eqn is None or its is None:
        return None
    calls = [internals.called(own) or internals.ruled(own) for own in (eqn, its)]
    if calls[0] is not None and calls[1] is not None:
        within = inside(scopes, eqn, its, (calls[0], calls[1]))
        return same(sizes, within, calls[0][0].outvars[k], calls[1][0].outvars[k])
    operands = [same(sizes, scopes, v, o) for v, o in zip(eqn.invars, its.invars, strict=True)]
    if all(operands) and _grows(sizes, eqn, its):
        return True
    if math.prod(shape_of(other)) > LARGEST:
        return None
    return _equal(sizes, var, other, ours.value(var), theirs.value(other))


def _grows(sizes: Sizes, eqn: Any, its: Any) -> bool:
    """Tell whether an operation gives the same rows of the same operands, more of them for more examples."""
    name, pairs = (
        eqn.primitive.name,
        zip((*eqn.invars, *eqn.outvars), (*its.invars, *its.outvars), strict=True),
    )
    if name in internals.ELEMENTWISE:
        return _options(eqn) == _options(its)
    if name in ("broadcast_in_dim", "iota"):
        found = sizes.of(shape_of(eqn.outvars[0]), shape_of(its.outvars[0]))
        return found is None or found.single
    unlike = any(shape_of(v) != shape_of(o) for v, o in pairs)
    return not unlike and str(eqn.params) == str(its.params)


def _options(eqn: Any) -> dict[str, str]:
    return {name: str(value) for name, value in eqn.params.items() if name != "sharding"}


def _equal(sizes: Sizes, var: Any, other: Any, a: Any, b: Any) -> bool | None:
    """Compare two values; None where one is not known, or the order of examples on a merged axis counts."""
    if a is None or b is None:
        return None
    batch = sizes.of(shape_of(var), shape_of(other))
    with jax.ensure_compile_time_eval():
        a, b = (np.asarray(jax.random.key_data(v) if _is_key(v) else v) for v in (a, b))
    if batch is None:
        return _close(a, b)
    if not batch.whole or batch.axes > 1:
        return None
    times = a.shape[batch.axis] // sizes.n
    orders = [_close(a, _fewer(b, batch.axis, sizes, *order)) for order in ((1, times), (times, 1))]
    return orders[0] if orders[0] == orders[1] else None


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key)


def _fewer(b: Any, axis: int, sizes: Sizes, outer: int, inner: int) -> Any:
    """Take the rows of the first trace's examples."""
    front, behind = b.shape[:axis], b.shape[axis + 1 :]
    rows = b.reshape(*front, outer, sizes.other, inner, *behind)
    rows = np.take(rows, np.arange(sizes.n), len(front) + 1)
    return rows.reshape(*front, outer * sizes.n * inner, *behind)


def _close(a: Any, b: Any) -> bool:
    """Compare, but for the rounding that another shape may change."""
    if not np.issubdtype(a.dtype, np.inexact):
        return bool(np.array_equal(a, b))
    return bool(np.allclose(a, b, 1e-6, 0, equal_nan=True))
