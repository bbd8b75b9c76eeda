"""Which examples an index names: `y[jnp.arange(n), label]` takes of every example its own.

An index that no example and no param enters is a constant of the trace. It is computed, in both traces.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.function import internals
from fnn.function.batch import Batch, Sizes, is_literal, shape_of

LARGEST = 1 << 10  # rows of an identity that is computed to see


class Scope:
    """A trace, and the trace around it that calls it: the values in it that are constant.

    Args:
        jaxpr: the trace.
        operands: for each of its constants and operands its value, an operand of `around`, or None.
        around: the trace around it; None where there is none, or it is not known.
        outermost: whether it is the whole function's.
    """

    def __init__(
        self, jaxpr: Any, operands: list[Any], around: "Scope | None" = None, outermost: bool = False
    ):
        self.jaxpr, self.around, self.outermost = jaxpr, around, outermost
        self.given = dict(zip([*jaxpr.constvars, *jaxpr.invars], operands, strict=True))
        self.made: dict[Any, tuple[Any, int]] | None = None
        self.found: dict[Any, Any] = {}  # the values that were computed
        self.same: dict[Any, bool | None] = {}  # which do not depend on the number of examples: see sized.py

    def value(self, var: Any) -> Any:
        """Compute a variable of the trace; None where it is no constant. Args: `var`, of the trace."""
        if is_literal(var):
            return var.val
        if var not in self.found:
            self.found[var] = self._value(var)
        return self.found[var]

    def _value(self, var: Any) -> Any:
        if var in self.given:
            own = self.given[var]
            return own if self.around is None or own is None else self.around.value(own)
        eqn, k = self.maker(var)
        if eqn is None or internals.inner(eqn) and internals.called(eqn) is None:
            return None
        inside = internals.called(eqn)
        if inside is not None:
            return Scope(inside[0], [None] * len(inside[1]) + list(eqn.invars), self).value(
                inside[0].outvars[k]
            )
        values = [self.value(v) for v in eqn.invars]
        if any(v is None for v in values):
            return None
        with jax.ensure_compile_time_eval():
            return internals.bind(eqn, values)[k]

    def maker(self, var: Any) -> tuple[Any, int]:
        """Return the operation that makes a variable, and its place among the results. Args: `var`."""
        if self.made is None:
            self.made = {v: (eqn, k) for eqn in self.jaxpr.eqns for k, v in enumerate(eqn.outvars)}
        return self.made.get(var, (None, 0))

    def column(self, var: Any, k: int) -> Any:
        """Compute `index[..., k]`; None where it is no constant.

        Args:
            var: the index, a variable of the trace.
            k: the place on its last axis.
        """
        eqn = None if is_literal(var) else self.maker(var)[0]
        if eqn is not None and eqn.primitive.name == "concatenate":
            if eqn.params["dimension"] == len(shape_of(var)) - 1:
                for part in eqn.invars:
                    width = shape_of(part)[-1]
                    if k < width:
                        return self.column(part, k)
                    k -= width
        found = self.value(var)
        return None if found is None else np.asarray(found)[..., k]


Scopes = tuple[Scope, Scope]


def outermost(closed: Any, keys: bool) -> Scope:
    """Return the scope of a whole trace.

    Args:
        closed: the trace, a closed jaxpr.
        keys: whether random keys are constants, so that what is drawn is known for one of them.
    """

    def given(aval: Any) -> Any:
        if not keys or not jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
            return None
        with jax.ensure_compile_time_eval():
            return jnp.zeros(aval.shape, aval.dtype)

    values = [*closed.consts, *(given(v.aval) for v in closed.jaxpr.invars)]
    return Scope(closed.jaxpr, values, outermost=True)


def inside(scopes: Scopes | None, eqn: Any, theirs: Any, bodies: tuple[Any, Any]) -> Scopes:
    """Return the scopes of what an operation calls, in both traces.

    Args:
        scopes: where the operation stands; None where that is not known.
        eqn: the operation in the first trace.
        theirs: the same in the second.
        bodies: what it calls in both, a jaxpr, of its operands and perhaps of more, and its constants.
    """
    made = []
    for k, (own, (body, consts)) in enumerate(zip((eqn, theirs), bodies, strict=True)):
        around = None if scopes is None else scopes[k]
        operands = list(own.invars) if around is not None else []
        operands += [None] * (len(body.invars) - len(operands))
        values = consts if around is None else [None] * len(consts)
        made.append(Scope(body, [*values, *operands], around))
    return made[0], made[1]


def own_rows(sizes: Sizes, eqns: tuple[Any, Any], scopes: Scopes | None, axis: int, batch: Batch) -> bool:
    """Tell whether a gather or a scatter takes of each example, or puts into it, what is its own.

    Of several elements for each example, those of one lie behind each other: `arange(n * k) // k`.

    Args:
        sizes: the numbers of examples of both traces.
        eqns: the operation in both.
        scopes: where it stands in both; None where that is not known.
        axis: the axis of the examples in what is taken from, or put into; it has nothing but these.
        batch: the examples in the result of a gather, or in the updates of a scatter.
    """
    d = eqns[0].params["dimension_numbers"]
    gathers = eqns[0].primitive.name == "gather"
    named = d.start_index_map if gathers else d.scatter_dims_to_operand_dims
    windows = d.offset_dims if gathers else d.update_window_dims
    if scopes is None or axis not in named or batch.axis in windows:
        return False
    at = batch.axis - sum(w < batch.axis for w in windows)
    for eqn, scope, n in zip(eqns, scopes, (sizes.n, sizes.other), strict=True):
        rows = scope.column(eqn.invars[1], named.index(axis))
        if (
            rows is None
            or rows.ndim <= at
            or shape_of(eqn.invars[0])[axis] != n
            or rows.shape[at] % max(1, n)
        ):
            return False
        own = np.arange(rows.shape[at]) // max(1, rows.shape[at] // max(1, n))
        if not np.array_equal(
            rows, np.broadcast_to(own.reshape(-1, *(1,) * (rows.ndim - at - 1)), rows.shape)
        ):
            return False
    return True


def is_identity(sizes: Sizes, eqns: tuple[Any, Any], scopes: Scopes | None, k: int) -> bool:
    """Tell whether a product of matrices leaves the rows of its operand `k` where they are.

    Args: `sizes`, `eqns`, `scopes`, as for `own_rows`, and `k`, the place of the operand.
    """
    contract, batch = eqns[0].params["dimension_numbers"]
    if scopes is None or batch[0] or len(contract[k]) != 1 or sizes.other > LARGEST:
        return False
    for eqn, scope, n in zip(eqns, scopes, (sizes.n, sizes.other), strict=True):
        found = scope.value(eqn.invars[1 - k])
        if found is None or not np.array_equal(np.asarray(found), np.eye(n)):
            return False
    return True
