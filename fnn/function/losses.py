"""The factors of any function that gives a loss for each example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import InputError, describe
from fnn.function import collect
from fnn.function.run import run, zeros_for
from fnn.function.trace import WHO, check_params, planned

Wrt = Callable[[Any, Any], bool]


def factors(f: Callable[..., Any], *, wrt: Wrt | None = None) -> Callable[..., tuple[Any, Any]]:
    """Give a function `(params, *args, key=None, read=None, trees=()) -> (losses, readings)`."""

    def run_(params: Any, *args: Any, key: Any = None, read: Any = None, trees: tuple = ()) -> Any:
        losses, found = losses_and_factors(f, params, args, key, wrt)
        structure = jax.tree.structure(params)
        if read is None:
            return losses, jax.tree.unflatten(structure, found)
        leaves = [structure.flatten_up_to(tree) for tree in (params, *trees)]
        readings = [read(factor, *own) for factor, *own in zip(found, *leaves, strict=True)]
        return losses, jax.tree.unflatten(structure, readings)

    return run_


def losses_and_factors(f: Any, params: Any, args: Any, key: Any, wrt: Wrt | None) -> tuple[Any, list[Any]]:
    """Give the losses and, for every leaf of the params, its factor."""
    pairs = jax.tree.leaves_with_path(params)
    followed = [wrt is None or bool(wrt(path, leaf)) for path, leaf in pairs]
    check_params(params, followed)
    arrays = jax.tree.leaves(args)
    n = examples(arrays)
    axes = [0 if jnp.ndim(a) else None for a in arrays]
    keyed = args if key is None else (*args, key)
    axes += [] if key is None else [None] * len(jax.tree.leaves(key))

    def call(params: Any, *args: Any) -> Any:
        return f(params, *args) if key is None else f(params, *args[:-1], key=args[-1])

    plan, tree = planned(call, params, keyed, n, followed, axes)
    leaves = [leaf for _, leaf in pairs]
    shapes = [tuple(v.aval.shape) for v in plan.body.jaxpr.outvars]
    if shapes != [(n,)]:
        raise InputError(
            WHO,
            f"losses of shape ({n},), one for each example",
            f"{shapes}",
            "losses.sum(range(1, losses.ndim))",
        )

    def forward(zeros: Any) -> Any:
        (losses,), kept = run(plan.body, plan.sites, [*leaves, *jax.tree.leaves(keyed)], zeros)
        return losses, kept

    losses, pull, kept = jax.vjp(forward, zeros_for(plan), has_aux=True)
    (dzs,) = pull(jnp.ones_like(losses))
    own = iter(collect.factors(plan, n, kept, dzs))
    return losses, [
        next(own) if is_followed else collect.unused(n, jnp.shape(leaf), jnp.result_type(leaf))
        for leaf, is_followed in zip(leaves, followed, strict=True)
    ]


def examples(arrays: list[Any]) -> int:
    """Give the number of examples: that of axis 0 of every array."""
    sizes = {jnp.shape(a)[0] for a in arrays if jnp.ndim(a)}
    if len(sizes) != 1:
        got = ", ".join(describe(a) for a in arrays) or "no arrays"
        raise InputError(
            WHO,
            "the same number of examples on axis 0 of every argument",
            got,
            "functools.partial(f, constant=c)",
        )
    return sizes.pop()
