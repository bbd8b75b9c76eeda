"""The arguments of a check as a flat list of named arrays."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Arguments:
    """The arguments of a check as a flat list of named arrays.

    Args:
        leaves: all leaves of the arguments, as JAX arrays.
        tree: the structure of the tuple of arguments.
        names: the name of each leaf, such as `params['w']`.
        owners: for each leaf the number of the argument that it belongs to.
        active: the numbers of the leaves whose gradients are checked.
    """

    leaves: tuple[Any, ...]
    tree: Any
    names: tuple[str, ...]
    owners: tuple[int, ...]  # the argument that each leaf belongs to
    active: tuple[int, ...]

    def unflatten(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """Return the arguments back as a function takes them."""
        return jax.tree.unflatten(self.tree, leaves)

    def with_leaves(self, leaves: Sequence[Any]) -> "Arguments":
        """Return the same arguments with other values or shapes."""
        return replace(self, leaves=tuple(leaves))


def flatten(f: Callable[..., Any], args: Sequence[Any], wanted: Sequence[int]) -> Arguments:
    """Flatten arguments to JAX arrays, and name each leaf after the parameter of `f`: `params['w']`.

    Args:
        f: the function, whose signature names the arguments.
        args: the arguments, pytrees of arrays and numbers.
        wanted: the numbers of the arguments to differentiate by.

    Raises:
        TypeError: where a leaf is no array, and where no leaf can have a gradient.
        ValueError: where the leaves that can have one hold not one element.
    """
    labels = _parameter_names(f, len(args))
    paths, tree = jax.tree_util.tree_flatten_with_path(tuple(args))
    names = tuple(labels[path[0].idx] + jax.tree_util.keystr(path[1:]) for path, _ in paths)
    leaves = tuple(_array(name, x) for name, (_, x) in zip(names, paths, strict=True))
    owners = tuple(path[0].idx for path, _ in paths)
    active = tuple(i for i, x in enumerate(leaves) if is_inexact(x) and owners[i] in wanted)
    if not active:
        kinds = ", ".join(f"{n}: {x.dtype}" for n, x in zip(names, leaves, strict=True)) or "no arguments"
        raise TypeError(f"expected a floating-point argument to differentiate by, got {kinds}")
    if all(leaves[i].size == 0 for i in active):
        empty = ", ".join(f"{names[i]}: {leaves[i].shape}" for i in active)
        raise ValueError(f"expected arguments with elements, got empty ones ({empty})")
    return Arguments(leaves, tree, names, owners, active)


def is_inexact(x: Any) -> bool:
    """Whether an array is floating or complex, so that it has a gradient."""
    return not jnp.issubdtype(x.dtype, jax.dtypes.extended) and jnp.issubdtype(x.dtype, jnp.inexact)


def exact(x: Any) -> np.ndarray:
    """Return an array of any floating dtype in float64, on the host."""
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def replaced(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    """Return values with others at some of their places.

    Args:
        values: all of them.
        places: the places of those to replace.
        others: one for each of these places.
    """
    full = list(values)
    for i, x in zip(places, others, strict=True):
        full[i] = x
    return full


def _array(name: str, x: Any) -> Any:
    if isinstance(x, jax.Array):
        return x
    if (
        isinstance(x, bool | int | float | complex | np.ndarray | np.generic)
        and np.asarray(x).dtype.kind in "biufcV"
    ):
        return jnp.asarray(x)
    kind = type(x).__name__
    raise TypeError(
        f"expected arrays as arguments, got {name} of type {kind}: "
        f"close over it, as in `vjpcheck.gradient(lambda x: f(x, {name}), x)`, or list it in nondiff_argnums"
    )


def _parameter_names(f: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [positional[i] if i < len(positional) else f"args[{i}]" for i in range(count)]
