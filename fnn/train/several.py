"""Trees of optimizers: each for some of the params."""

from dataclasses import dataclass, field
from typing import Any

import jax

from fnn.core import Params
from fnn.errors import InputError, describe


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Own:
    """The state of a param's own optimizer.

    Args:
        state: the state.
        which: the number of the optimizer.
    """

    state: Any
    which: int = field(metadata={"static": True})


def is_optimizer(value: Any) -> bool:
    """Return whether `value` is an optimizer as optax has them."""
    return hasattr(value, "init") and hasattr(value, "update") and not isinstance(value, dict)


def distinct(optimizer: Any) -> list[Any]:
    """Return the optimizers of a tree of optimizers, each once.

    Raises:
        InputError: where a leaf is no optax optimizer, or there is none.
    """
    found = jax.tree.leaves(optimizer, is_leaf=is_optimizer)
    if not found or not all(map(is_optimizer, found)):
        fix = "fnn.train.update_in_backward(net, loss, optax.adam(1e-3))"
        raise InputError("update_in_backward", "an optax optimizer", describe(optimizer), fix)
    return list({id(one): one for one in found}.values())


def numbered(optimizer: Any, optimizers: list[Any], params: Params) -> Any:
    """Return the number of each param's optimizer, a tree like the params.

    Args:
        optimizer: the optimizer, or a tree of optimizers that begins like the params.
        optimizers: the different ones of these.
        params: the params.

    Raises:
        InputError: where the tree does not begin like the params.
    """
    numbers = {id(one): i for i, one in enumerate(optimizers)}

    def below(one: Any, own: Any) -> Any:
        return jax.tree.map(lambda _: numbers[id(one)], own)

    try:
        return jax.tree.map(below, optimizer, params, is_leaf=is_optimizer)
    except (ValueError, TypeError, KeyError) as error:
        shape = jax.tree.structure(optimizer, is_leaf=is_optimizer)
        wanted = f"a tree of optimizers that begins like the params, {jax.tree.structure(params)}"
        fix = "jax.tree.map(lambda param: optax.adam(1e-3), params)"
        raise InputError("update_in_backward", wanted, str(shape), fix) from error


def chosen(tree: Any, which: Any, i: int) -> Any:
    """Return the tree with None in the place of every leaf that has another number.

    Args:
        tree: a tree like the params.
        which: the number of each leaf.
        i: the number to keep.
    """
    return jax.tree.map(lambda leaf, number: leaf if number == i else None, tree, which)
