"""Mistakes planted in what routes trees, which the proof must see."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn import Concatenate, Dense, Each, Serial, Sum
from fnn.compose import entries
from tests.cases import SEVERAL, TREES, Case, example, rows
from tests.proof import assert_equal, explicit, reference


def swapped(right: Any) -> Any:
    """Put each further entry's cotangent in front of those before it."""
    return lambda self, dx, name, more: (more, *(dx or ()))


def with_dx(change: Any) -> Any:
    """Change dx on its way out: `change(dx)`."""

    def wrong(right: Any) -> Any:
        def backward(self: Any, *args: Any) -> Any:
            factors, dx = right(self, *args)
            return factors, change(dx)

        return backward

    return wrong


def with_dy(change: Any) -> Any:
    """Change dy on its way in: `change(dy)`."""

    def wrong(right: Any) -> Any:
        return lambda self, params, x, y, extras, dy: right(self, params, x, y, extras, change(dy))

    return wrong


def off_by_one(dx: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == jax.dtypes.float0 else leaf + 1, dx)


MISTAKES = [
    ("entries swapped", Each, "with_cotangent", swapped, "each-pair-alike"),
    ("one head's cotangent alone", entries, "added", lambda right: lambda a, b: b, "heads"),
    ("cotangent of what was not picked", fnn.Select, "backward", with_dx(off_by_one), "select-pair"),
    (
        "slices shifted",
        Concatenate,
        "backward",
        with_dy(lambda dy: jnp.roll(dy, 1, -1)),
        "concatenate-tokens",
    ),
    ("mean for sum", Sum, "backward", with_dy(lambda dy: dy / 3), "sum"),
]
ALIKE = Case("each-pair-alike", Serial(Each((Dense(2), Dense(2)))), (rows(4, 3), rows(4, 3)))


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "wrong", "case"), MISTAKES, ids=[m[0] for m in MISTAKES]
)
def test_a_planted_mistake_turns_the_proof_red(name, owner, attribute, wrong, case, monkeypatch):
    drawn = example(next(c for c in (*TREES, *SEVERAL, ALIKE) if c.name == case))
    wanted = jax.jit(reference)(drawn)
    assert_equal(jax.jit(explicit)(drawn), wanted)
    right = getattr(owner, attribute)
    monkeypatch.setattr(owner, attribute, wrong(right))
    got = jax.jit(lambda drawn: explicit(drawn))(drawn)
    with pytest.raises(AssertionError):
        assert_equal(got, wanted)
