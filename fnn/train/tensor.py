"""Tensor parallelism: which axis of each weight is sharded, found by following a network's features.

A weight whose input has all features on every device is sharded by column: each device makes some of the
output's features. A weight whose input is sharded along its features is sharded by row: each device
multiplies its own features, and the products are added up. So two weights exchange data once. What blocks
are added to has all features on every device, or every block would exchange its widest values; so what makes
it is sharded by row. Source: Shoeybi et al. 2019 (Megatron-LM).
"""

from collections.abc import Callable, Sequence

from fnn.core import Composition, Part
from fnn.train.axes import Node

Take = Callable[
    [int | None, int], bool
]  # shards an axis, from the last one, of a param; tells whether it could


def follow(node: Node, sharded: bool, take: Take, whole: bool = False) -> bool:
    """Choose the sharded axes of a layer's params, and of those inside; return whether its output is sharded.

    Branches begin alike; a layer without params, and one that names "out" alone (a norm, a bias), leave the
    features as they are; a table is sharded by vocabulary, its rows are whole.

    Args:
        node: the layer.
        sharded: whether its input is sharded along the features, the last axis.
        take: `take(number, axis)` shards the axis, counted from the last, -1, of the param of that number,
            and returns whether it is.
        whole: whether its output is to have all features on every device.
    """
    if not isinstance(node.layer, Composition):
        return _leaf(node, sharded, take, whole)
    outputs, previous, inside = [], sharded, node.inside()
    for i, (part, inner) in enumerate(inside):
        own = previous if part.takes == "previous" else sharded
        rest = inside[i + 1 :] if node.layer.equations is None else []
        previous = follow(inner, own, take, _is_added_to(rest) if rest else whole)
        if part.times > 1:
            previous = own  # what a loop carries stays as it is
        outputs.append(previous)
    if node.layer.equations is None:
        return previous
    if _adds(node):
        return sharded  # the input is added to what the parts make, which is placed like it
    return all(outputs)


def _adds(node: Node) -> bool:
    """Return whether a composition adds what its parts make to its input."""
    equations = node.layer.equations if isinstance(node.layer, Composition) else None
    return equations is not None and any("{x}" in equation for equation in equations[0])


def _is_added_to(inside: Sequence[tuple[Part, Node]]) -> bool:
    """Return whether the first of some parts that does more than norms and activations adds to its input."""
    for _, node in inside:
        if not isinstance(node.layer, Composition):
            if any("in" in axes or "vocabulary" in axes for _, _, axes, _ in node.named()):
                return False
        elif node.layer.equations is not None:
            return _adds(node)
        elif inner := node.inside():
            return _is_added_to(inner)
    return False


def _leaf(node: Node, sharded: bool, take: Take, whole: bool) -> bool:
    params = node.named()
    names = {name for _, _, axes, _ in params for name in axes}

    def shard(name: str) -> bool:
        """Shard the axis of this name of all params that have it; return whether it could be."""
        return all([take(i, axes.index(name) - len(axes)) for i, _, axes, _ in params if name in axes])

    if "vocabulary" in names:
        return shard("vocabulary") and "in" in names  # a head's outputs are the vocabulary, a table's are not
    if "in" in names:
        if sharded or whole:
            shard("in")
            return False
        return shard("out")
    if "out" in names:
        return sharded and shard("out")
    return sharded and not params
