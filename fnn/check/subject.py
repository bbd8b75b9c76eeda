"""What is checked, in one form: a primal, and a rule that pulls cotangents back."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.check.arguments import Arguments, exact, is_inexact
from fnn.check.effort import compile_quickly
from fnn.check.jaxprs import rules


@dataclass(frozen=True)
class Subject:
    """A hand-written backward pass: `forward(*args)` gives `(out, residuals)`, `backward(residuals, dy)` a
    cotangent for each of the args; `primal` is the function that they claim to differentiate.
    """

    name: str
    primal: Callable[..., Any]
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    function: Callable[..., Any] | None = None  # what transforms are applied to, where it is no pair
    strict: bool = True  # whether `backward` is the bare rule, not yet brought into shape by JAX
    traceable: bool = True
    written: tuple[Callable[..., Any], ...] = ()  # the rules as their author wrote them
    lenient: bool = False  # whether a cotangent of a wrong shape is NaN, so that the others can be judged

    def compiled(self, arguments: Arguments) -> Callable[..., tuple[list[np.ndarray], list[np.ndarray]]]:
        """Give `run(leaves, dys)`: the forward rule's floating outputs, and gradients stacked over `dys`."""

        def run(leaves: Sequence[Any], dys: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            args = arguments.unflatten(leaves)
            out, residuals = self.forward(*args)
            flat, tree = jax.tree.flatten(out)
            one = lambda dy: self._conformed(residuals, cotangent(flat, tree, dy), args, arguments)  # noqa: E731
            ys = [y for y in flat if is_inexact(y)]
            if self.traceable:
                return ys, lax.map(one, list(dys))
            grads = [one([d[i] for d in dys]) for i in range(len(dys[0]))]
            return ys, [np.stack(g) for g in zip(*grads, strict=True)]

        quick = compile_quickly(run) if self.traceable else run

        def call(leaves: Sequence[Any], dys: Sequence[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
            ys, grads = quick(tuple(leaves), tuple(dys))
            return [exact(y) for y in ys], [exact(g) for g in grads]

        return call

    def rule(self, arguments: Arguments) -> Callable[[Sequence[Any], Sequence[Any]], list[Any]]:
        """Give `rule(leaves, dy)`: the gradients of the active leaves for one cotangent of the outputs."""

        def run(leaves: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
            args = arguments.unflatten(leaves)
            out, residuals = self.forward(*args)
            flat, tree = jax.tree.flatten(out)
            return self._conformed(residuals, cotangent(flat, tree, dy), args, arguments)

        return run

    def _conformed(self, residuals: Any, dy: Any, args: tuple[Any, ...], arguments: Arguments) -> list[Any]:
        return conform(self.backward(residuals, dy), args, arguments, self.lenient)


def cotangent(outputs: Sequence[Any], tree: Any, dy: Sequence[Any]) -> Any:
    """Put cotangents of the floating outputs into the output's tree; the other outputs get float0."""
    rest = iter(dy)
    flat = [next(rest) if is_inexact(y) else np.zeros(np.shape(y), jax.dtypes.float0) for y in outputs]
    return jax.tree.unflatten(tree, flat)


def conform(cotangents: Any, args: tuple[Any, ...], arguments: Arguments, lenient: bool = False) -> list[Any]:
    """Give the cotangents of the active leaves in the shape and dtype of their leaves; None counts as zero.

    A shape that a sum over leading axes or a transposition would make right is made right here: what was
    given is reported all the same, and the numbers then tell whether that is the whole mistake.
    Raises ValueError where trees cannot be brought together, or shapes, unless it is `lenient`: then NaN.
    """
    flat = match(cotangents, args)
    leaves = jax.tree.leaves(args)
    return [_fit(flat[i], leaves[i], lenient) for i in arguments.active]


def match(cotangents: Any, args: tuple[Any, ...]) -> list[Any]:
    """Give one cotangent (or None) for each leaf of `args`; raises ValueError where the trees differ."""
    if not isinstance(cotangents, tuple | list) or len(cotangents) != len(args):
        got = (
            f"{len(cotangents)}"
            if isinstance(cotangents, tuple | list)
            else f"a bare {type(cotangents).__name__}"
        )
        raise ValueError(f"expected a tuple of {len(args)} cotangents, one for each argument, got {got}")
    flat: list[Any] = []
    for i, (arg, ct) in enumerate(zip(args, cotangents, strict=True)):
        leaves, tree = jax.tree.flatten(arg)
        if ct is None:
            flat += [None] * len(leaves)
            continue
        got = jax.tree.structure(ct, is_leaf=lambda x: x is None)
        if got != tree:
            raise ValueError(
                f"expected the cotangent of argument {i} to be a tree like it, {tree}, got {got}"
            )
        flat += jax.tree.leaves(ct, is_leaf=lambda x: x is None)
    return flat


def _fit(ct: Any, x: Any, lenient: bool) -> Any:
    if ct is None or ct.dtype == jax.dtypes.float0:
        return jnp.zeros(x.shape, x.dtype)
    ct, extra = jnp.asarray(ct), np.ndim(ct) - np.ndim(x)
    if ct.shape != x.shape:
        if extra > 0 and ct.shape[extra:] == x.shape:
            ct = ct.sum(range(extra))
        elif ct.shape == x.shape[::-1]:
            ct = ct.T
        elif lenient:
            return jnp.full(x.shape, jnp.nan, x.dtype)
        else:
            raise ValueError(f"expected a cotangent of shape {x.shape}, got {ct.shape}")
    return ct.astype(x.dtype)


def of_function(f: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Subject, tuple[Any, ...]]:
    """Take a function apart: give the subject, and the args that it is differentiated by.

    A `custom_vjp` function is its three parts; `nondiff_argnums` are bound to the values given. Any other
    function is differentiated by JAX, with the rules that it meets on the way.
    """
    name = getattr(f, "__name__", type(f).__name__)
    if not isinstance(f, jax.custom_vjp) or f.symbolic_zeros:
        primal = f.fun if isinstance(f, jax.custom_vjp | jax.custom_jvp) else f
        return Subject(
            name, primal, lambda *a: jax.vjp(f, *a), lambda pull, dy: pull(dy), f, strict=False
        ), args
    fwd, bwd = rules(f)
    if fwd is None or bwd is None:
        raise TypeError(
            f"expected a custom_vjp function with its rules, got none: call `{name}.defvjp(fwd, bwd)`"
        )
    if len(f.nondiff_argnums) and max(f.nondiff_argnums) >= len(args):
        raise TypeError(f"expected all arguments of {name} by position, got {len(args)}")
    fixed = sorted(i % len(args) for i in f.nondiff_argnums)
    free = [i for i in range(len(args)) if i not in fixed]

    def whole(free_args: Sequence[Any]) -> list[Any]:
        full = list(args)
        for i, x in zip(free, free_args, strict=True):
            full[i] = x
        return full

    static = [args[i] for i in fixed]
    subject = Subject(
        name,
        primal=_signed(f.fun, free, lambda *a: f.fun(*whole(a))),
        forward=lambda *a: fwd(*whole(a)),
        backward=lambda residuals, dy: bwd(*static, residuals, dy),
        written=(fwd, bwd),
    )
    return subject, tuple(args[i] for i in free)


def _signed(f: Callable[..., Any], free: Sequence[int], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Give `wrapper` the signature of `f` without its fixed parameters, so that leaves keep their names."""
    try:
        signature = inspect.signature(f)
        parameters = list(signature.parameters.values())
        if all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[: max(free) + 1]):
            wrapper.__signature__ = signature.replace(parameters=[parameters[i] for i in free])  # pyright: ignore[reportFunctionMemberAccess]
    except (TypeError, ValueError):
        pass
    return wrapper
