"""Which of the arguments of a function a check varies: the others are bound to the values that were given."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vjpcheck.jaxprs import fixed_positions


@dataclass(frozen=True)
class Binding:
    """All arguments of a call, of which some are varied and the others bound to their values.

    What is no array inside of an argument (the activation in a module) is bound as well.

    Args:
        args: all arguments.
        free: the places, in `args`, of those that are varied.
        wanted: the places, in `free`, of those to differentiate by.
        rest: for each of the free ones what is no array in it, or None where all is.
    """

    args: tuple[Any, ...]
    free: tuple[int, ...]
    wanted: tuple[int, ...]  # of the free ones, by their new numbers
    rest: tuple[Any, ...]

    @property
    def free_args(self) -> tuple[Any, ...]:
        """Return the arguments that are varied, with None for what is no array."""
        return tuple(_split(self.args[i])[0] for i in self.free)

    def whole(self, free_args: Sequence[Any]) -> tuple[Any, ...]:
        """Return all arguments, with these in the place of the free ones."""
        full = list(self.args)
        for i, x, rest in zip(self.free, free_args, self.rest, strict=True):
            full[i] = x if rest is None else _joined(x, rest)
        return tuple(full)

    @property
    def static(self) -> list[Any]:
        """Return the bound arguments."""
        return [x for i, x in enumerate(self.args) if i not in self.free]

    def bound(
        self, f: Callable[..., Any], named_after: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """Return a function of the free arguments alone, whose parameters keep their names.

        Args:
            f: a function of all arguments.
            named_after: the function whose signature names the parameters, or None for `f`.
        """

        def of_free(*args: Any) -> Any:
            return f(*self.whole(args))

        try:
            signature = inspect.signature(named_after or f)
            parameters = list(signature.parameters.values())
            kinds = {parameters[i].kind for i in self.free}
            if kinds <= {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}:
                plain = [
                    inspect.Parameter(parameters[i].name, inspect.Parameter.POSITIONAL_ONLY)
                    for i in self.free
                ]
                of_free.__signature__ = signature.replace(parameters=plain)  # pyright: ignore[reportFunctionMemberAccess]
        except (TypeError, ValueError, IndexError):
            pass  # numbers will do for names
        return of_free


def bind(f: Callable[..., Any], args: tuple[Any, ...], wrt: int | Sequence[int] | None) -> Binding:
    """Sort the arguments of `f`, and add those that have a default where `f` has a rule of its own.

    Its `nondiff_argnums` are bound, and so are Python's ints and bools unless it is a `custom_vjp` function.

    Args:
        f: the function.
        args: its arguments, by position.
        wrt: the numbers of the arguments to look at, or None for all that were given.

    Raises:
        TypeError: where one of the `nondiff_argnums` is missing.
        ValueError: where `wrt` numbers an argument that was not given.
    """
    given = len(args)
    ruled = isinstance(f, jax.custom_vjp | jax.custom_jvp)
    args = (*args, *_defaults(f, given)) if ruled else args
    fixed = {i % len(args) if args else i for i in fixed_positions(f)}
    if fixed and max(fixed_positions(f)) >= len(args):
        name = getattr(f, "__name__", type(f).__name__)
        raise TypeError(f"expected all arguments of {name} by position, got {given}")
    if not isinstance(f, jax.custom_vjp):  # a number in Python is one for a function that looks at it
        fixed |= {i for i, x in enumerate(args) if isinstance(x, bool | int)}
    return _sorted(args, fixed, _wanted(wrt, given))


def bind_all(args: tuple[Any, ...], wrt: int | Sequence[int] | None) -> Binding:
    """Leave all arguments free, as those of two functions are that are no JAX function together.

    Args:
        args: the arguments.
        wrt: the numbers of the arguments to look at, or None for all.

    Raises:
        ValueError: where `wrt` numbers an argument that was not given.
    """
    return _sorted(args, set(), _wanted(wrt, len(args)))


def _sorted(args: tuple[Any, ...], fixed: set[int], wanted: set[int]) -> Binding:
    free = tuple(i for i in range(len(args)) if i not in fixed)
    rest = tuple(_split(args[i])[1] for i in free)
    return Binding(args, free, tuple(n for n, i in enumerate(free) if i in wanted), rest)


def _wanted(wrt: int | Sequence[int] | None, count: int) -> set[int]:
    if wrt is None:
        return set(range(count))
    wanted = {wrt} if isinstance(wrt, int) else set(wrt)
    if not wanted <= set(range(count)):
        raise ValueError(
            f"expected wrt to number some of the {count} arguments (0 to {count - 1}), got {wrt!r}"
        )
    return wanted


def _defaults(f: Callable[..., Any], given: int) -> tuple[Any, ...]:
    """Return the values of the parameters that have one and were not given, as far as there are such."""
    try:
        parameters = list(inspect.signature(f).parameters.values())[given:]
    except (TypeError, ValueError):
        return ()
    found = []
    for p in parameters:
        if p.kind is not p.POSITIONAL_OR_KEYWORD or p.default is p.empty:
            break
        found.append(p.default)
    return tuple(found)


def _split(arg: Any) -> tuple[Any, Any]:
    """Return an argument without what is no array, and that alone; None for the latter if all are arrays."""
    leaves, tree = jax.tree.flatten(arg)
    if jax.tree_util.treedef_is_leaf(tree) or all(map(_is_data, leaves)):
        return arg, None
    kept = tree.unflatten([x if _is_data(x) else None for x in leaves])
    return kept, ([None if _is_data(x) else x for x in leaves], tree)


def _joined(arg: Any, rest: Any) -> Any:
    others, tree = rest
    data = iter(jax.tree.leaves(arg))
    return tree.unflatten([next(data) if x is None else x for x in others])


def _is_data(x: Any) -> bool:
    numbers = jax.Array | np.ndarray | np.generic | bool | int | float | complex
    return isinstance(x, numbers) or hasattr(x, "dtype")
