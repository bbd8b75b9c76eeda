"""Entries of trees, by the keys that lead to them."""

from typing import Any

from fnn.errors import InputError, describe

Path = tuple[int | str, ...]


def at_path(tree: Any, path: Path, who: object) -> Any:
    """Return the subtree that `path` leads to. Raises InputError where it leads nowhere."""
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
    """Return the tree with another subtree where `path` leads."""
    if not path:
        return leaf
    key, new = path[0], with_path(tree[path[0]], path[1:], leaf)
    if isinstance(tree, dict):
        return {**tree, key: new}
    assert isinstance(key, int)
    entries = [*tree[:key], new, *tree[key:][1:]]
    return type(tree)(entries) if type(tree) in (tuple, list) else type(tree)(*entries)
