"""From a function to its plan: traced twice, at two numbers of examples."""

from collections.abc import Callable
from typing import Any

import jax

from fnn.errors import InputError, describe
from fnn.function.batch import Batch, Sizes
from fnn.function.plan import Mismatch, Plan, Planner

WHO = "fnn.function"


def planned(
    f: Callable[..., Any], params: Any, args: Any, n: int, followed: list[bool], axes: list[int | None]
) -> tuple[Plan, Any]:
    """Plan `f(params, *args)`: also give the tree of its outputs.

    `axes` says of each leaf of `args` on which axis its n examples lie, if it has them; `followed` of each
    leaf of the params whether its uses are wanted.
    """
    leaves, structure = jax.tree.flatten(params)
    arrays, inside = jax.tree.flatten(args)
    trees: list[Any] = []

    def flat(*values: Any) -> Any:
        own = jax.tree.unflatten(structure, values[: len(leaves)])
        out = f(own, *jax.tree.unflatten(inside, values[len(leaves) :]))
        found, tree = jax.tree.flatten(out)
        trees.append(tree)
        return found

    ours = jax.make_jaxpr(flat)(*leaves, *map(_shape, arrays))
    if ours.effects:
        raise InputError(
            WHO, "a function without side effects", f"one with {ours.effects}", "jax.debug.print outside of f"
        )
    tried: Any = None
    for other in (n + 1, 2 * n + 2, 3 * n + 5):
        sizes = Sizes(n, other)
        shapes = [
            _shape(a) if ax is None else _resized(a, ax, other) for a, ax in zip(arrays, axes, strict=True)
        ]
        try:
            theirs = jax.make_jaxpr(flat)(*leaves, *shapes)
            batches = [None] * len(leaves) + [None if ax is None else Batch(ax) for ax in axes]
            places = [k for k, own in enumerate(followed) if own]
            return Planner(sizes).whole(ours, theirs, places, batches), trees[0]
        except (TypeError, ValueError, Mismatch) as error:
            if isinstance(error, InputError):
                raise
            tried = error
    raise InputError(
        WHO,
        "a function of any number of examples, that are on axis 0 of every argument but the params",
        f"one that is traced with {n} of them and not with {n + 1}",
        "functools.partial(f, constant=value)` for what is no example, `x.shape[0]` for the number of them",
    ) from tried


def _shape(a: Any) -> Any:
    return jax.ShapeDtypeStruct(jax.numpy.shape(a), jax.numpy.result_type(a))


def _resized(a: Any, axis: int, size: int) -> Any:
    own = _shape(a)
    return jax.ShapeDtypeStruct((*own.shape[:axis], size, *own.shape[axis + 1 :]), own.dtype)


def check_params(params: Any, followed: list[bool]) -> None:
    """Raise unless every param that is followed is an array of a floating dtype."""
    leaves = jax.tree.leaves_with_path(params)
    for (path, leaf), own in zip(leaves, followed, strict=True):
        if own and not (hasattr(leaf, "dtype") and jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)):
            name = jax.tree_util.keystr(path)
            raise InputError(
                WHO,
                "floating-point params",
                f"params{name}: {describe(leaf)}",
                "wrt=lambda path, leaf: jnp.issubdtype(leaf.dtype, jnp.floating)",
            )
