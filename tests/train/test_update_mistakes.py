"""Mistakes planted in the update within the backward pass, which the proof must see."""

from typing import Any

import jax.numpy as jnp
import pytest

import fnn
from fnn import Dense
from fnn.compose import in_place
from tests.proof import assert_equal
from tests.train.test_update import (
    MOMENTUM,
    SMALL,
    batches,
    in_backward,
    named,
    ordinary,
)


def dx_of_new_params(right: Any) -> Any:
    """Plant: dx is made of the weight that has been updated."""

    def wrong(self, params, x, y, extras, dy):
        factors, dx = right(self, params, x, y, extras, dy)
        return factors, dy @ (params["kernel"] - 0.1 * fnn.gradient(factors["kernel"], params["kernel"])).T

    return wrong


def twice(right: Any) -> Any:
    def wrong(update, factor, param, row, place=(), axes=0, *read, **more):
        row = right(update, factor, param, row, place, axes, *read, **more)
        param = in_place.taken(row[0], place) if place else row[0]
        return right(update, factor, param, row, place, axes, *read, **more)

    return wrong


def state_left(right: Any) -> Any:
    def wrong(update, factor, param, row, *more, **named):
        return right(update, factor, param, row, *more, **named)[0], row[1]

    return wrong


def next_use(right: Any) -> Any:
    return lambda stack, place: right(stack, (*place[:-1], jnp.minimum(place[-1] + 1, stack.shape[0] - 1)))


MISTAKES = {
    "new params for dx": (Dense, "backward", dx_of_new_params, named("mlp")),
    "params of the use that has been updated": (in_place, "taken", next_use, SMALL),
    "a leaf updated twice": (in_place, "replaced", twice, SMALL),
    "a state left as it was": (in_place, "replaced", state_left, SMALL),
    "written beside its place": (
        in_place,
        "with_dependency",
        lambda right: lambda value, *_: value + 1,
        SMALL,
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_turns_it_red(name, monkeypatch):
    owner, attribute, wrong, case = MISTAKES[name]
    params, data = batches(case)
    wanted = ordinary(case, MOMENTUM, params, data)
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    with pytest.raises(AssertionError):
        assert_equal(in_backward(case, MOMENTUM, params, data), wanted)
