"""The factors of any function that gives a loss for each example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import InputError, describe
from fnn.factors import is_factor
from fnn.function import collect
from fnn.function.apart import coupling
from fnn.function.padded import run_batch
from fnn.function.planned import planned
from fnn.function.run import zeros_for
from fnn.function.trace import WHO, Traced, check_params, followed, tell_unused
from fnn.reader import Read, as_reader, gradient

Wrt = Callable[[Any, Any], bool]


def factors(f: Callable[..., Any], *, wrt: Wrt | None = None) -> Callable[..., tuple[Any, Any]]:
    """Make the function `(params, *args, key=None, read=None, trees=()) -> (losses, readings)`.

    Args:
        f: `f(params, *args) -> losses`, (n,), one for each example; or `f(params, *args, key=key)`. Every
            array of `args` has the examples on axis 0; numbers, of no axis, are the same for all.
        wrt: `wrt(path, leaf) -> bool` says which params are followed, path as in `jax.tree_util`; readings of
            the others are zero. None for all.

    Returns:
        the function. Its `read(factor, param, *leaves)` reads the factors of the sum of the losses; `trees`
        are further trees that begin like the params. Without `read` it returns the factors themselves.

    Raises:
        InputError: on a call, where `f` cannot be traced for any number of examples, has side effects,
            followed params that are not floating-point, a derivative through a `while_loop` or losses of
            another shape or of params alone, where arrays differ in their number of examples, and, unless
            `read` is `fnn.gradient`, where one example's loss depends on the others through the params: the
            error names the line.

    Cost: one forward and one backward pass without the products that make gradients, and the reader's.

    >>> f = lambda w, x, t: jnp.square(jnp.tanh(x @ w) - t).sum(1)
    >>> w, x, t = jnp.ones((3, 2)), jnp.ones((4, 3)), jnp.zeros((4, 2))
    >>> losses, factor = factors(f)(w, x, t)
    >>> factor.x.shape, factor.dz.shape
    ((4, 3), (4, 2))
    """

    def run_(params: Any, *args: Any, key: Any = None, read: Read | None = None, trees: tuple = ()) -> Any:
        reader = None if read is None else as_reader(read)
        losses, found = _losses_and_factors(f, params, args, key, wrt, apart=reader is not gradient)
        if reader is None:
            return losses, found
        return losses, jax.tree.map(reader, found, params, *trees, is_leaf=is_factor)

    return run_


def _losses_and_factors(
    f: Any, params: Any, args: Any, key: Any, wrt: Wrt | None, apart: bool
) -> tuple[Any, Any]:
    """Return the losses and the tree of factors."""
    leaves, structure = jax.tree.flatten(params)
    own = followed(params, wrt)
    check_params(params, own)
    n, traced = _traced_losses(f, params, args, key, own)
    tell_unused(traced, params, WHO)
    if apart:
        _check_apart(traced)

    def forward(zeros: Any) -> Any:
        values = [*leaves, *jax.tree.leaves((*args, key))]
        (losses,), kept = run_batch(traced.plan, values, zeros)
        return losses, kept

    losses, pull, kept = jax.vjp(forward, zeros_for(traced.plan), has_aux=True)
    (dzs,) = pull(jnp.ones_like(losses))
    found = iter(collect.factors(traced.plan, n, kept, dzs))
    each = [
        next(found) if one else collect.unused(n, jnp.shape(leaf), jnp.result_type(leaf))
        for leaf, one in zip(leaves, own, strict=True)
    ]
    return losses, jax.tree.unflatten(structure, each)


def _traced_losses(f: Any, params: Any, args: Any, key: Any, own: list[bool]) -> tuple[int, Traced]:
    """Plan a function of losses; also return the number of examples."""
    arrays = jax.tree.leaves(args)
    n = examples(arrays)
    axes = [0 if jnp.ndim(a) else None for a in arrays] + [None] * len(jax.tree.leaves(key))

    def call(params: Any, *args: Any) -> Any:
        *inputs, key = args
        return f(params, *inputs) if key is None else f(params, *inputs, key=key)

    traced = planned(call, params, (*args, key), n, own, axes)
    run = n + traced.plan.padding
    shapes = [tuple(v.aval.shape) for v in traced.plan.body.jaxpr.outvars]
    if shapes != [(run,)]:
        pairs = any(b is not None and b.axes > 1 for b in traced.plan.out)  # y - t, of (n, 1) and (n,)
        fix = "target.reshape(y.shape)" if pairs else "losses.sum(tuple(range(1, losses.ndim)))"
        raise InputError(WHO, f"losses of shape ({run},), one for each example", str(shapes)[1:-1], fix)
    return n, traced


def _check_apart(traced: Traced) -> None:
    """Raise where one example's loss depends on the others."""
    where = coupling(traced)
    if where is not None:
        got = f"a function that couples them: {where}"
        fix = "fnn.function.factors(f)(params, x, read=fnn.gradient)"
        raise InputError(WHO, "losses that keep examples apart", got, fix)


def examples(arrays: list[Any]) -> int:
    """Return the number of examples: the length of axis 0 of every array.

    Args:
        arrays: arrays, shapes and numbers; what has no axis has no examples.

    Raises:
        InputError: where the lengths differ, or there are none.
    """
    sizes = {jnp.shape(a)[0] for a in arrays if jnp.ndim(a)}
    if len(sizes) != 1:
        got = ", ".join(describe(a) for a in arrays) or "no arrays"
        fix = "functools.partial(f, constant=c)"
        raise InputError(WHO, "as many examples on axis 0 of every argument", got, fix)
    return sizes.pop()
