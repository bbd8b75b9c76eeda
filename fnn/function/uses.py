"""Which uses of a param are known: the operations whose factor has a form of its own."""

from typing import Any

from fnn.function.batch import Batch, shape_of


def kind_of(
    eqn: Any, views: tuple[int, ...], like: list[Batch | None], by_loop: bool
) -> tuple[str, tuple[int, ...]]:
    """Return the kind of a use, see `Site`, and the places of the operands that it keeps.

    Args:
        eqn: the operation, an equation of a trace.
        views: the places of the operands that are views of params.
        like: the examples in every operand.
        by_loop: whether the use lies in a loop over the examples.
    """
    name = eqn.primitive.name
    if len(views) == 1:
        k = views[0]
        if name == "mul":
            return "scale", (1 - k,)
        if name == "dot_general" and _rows_have_examples(eqn, k, like[1 - k], by_loop):
            return "dot", (1 - k,)
        if name == "gather" and k == 0 and _is_lookup(eqn):
            return "rows", (1,)
        if name == "conv_general_dilated" and k == 1 and _is_layer(eqn, like[0], by_loop):
            return "conv", (0,)
    return "call", tuple(range(len(eqn.invars)))


def _rows_have_examples(eqn: Any, k: int, other: Batch | None, by_loop: bool) -> bool:
    """Tell whether the operand beside operand k of a product has its examples on an axis of rows."""
    contract, batch = eqn.params["dimension_numbers"]
    if by_loop and other is None:
        return True
    return other is not None and other.axis not in (*contract[1 - k], *batch[1 - k])


def _is_lookup(eqn: Any) -> bool:
    """Tell whether a gather takes whole rows along one axis of its operand."""
    d, shape = eqn.params["dimension_numbers"], shape_of(eqn.invars[0])
    if len(d.start_index_map) != 1 or d.collapsed_slice_dims != d.start_index_map or d.operand_batching_dims:
        return False
    axis = d.start_index_map[0]
    wanted = tuple(1 if a == axis else n for a, n in enumerate(shape))
    return eqn.params["slice_sizes"] == wanted and shape_of(eqn.invars[1])[-1:] == (1,)


def _is_layer(eqn: Any, batch: Batch | None, by_loop: bool) -> bool:
    """Tell whether a convolution is one of examples with a kernel, as in a layer."""
    spec = eqn.params["dimension_numbers"].lhs_spec
    if batch is None:
        return by_loop and eqn.params["batch_group_count"] == 1
    return batch is not None and batch.axis == spec[0] and eqn.params["batch_group_count"] == 1
