"""One case of the corpus: a layer, a backward pass for it, and the names of what is wrong with that pass."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from tests.check.rules import with_rules

Make = Callable[[jax.Array, int], tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """A hand-written backward pass; `names` holds every true name of its mistake, best first (none: it is
    right).
    """

    name: str
    kind: str
    primal: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    make: Make
    names: tuple[str, ...] = ()

    @property
    def hidden(self) -> bool:
        """A third of the corpus, chosen by a hash of the name, is kept out of sight while names are
        worked on.
        """
        return hashlib.sha256(self.name.encode()).digest()[0] % 3 == 0

    @property
    def function(self) -> Callable[..., Any]:
        """The layer as JAX sees it: a `custom_vjp` function."""
        return with_rules(self.primal, self.forward, self.backward)


def cases(
    kind: str,
    primal: Callable[..., Any],
    forward: Callable[..., Any],
    make: Make,
    *backwards: tuple[Callable[..., Any], tuple[str, ...]],
) -> tuple[Case, ...]:
    """The cases of one layer: its forward pass once, and one case for each backward pass, named after it."""
    return tuple(
        Case(f"{kind}: {backward.__name__.replace('_', ' ')}", kind, primal, forward, backward, make, names)
        for backward, names in backwards
    )


def normal(key: jax.Array, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """One standard normal float32 array for each shape."""
    return tuple(
        jax.random.normal(k, s) for k, s in zip(jax.random.split(key, len(shapes)), shapes, strict=True)
    )


ROWS = (6, 17, 64)
WIDE = (5, 24, 96)
NARROW = (4, 19, 72)
