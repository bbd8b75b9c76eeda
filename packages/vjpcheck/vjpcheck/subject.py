"""What is checked, in one form: a primal, and a rule that pulls cotangents back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vjpcheck.arguments import Arguments, exact, is_inexact, replaced
from vjpcheck.binding import Binding
from vjpcheck.effort import compile_quickly
from vjpcheck.jaxprs import lacks_rule, rules
from vjpcheck.jaxprs import primal as primal_of


@dataclass(frozen=True)
class Subject:
    """A hand-written backward pass, and the function that it claims to differentiate.

    Args:
        name: its name in the report.
        primal: the function that is differentiated.
        forward: `forward(*args)` returns `(out, residuals)`.
        backward: `backward(residuals, dy)` returns a cotangent for each of the args.
        function: what transforms are applied to, or None for a `custom_vjp` function made of the pair.
        strict: whether `backward` is the bare rule, not yet brought into shape by JAX.
        traceable: whether JAX can trace the rules.
        written: the rules as their author wrote them; what they close over is read there.
        own: a function whose derivative is JAX's work, as it was given, or None.
        surrogate: the function whose gradient the backward is to give, or None for the primal's.
        lenient: whether a cotangent of a wrong shape is NaN, so that the others can be judged.
        remarks: what was met when it was run, to be said in the report.
    """

    name: str
    primal: Callable[..., Any]
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    function: Callable[..., Any] | None = None
    strict: bool = True
    traceable: bool = True
    written: tuple[Callable[..., Any], ...] = ()
    own: Callable[..., Any] | None = None
    surrogate: Callable[..., Any] | None = None
    lenient: bool = False
    remarks: set[str] = field(default_factory=set, compare=False)

    def compiled(self, arguments: Arguments) -> Callable[..., tuple[list[np.ndarray], list[np.ndarray]]]:
        """Return `run(leaves, dys)`: the rule's floating outputs, and gradients stacked over `dys`."""

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
            try:
                ys, grads = quick(tuple(leaves), tuple(dys))
            except jax.errors.JaxRuntimeError:  # a solver may refuse a right-hand side of zero
                if any(len(d) < 2 or np.any(d[-1]) for d in dys):
                    raise
                ys, grads = quick(tuple(leaves), tuple(d[:-1] for d in dys))
                self.remarks.add("the rules raise for a cotangent of zero, which is left out")
                grads = [np.concatenate([g, np.zeros_like(g[:1])]) for g in grads]
            return [exact(y) for y in ys], [exact(g) for g in grads]

        return call

    def rule(self, arguments: Arguments) -> Callable[[Sequence[Any], Sequence[Any]], list[Any]]:
        """Return `rule(leaves, dy)`: the gradients of the active leaves for one cotangent of the outputs."""

        def run(leaves: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
            args = arguments.unflatten(leaves)
            out, residuals = self.forward(*args)
            flat, tree = jax.tree.flatten(out)
            return self._conformed(residuals, cotangent(flat, tree, dy), args, arguments)

        return run

    def outputs(self, arguments: Arguments) -> Callable[[Sequence[Any], Sequence[Any]], list[Any]]:
        """Return `outputs(leaves, dy)`: the floating outputs of the forward rule, whatever the cotangent."""

        def run(leaves: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
            out, _ = self.forward(*arguments.unflatten(leaves))
            return [y for y in jax.tree.leaves(out) if is_inexact(y)]

        return run

    def _conformed(self, residuals: Any, dy: Any, args: tuple[Any, ...], arguments: Arguments) -> list[Any]:
        return conform(self.backward(residuals, dy), args, arguments, self.lenient)


def cotangent(outputs: Sequence[Any], tree: Any, dy: Sequence[Any]) -> Any:
    """Put cotangents of the floating outputs into the output's tree; the other outputs get float0.

    Args:
        outputs: the leaves of the output.
        tree: the structure of the output.
        dy: a cotangent for each of the floating leaves, in their order.
    """
    rest = iter(dy)
    flat = [next(rest) if is_inexact(y) else np.zeros(np.shape(y), jax.dtypes.float0) for y in outputs]
    return jax.tree.unflatten(tree, flat)


def conform(cotangents: Any, args: tuple[Any, ...], arguments: Arguments, lenient: bool = False) -> list[Any]:
    """Bring the cotangents of the active leaves into the shape and dtype of their leaves.

    A shape that a sum over leading axes or a transposition would make right is made right here: what was
    given is reported all the same, and the numbers then tell whether that is the whole mistake.

    Args:
        cotangents: what a backward rule returned; None, for a leaf or an argument, counts as zero.
        args: the arguments of the primal.
        arguments: the same, flat, which names the active leaves.
        lenient: whether a cotangent of another shape becomes NaN.

    Returns:
        a list of arrays, one for each active leaf.

    Raises:
        ValueError: where trees cannot be brought together, or shapes, unless `lenient`.
    """
    flat, leaves = match(cotangents, args), jax.tree.leaves(args)
    return [_fit(flat[i], leaves[i], lenient) for i in arguments.active]


def match(cotangents: Any, args: tuple[Any, ...]) -> list[Any]:
    """Return one cotangent, or None, for each leaf of the arguments.

    Args:
        cotangents: what a backward rule returned: a tuple with a tree, or None, for each argument.
        args: the arguments of the primal.

    Raises:
        ValueError: where the trees differ.
    """
    if not isinstance(cotangents, tuple | list) or len(cotangents) != len(args):
        got = (
            f"{len(cotangents)}"
            if isinstance(cotangents, tuple | list)
            else f"a bare {type(cotangents).__name__}"
        )
        raise ValueError(f"expected a tuple of {len(args)} cotangents, one for each argument, got {got}")
    flat: list[Any] = []
    for i, (arg, ct) in enumerate(zip(args, cotangents, strict=True)):
        found: list[Any] = []
        try:
            jax.tree.map(partial(_put, found), ct, arg, is_leaf=lambda x: x is None)
        except ValueError:
            got, tree = jax.tree.structure(ct, is_leaf=lambda x: x is None), jax.tree.structure(arg)
            raise ValueError(
                f"expected the cotangent of argument {i} to be a tree like it, {tree}, got {got}"
            ) from None
        flat += found
    return flat


def _put(found: list[Any], ct: Any, arg: Any) -> None:
    """Add the cotangent of a leaf, or None for every leaf of what has none."""
    leaves, tree = jax.tree.flatten(arg)
    if ct is not None and not jax.tree_util.treedef_is_leaf(tree):
        raise ValueError("a cotangent for a whole tree")
    found += [ct] * len(leaves)


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


def of_function(f: Callable[..., Any], binding: Binding) -> Subject:
    """Take a function apart, as one of the arguments that the binding leaves free.

    A `custom_vjp` function is its three parts. Any other function is differentiated by JAX, by the wanted
    arguments alone, with the rules that it meets on the way.

    Args:
        f: the function.
        binding: its arguments, and which of them are free.

    Raises:
        TypeError: for a `custom_vjp` or `custom_jvp` function without its rules.
    """
    name = getattr(f, "__name__", type(f).__name__)
    fwd, bwd = rules(f)
    primal = binding.bound(primal_of(f), f)
    if fwd is not None and bwd is not None:
        return Subject(
            name,
            primal=primal,
            forward=lambda *a: fwd(*binding.whole(a)),
            backward=lambda residuals, dy: bwd(*binding.static, residuals, dy),
            written=(fwd, bwd),
            function=binding.bound(f),
        )
    if lacks_rule(f):
        raise TypeError(f"expected a custom_jvp function with its rule, got none: call `{name}.defjvp(rule)`")
    if isinstance(f, jax.custom_vjp) and not _has_derivative(f, binding):
        raise TypeError(
            f"expected a custom_vjp function with its rules, got none: call `{name}.defvjp(fwd, bwd)`"
        )

    def forward(*args: Any) -> tuple[Any, Any]:
        of_wanted = lambda *some: f(*binding.whole(replaced(args, binding.wanted, some)))  # noqa: E731
        return jax.vjp(of_wanted, *[args[i] for i in binding.wanted])

    def backward(pull: Any, dy: Any) -> tuple[Any, ...]:
        given = dict(zip(binding.wanted, pull(dy), strict=True))
        return tuple(given.get(i) for i in range(len(binding.free)))

    return Subject(name, primal, forward, backward, binding.bound(f), strict=False, own=f)


def _has_derivative(f: Callable[..., Any], binding: Binding) -> bool:
    """Whether JAX can differentiate it: it may have been given its rule in another way than by `defvjp`."""
    try:
        jax.eval_shape(lambda *a: jax.vjp(f, *binding.whole(a))[0], *binding.free_args)
    except Exception as error:  # any other is its own, and said elsewhere
        return not isinstance(error, AttributeError)
    return True
