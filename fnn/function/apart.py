"""Whether a function keeps its examples apart: found in its trace, with the line where they meet.

What matters is a value that depends on params. One that is made of params alone is the same for all examples.
Once it has met the examples, it lies along their axis; where it loses that axis (a mean over the batch) and
then meets the examples again, or where an operation mixes along it, one example's result depends on others.
"""

import math
from dataclasses import dataclass
from typing import Any

from fnn.function import internals
from fnn.function.batch import Batch, Sizes, is_literal, shape_of
from fnn.function.trace import Traced

PARAMS, ALONG, LOST = 1, 2, 3  # what a value is made of: params alone, with examples, without their axis
KEEPS = frozenset(
    "reshape transpose broadcast_in_dim squeeze expand_dims iota copy_p random_bits optimization_barrier "
    "reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor argmax "
    "argmin split".split()
)
ALONG_ONE = {
    "cumsum": "axis",
    "cumprod": "axis",
    "cummax": "axis",
    "cummin": "axis",
    "cumlogsumexp": "axis",
    "sort": "dimension",
    "rev": "dimensions",
}
LAST_TWO = frozenset("cholesky eigh eig lu qr svd triangular_solve householder_product geqrf schur".split())


class Coupled(Exception):
    """Examples meet, at the place that the text says."""


@dataclass(frozen=True)
class Made:
    """What a value that depends on params is made of.

    Args:
        of: PARAMS, ALONG or LOST.
        where: the line where it lost the examples' axis, for LOST.
    """

    of: int
    where: str = ""


State = Made | None


def coupling(traced: Traced) -> str | None:
    """Return where one example's result depends on others; None where none does."""
    followed = set(traced.params)
    states = [Made(PARAMS) if k in followed else None for k in range(len(traced.ours.jaxpr.invars))]
    try:
        outs = _walk(traced.sizes, traced.ours.jaxpr, traced.theirs.jaxpr, states)
    except Coupled as found:
        return str(found)
    return next((f"a result of no examples, made in {o.where}" for o in outs if o and o.of == LOST), None)


def _walk(sizes: Sizes, jaxpr: Any, other: Any, states: list[State], line: str = "") -> list[State]:
    """Follow what depends on params through a trace: return the states of its results.

    `line` is that of the operation that runs it, for the operations inside that have none of their own.
    """
    env: dict[Any, State] = dict(zip(jaxpr.invars, states, strict=True))

    def read(var: Any) -> State:
        return None if is_literal(var) else env.get(var)

    for eqn, theirs in zip(jaxpr.eqns, other.eqns, strict=True):
        own = [read(v) for v in eqn.invars]
        env.update(
            zip(eqn.outvars, _step(sizes, eqn, theirs, own, internals.where(eqn) or line), strict=True)
        )
    return [read(v) for v in jaxpr.outvars]


def _step(sizes: Sizes, eqn: Any, theirs: Any, states: list[State], line: str) -> list[State]:
    none: list[State] = [None] * len(eqn.outvars)
    if not any(states) or eqn.primitive.name == "stop_gradient":
        return none
    inside = internals.called(eqn) or internals.ruled(eqn)
    if inside is not None:
        other = internals.called(theirs) or internals.ruled(theirs)
        return _walk(sizes, inside[0], other[0], states, line)  # pyright: ignore
    cases = internals.branches(eqn)
    if cases is not None:
        others = internals.branches(theirs)
        found = [
            _walk(sizes, own.jaxpr, o.jaxpr, states[1:], line)
            for own, o in zip(cases, others, strict=True)  # pyright: ignore
        ]
        return [_worst(*column) for column in zip(*found, strict=True)]
    scan = internals.scanned(eqn)
    if scan is not None:
        return _scan(sizes, eqn, theirs, scan, states, line)
    solve = internals.solved(eqn)
    if solve is not None:
        return _solve(sizes, solve, internals.solved(theirs), states, line)
    shards = internals.sharded(eqn)
    if shards is not None:
        return _sharded(sizes, eqn, theirs, shards, states, line)
    outs: list[State] = []
    for var, o in zip(eqn.outvars, theirs.outvars, strict=True):
        if not internals.differentiable(var.aval):
            outs.append(None)
        else:
            batch = sizes.of(shape_of(var), shape_of(o))
            outs.append(_result(sizes, eqn, theirs, states, batch, line))
    return outs


def _worst(*states: State) -> State:
    found = [s for s in states if s is not None]
    return max(found, key=lambda s: s.of) if found else None


def _result(
    sizes: Sizes, eqn: Any, theirs: Any, states: list[State], batch: Batch | None, where: str
) -> State:
    """Return the state of one result of an operation."""
    worst = _worst(*states)
    assert worst is not None
    if worst.of == ALONG and set(internals.collected(eqn)) & set(sizes.shards):
        raise Coupled(f"`{eqn.primitive.name}` mixes the examples of several shards in {where}")
    if worst.of == LOST:
        if batch is not None:
            raise Coupled(f"what lost the examples' axis in {worst.where} meets them again in {where}")
        return worst
    if worst.of == PARAMS:
        return Made(PARAMS if batch is None else ALONG)
    if batch is None:
        return Made(LOST, where)
    if batch.axes > 1:
        raise Coupled(f"pairs of examples are made in {where}")
    if not batch.whole:
        raise Coupled(f"some of the examples are taken apart in {where}")
    for k, state in enumerate(states):
        if state is not None and state.of == ALONG:
            own = sizes.of(shape_of(eqn.invars[k]), shape_of(theirs.invars[k]))
            if own is not None and not _keeps(eqn, k, own, sizes):
                raise Coupled(f"`{eqn.primitive.name}` mixes examples, or may do so, in {where}")
    return Made(ALONG)


