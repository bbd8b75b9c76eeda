"""Gradient checkers, each a function of a case, its arguments and a seed that raises where it complains."""

# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

import vjpcheck
from tests.check.corpus import Case


def by_fnn(case: Case, args: Sequence[Any], seed: int) -> vjpcheck.Report:
    return vjpcheck.gradient(case.function, *args, key=seed).raise_if_failed()


def by_fnn_pair(case: Case, args: Sequence[Any], seed: int) -> vjpcheck.Report:
    report = vjpcheck.pair(case.forward, case.backward, *args, reference=case.primal, key=seed)
    return report.raise_if_failed()


def by_check_grads(case: Case, args: Sequence[Any], seed: int) -> None:
    f, floats = floating(case.function, args)
    check_grads(f, floats, order=1, modes=("rev",))


def by_check_grads_x64(case: Case, args: Sequence[Any], seed: int) -> None:
    with jax.enable_x64(True):
        f, floats = floating(case.function, widened(args))
        check_grads(f, floats, order=1, modes=("rev",))


def by_chex(case: Case, args: Sequence[Any], seed: int) -> None:
    f, floats = floating(case.function, args)
    total = lambda *xs: sum(jnp.sum(y) for y in jax.tree.leaves(f(*xs)))  # noqa: E731
    chex.assert_numerical_grads(total, floats, order=1, modes=("rev",))


def by_sum(case: Case, args: Sequence[Any], seed: int) -> None:
    f, floats = floating(case.function, args)
    g, _ = floating(case.primal, args)
    ours, right = (jax.grad(summed(h), tuple(range(len(floats))))(*floats) for h in (f, g))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-4, atol=1e-5)


def by_gradcheck(case: Case, args: Sequence[Any], seed: int, fast: bool = False) -> None:
    import torch

    with jax.enable_x64(True):
        leaves, tree = jax.tree.flatten(widened(args))
        places = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)]

        def full(tensors: Sequence[Any]) -> Any:
            values = list(leaves)
            for i, t in zip(places, tensors, strict=True):
                values[i] = jnp.asarray(t.detach().numpy())
            return jax.tree.unflatten(tree, values)

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                out, ctx.residuals = case.forward(*full(tensors))
                flat, ctx.tree = jax.tree.flatten(out)
                return tuple(torch.tensor(np.array(y, np.float64)) for y in flat)

            @staticmethod
            def backward(ctx: Any, *dys: Any) -> Any:
                dy = jax.tree.unflatten(ctx.tree, [jnp.asarray(d.numpy()) for d in dys])
                cotangents = case.backward(ctx.residuals, dy)
                flat = jax.tree.leaves(cotangents, is_leaf=lambda c: c is None)
                chosen = [flat[i] for i in places]
                return tuple(None if c is None else torch.tensor(np.array(c, np.float64)) for c in chosen)

        tensors = [torch.tensor(np.array(leaves[i], np.float64), requires_grad=True) for i in places]
        torch.autograd.gradcheck(Function.apply, tensors, fast_mode=fast)


def by_gradcheck_fast(case: Case, args: Sequence[Any], seed: int) -> None:
    by_gradcheck(case, args, seed, fast=True)


TOOLS: dict[str, Callable[[Case, Sequence[Any], int], Any]] = {
    "fnn": by_fnn,
    "fnn_pair": by_fnn_pair,
    "check_grads": by_check_grads,
    "check_grads_x64": by_check_grads_x64,
    "chex": by_chex,
    "gradcheck": by_gradcheck,
    "gradcheck_fast": by_gradcheck_fast,
    "grad_of_sum": by_sum,
}


def floating(f: Callable[..., Any], args: Sequence[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Close over the arguments that have no gradient."""
    chosen = [i for i, a in enumerate(args) if jnp.issubdtype(jax.tree.leaves(a)[0].dtype, jnp.inexact)]

    def g(*xs: Any) -> Any:
        full = list(args)
        for i, x in zip(chosen, xs, strict=True):
            full[i] = x
        return f(*full)

    return g, tuple(args[i] for i in chosen)


def summed(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: sum(jnp.sum(y) for y in jax.tree.leaves(f(*xs)))


def widened(args: Sequence[Any]) -> tuple[Any, ...]:
    wide = lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.inexact) else x  # noqa: E731
    return jax.tree.map(wide, tuple(args))
