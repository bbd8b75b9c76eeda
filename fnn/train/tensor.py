"""Tensor parallelism: which axis of each weight is sharded, found by following a network's features.

A weight whose input has all features on every device is sharded by column: each device makes some of the
output's features. A weight whose input is sharded along its features is sharded by row: each device
multiplies its own features, and the products are added up. So two weights exchange data once. Source: Shoeybi
et al. 2019 (Megatron-LM).
"""

from collections.abc import Callable

from fnn.core import Composition
from fnn.train.axes import Node

Take = Callable[
    [int | None, int], bool
]  # shards an axis, from the last one, of a param; tells whether it could


def follow(node: Node, sharded: bool, take: Take) -> bool:
    """Choose the sharded axes of a layer's params, and of those inside; return whether its output is sharded.

    Branches begin alike; a layer without params, and one that names "out" alone (a norm, a bias), leave the
    features as they are; a table is sharded by vocabulary, its rows are whole.

    Args:
        node: the layer.
        sharded: whether its input is sharded along the features, the last axis.
        take: `take(number, axis)` shards the axis, counted from the last, -1, of the param of that number,
            and returns whether it is.
    """
    if not isinstance(node.layer, Composition):
        return _leaf(node, sharded, take)
    outputs, previous = [], sharded
    for part, inner in node.inside():
        own = previous if part.takes == "previous" else sharded
        previous = follow(inner, own, take)
        if part.times > 1:
            previous = own  # what a loop carries stays as it is
        outputs.append(previous)
    if node.layer.equations is None:
        return previous
    if any("{x}" in equation for equation in node.layer.equations[0]):
        return sharded  # the input is added to what the parts make, which is placed like it
    return all(outputs)


def _leaf(node: Node, sharded: bool, take: Take) -> bool:
    params = node.named()
    names = {name for _, _, axes, _ in params for name in axes}

    def shard(name: str) -> bool:
        """Shard the axis of this name of all params that have it; return whether it could be."""
        return all([take(i, axes.index(name) - len(axes)) for i, _, axes, _ in params if name in axes])

    if "vocabulary" in names:
        return shard("vocabulary") and "in" in names  # a head's outputs are the vocabulary, a table's are not
    if "in" in names:
        if sharded:
            shard("in")
            return False
        return shard("out")
    if "out" in names:
        return sharded and shard("out")
    return sharded and not params