def _keeps(eqn: Any, k: int, batch: Batch, sizes: Sizes) -> bool:
    """Tell whether an operation keeps the examples of operand `k`, which its result still has, apart."""
    name, p, axis = eqn.primitive.name, eqn.params, batch.axis
    shape, out = shape_of(eqn.invars[k]), shape_of(eqn.outvars[0])
    if (
        name in internals.ELEMENTWISE
        or name in internals.IDENTITIES
        or name in KEEPS
        or name in internals.SUMS
    ):
        return True
    if name in ALONG_ONE:
        along = p[ALONG_ONE[name]]
        return axis not in along if isinstance(along, tuple) else axis != along
    if name == "triangular_solve" and k == 1 and axis == len(shape) - (1 if p["left_side"] else 2):
        return True  # each right-hand side by itself
    if name in LAST_TWO:
        return axis < len(shape) - 2
    match name:
        case "dot_general":
            return axis not in p["dimension_numbers"][0][k]
        case "conv_general_dilated":
            return k == 0 and axis == p["dimension_numbers"].lhs_spec[0] and p["batch_group_count"] == 1
        case "concatenate":
            return True  # of whole batches, as the result holds its examples evenly
        case "pad":
            return tuple(p["padding_config"][axis]) == (0, 0, 0)
        case "slice":
            step = (p["strides"] or (1,) * len(shape))[axis]
            return step == 1 and p["start_indices"][axis] % max(1, sizes.n) == 0
        case "dynamic_slice" | "dynamic_update_slice":
            return shape[axis] == out[axis]
        case "gather":
            d = p["dimension_numbers"]
            return axis in d.operand_batching_dims or (
                axis not in d.start_index_map and p["slice_sizes"][axis] == shape[axis]
            )
        case _ if name.startswith("scatter"):
            d = p["dimension_numbers"]
            if k == 0:
                return axis in d.operand_batching_dims or axis not in d.scatter_dims_to_operand_dims
            return axis in d.update_window_dims or bool(d.operand_batching_dims)
        case _ if name.startswith("reduce_window") or name.startswith("select_and"):
            return p["window_dimensions"][axis] == 1
        case "fft":
            return axis < len(shape) - len(p["fft_lengths"])
        case "top_k":
            return axis != len(shape) - 1
    return False


def _solve(sizes: Sizes, solve: Any, other: Any, states: list[State], line: str) -> list[State]:
    """Follow a linear solve through its solver, and then through the product with what it found."""
    own = [*states[solve.of_solver], *states[solve.right]]
    outs = _walk(sizes, solve.solver, other.solver, own, line)
    again = [_worst(*pair) for pair in zip(outs, states[solve.right], strict=True)]
    found = _walk(sizes, solve.product, other.product, [*states[solve.of_product], *again], line)
    return [_worst(*pair) for pair in zip(outs, found, strict=True)]


def _sharded(
    sizes: Sizes, eqn: Any, theirs: Any, shards: Any, states: list[State], where: str
) -> list[State]:
    """Follow a `shard_map` through one of its shards."""
    cuts = set()
    for var, o, spec in zip(eqn.invars, theirs.invars, shards.specs, strict=True):
        batch = sizes.of(shape_of(var), shape_of(o))
        if batch is not None:
            cuts.add(spec[batch.axis] if batch.axis < len(spec) else ())
    if len(cuts) > 1:
        raise Coupled(f"the shards have other examples of some operands than of others in {where}")
    names = cuts.pop() if cuts else ()
    parts = math.prod(shards.mesh[name] for name in names)
    own = Sizes(sizes.n // parts, sizes.other // parts, names)
    other: Any = internals.sharded(theirs)
    return _walk(own, shards.body, other.body, states, where)


def _scan(sizes: Sizes, eqn: Any, theirs: Any, scan: Any, states: list[State], where: str) -> list[State]:
    other: Any = internals.scanned(theirs)
    body, start = scan.body.jaxpr, scan.consts + scan.carry
    if other.length != scan.length:  # over the examples, one by one
        rest = [_worst(*states[: scan.consts]), _worst(*states[scan.consts : start])]
        if any(s is not None and s.of != PARAMS for s in rest):
            raise Coupled(f"a loop over the examples sees other examples in {where}")
        own = [None if s is None or s.of == ALONG else s for s in states]
        outs = _walk(sizes, body, other.body.jaxpr, own, where)
        met = [Made(PARAMS)] if any(states) else []
        carried = [v for v, o in zip(body.outvars, outs, strict=True) if o][: scan.carry]
        if any(o is not None for o in outs[: scan.carry]) and carried:
            raise Coupled(f"a loop over the examples carries something on in {where}")
        differs = [internals.differentiable(v.aval) for v in eqn.outvars]
        return [Made(ALONG) if d and met else None for d in differs]
    while True:
        outs = _walk(sizes, body, other.body.jaxpr, states, where)
        carried = [_worst(s, o) for s, o in zip(states[scan.consts : start], outs, strict=False)]
        again = [*states[: scan.consts], *carried, *states[start:]]
        if again == states:
            return [*carried, *outs[scan.carry :]]
        states = again
