"""A function with its arguments and one cotangent, pulled back by JAX with the function's own rule."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from vjpcheck.arguments import Arguments, exact, replaced
from vjpcheck.subject import cotangent

Gradients = list[np.ndarray]


class Run:
    """A function with its arguments and one cotangent: `gradients(f)` are those of the active leaves.

    Args:
        f: the function.
        arguments: its arguments.
        dy: a cotangent for each of its floating outputs, of the same shape and dtype.
    """

    def __init__(self, f: Callable[..., Any], arguments: Arguments, dy: Sequence[Any]):
        self.f: Callable[..., Any] = f
        self.arguments: Arguments = arguments
        self.dy: Sequence[Any] = dy

    def pull(self, f: Callable[..., Any], leaves: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
        """Return the gradients of a function by the active leaves, differentiated by JAX with its own rule.

        Args:
            f: the function, of the same arguments.
            leaves: the leaves of the arguments, in the place of those given.
            dy: a cotangent for each of its floating outputs.
        """
        active = self.arguments.active
        chosen = lambda *some: f(*self.arguments.unflatten(replaced(leaves, active, some)))  # noqa: E731
        out, pullback = jax.vjp(chosen, *[leaves[i] for i in active])
        return list(pullback(cotangent(*jax.tree.flatten(out), dy)))

    def gradients(self, f: Callable[..., Any] | None = None) -> Gradients:
        """Return them at the arguments, on the host."""
        return [exact(g) for g in self.pull(f or self.f, self.arguments.leaves, self.dy)]
