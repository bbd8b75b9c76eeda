"""Whether an operation keeps the examples of an operand apart: what it does along their axis."""

from typing import Any

from fnn.function import internals
from fnn.function.batch import Batch, Sizes, shape_of
from fnn.function.positions import Scopes, is_identity, own_rows

KEEPS = frozenset(
    "reshape transpose broadcast_in_dim squeeze expand_dims iota copy_p random_bits stack unstack tile "
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
EACH = frozenset("device_put optimization_barrier".split())  # each result is one operand


def keeps(
    eqns: tuple[Any, Any], k: int, batches: tuple[Batch, Batch], sizes: Sizes, scopes: Scopes | None
) -> bool | None:
    """Tell whether an operation keeps the examples of an operand, which its result still has, apart.

    Args:
        eqns: the operation in both traces.
        k: the place of the operand.
        batches: the examples in the operand, and in the result.
        sizes: the numbers of examples of both traces.
        scopes: where the operation stands in both; None where that is not known.

    Returns:
        whether it does; None for an operation that is not known.
    """
    eqn, batch = eqns[0], batches[0]
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
            return axis not in p["dimension_numbers"][0][k] or is_identity(sizes, eqns, scopes, k)
        case "conv_general_dilated":
            return k == 0 and axis == p["dimension_numbers"].lhs_spec[0] and p["batch_group_count"] == 1
        case "concatenate":
            return True  # of whole batches, as the result holds its examples evenly
        case "pad":
            return tuple(p["padding_config"][axis]) == (0, 0, 0)
        case "slice":
            step = (p["strides"] or (1,) * len(shape))[axis]  # of several, see `followed`
            return step > 1 or p["start_indices"][axis] % max(1, sizes.n) == 0
        case "dynamic_slice" | "dynamic_update_slice":
            return shape[axis] == out[axis]
        case "gather":
            d = p["dimension_numbers"]
            if k == 1 or axis in d.operand_batching_dims:
                return True  # an index names what its own row of the result is
            if axis not in d.start_index_map:
                return p["slice_sizes"][axis] == shape[axis]
            return own_rows(sizes, eqns, scopes, axis, batches[1])
        case _ if name.startswith("scatter"):
            d, into = p["dimension_numbers"], batches[1].axis
            if k == 0 or into in d.operand_batching_dims:
                return True  # what is there already stays in its row
            if k == 2 and axis in d.update_window_dims:
                return into not in d.scatter_dims_to_operand_dims or shape[axis] == out[into]
            updates = Batch(axis) if k == 2 else _behind_windows(axis, d)
            return own_rows(sizes, eqns, scopes, into, updates)
        case _ if name.startswith("reduce_window") or name.startswith("select_and"):
            return p["window_dimensions"][axis] == 1
        case "fft":
            return axis < len(shape) - len(p["fft_lengths"])
        case "top_k":
            return axis != len(shape) - 1
    return None


def _behind_windows(axis: int, d: Any) -> Batch:
    """Return where the rows of an axis of the index lie in the updates of a scatter."""
    for window in sorted(d.update_window_dims):
        axis += window <= axis
    return Batch(axis)
