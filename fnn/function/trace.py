"""From a function to its plan: traced twice, at two numbers of examples."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import InputError, describe
from fnn.function.batch import Batch, Sizes
from fnn.function.plan import Planner
from fnn.function.reach import check_loops
from fnn.function.sites import Plan

WHO = "fnn.function"
MORE = (1, 2, 5)  # how many more examples the second trace has: one of these gives the same program


@dataclass(frozen=True, eq=False)
class Traced:
    """A function's plan, its two traces, and the structure of its outputs.

    Args:
        plan: the plan, of the first trace.
        ours: the first trace, a closed jaxpr, for the batch's own number of examples.
        theirs: the second trace, for a few examples more.
        sizes: the numbers of examples of both.
        params: the places, among the leaves of the params, of those that are followed.
        out: the tree structure of the outputs.
    """

    plan: Plan
    ours: Any
    theirs: Any
    sizes: Sizes
    params: list[int]
    out: Any


class Unlike(Exception):
    """A function is not the same program for any number of examples; its cause says why.

    Args:
        ours: its trace for the number that was asked for, a closed jaxpr.
    """

    def __init__(self, ours: Any):
        super().__init__(ours)
        self.ours = ours


def traced(
    f: Callable[..., Any],
    params: Any,
    args: Any,
    n: int,
    own: list[bool],
    axes: list[int | None],
    inputs: int = 0,
) -> Traced:
    """Trace and plan `f(params, *args)` for some number of examples.

    Args:
        f: the function, which returns a tree of arrays.
        params: a tree of arrays or shapes.
        args: a tuple of trees of arrays or shapes, of any number of examples.
        n: the number of examples of the first trace.
        own: for each leaf of the params, whether its uses are wanted.
        axes: for each leaf of `args`, the axis on which its examples lie; None where it has none.
        inputs: the number of leaves of `args`, the first ones, by which `f` is differentiated, too.

    Raises:
        InputError: where `f` has side effects, outputs that are no arrays or that are made of params alone,
            or a loop of no known end on the way of a derivative.
        Unlike: where it is not the same program for a few examples more.
    """
    leaves, structure = jax.tree.flatten(params)
    arrays, inside = jax.tree.flatten(args)
    trees: list[Any] = []

    def flat(*values: Any) -> Any:
        params = jax.tree.unflatten(structure, values[: len(leaves)])
        found, tree = jax.tree.flatten(f(params, *jax.tree.unflatten(inside, values[len(leaves) :])))
        for leaf in found:
            if not hasattr(leaf, "dtype") and not isinstance(leaf, (int, float, complex)):
                raise InputError(WHO, "outputs that are arrays", describe(leaf), "return jnp.asarray(y)")
        trees.append(tree)
        return found

    def at(size: int) -> Any:
        data = [
            shape_of_leaf(a) if axis is None else _resized(a, axis, size)
            for a, axis in zip(arrays, axes, strict=True)
        ]
        return jax.make_jaxpr(flat)(*map(shape_of_leaf, leaves), *data)

    ours = at(n)
    if ours.effects:
        got, fix = (
            f"one with {ours.effects}, such as jax.debug.print",
            "lambda params, x: jnp.tanh(x @ params)",
        )
        raise InputError(WHO, "a function without side effects", got, fix)
    check_loops(ours.jaxpr, [*own, *(k < inputs for k in range(len(arrays)))])
    tried: Exception | None = None
    for more in MORE:
        sizes = Sizes(n, n + more)
        try:
            theirs = at(n + more)
            batches = [None] * len(leaves) + [None if axis is None else Batch(axis) for axis in axes]
            places = [k for k, one in enumerate(own) if one]
            plan = Planner(sizes).whole(ours, theirs, places, batches)
            plan.inputs = jax.tree.map(lambda _: 0, args[0]) if args else ()
            plan.axes = (*[None] * len(leaves), *axes)
            return Traced(plan, ours, theirs, sizes, places, trees[0])
        except InputError:
            raise
        except Exception as error:  # of the function itself, which may do anything with a shape
            tried = tried or error
    raise Unlike(ours) from tried


def shape_of_leaf(a: Any) -> Any:
    """Return the shape and the dtype of an array, a number or a shape; a key's stay as they are."""
    array = a if hasattr(a, "shape") and hasattr(a, "dtype") else jnp.asarray(a)
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _resized(a: Any, axis: int, size: int) -> Any:
    own = shape_of_leaf(a)
    return jax.ShapeDtypeStruct((*own.shape[:axis], size, *own.shape[axis + 1 :]), own.dtype)


def followed(params: Any, wrt: Callable[[Any, Any], bool] | None) -> list[bool]:
    """Return for each leaf of the params whether its uses are wanted.

    Args:
        params: a tree of params.
        wrt: `wrt(path, leaf) -> bool` says which leaves are followed; None for all.
    """
    return [wrt is None or bool(wrt(path, leaf)) for path, leaf in jax.tree.leaves_with_path(params)]


def tell_unused(traced: Traced, params: Any, who: str) -> None:
    """Warn of params that are followed but do not enter: it is said once, as Python's warnings are.

    Args:
        traced: the traced function.
        params: its params, for their names.
        who: the name to begin the warning with.
    """
    used = {view.root for site in traced.plan.sites for _, view in site.views}
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    idle = [
        f"params{jax.tree_util.keystr(paths[k])}" for root, k in enumerate(traced.params) if root not in used
    ]
    if idle:
        text = f"{who}: no derivative goes to {', '.join(idle)}, whose readings are zero: "
        text += "`wrt=lambda path, leaf: ...` says which params are followed"
        warnings.warn(text, UserWarning, stacklevel=4)


def check_params(params: Any, own: list[bool]) -> None:
    """Check that every param that is followed is an array of a floating dtype.

    Args:
        params: a tree of arrays or shapes.
        own: for each leaf, whether it is followed.

    Raises:
        InputError: for a followed param that is not, with its name.
    """
    for (path, leaf), one in zip(jax.tree.leaves_with_path(params), own, strict=True):
        if one and not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            got = f"params{jax.tree_util.keystr(path)}: {describe(leaf)}"
            floating = "lambda path, leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.floating)"
            fix = f"fnn.function.factors(f, wrt={floating})"
            if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float):  # of an Equinox model
                fix = "eqx.partition(params, eqx.is_inexact_array)"
            raise InputError(WHO, "floating-point params", got, fix)
