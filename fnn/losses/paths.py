"""Entries of trees, by the keys that lead to them."""

from typing import Any

from fnn.errors import InputError, describe

Path = tuple[int | str, ...]


def at_path(tree: Any, path: Path, who: object) -> Any:
    """Return the subtree that a path leads to.

    Args:
        tree: the tree.
        path: the keys, the outermost first.
        who: the head that asks, for the error message.

    Raises:
        InputError: where the path leads nowhere.
    """
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            expected = f"tied={path!r} to lead to a table among the network's params"
            raise InputError(
                who, expected, describe(tree), 'fnn.LinearCrossEntropy(V, tied=(0, "embedding"))'
            ) from None
    return tree


def with_path(tree: Any, path: Path, leaf: Any) -> Any:
    """Return a tree with another subtree.

    Args:
        tree: the tree.
        path: the keys that lead to the subtree, the outermost first.
        leaf: the new subtree.
    """
    if not path:
        return leaf
    key, new = path[0], with_path(tree[path[0]], path[1:], leaf)
    if isinstance(tree, dict):
        return {**tree, key: new}
    assert isinstance(key, int)
    entries = [*tree[:key], new, *tree[key:][1:]]
    return type(tree)(entries) if type(tree) in (tuple, list) else type(tree)(*entries)
