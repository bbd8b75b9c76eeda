"""Wrong calls of descriptions: of what cannot be described, and of what is no description."""

# pyright: reportArgumentType=false

import dataclasses
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp

import fnn
from fnn.train.recipe import from_json, to_json
from tests.contract.batch_norm import BatchNorm
from tests.contract.gating import Product
from tests.suggestions.row import Row

NET = fnn.Dense(2)
OWN = fnn.Serial(BatchNorm(), Product(fnn.Dense(3), fnn.relu))


@dataclasses.dataclass(frozen=True)
class Nine(fnn.Dense):
    """A layer whose constructor changes its fields."""

    def __post_init__(self) -> None:
        vars(self).update(features=self.features + 9)


class Plain:
    """An object that says nothing of its fields."""

    def __init__(self, a: int) -> None:
        self.a = a


@dataclasses.dataclass
class Thawed:
    """A dataclass that is not frozen."""

    a: int


def value(value: Any, **names: Any) -> Row:
    """The row of a value that cannot be described, where the suggestion can."""
    return Row(lambda: to_json(value), to_json, {"value": value, "dataclasses": dataclasses} | names)


def description(wrong: Any, known: Any = ()) -> Row:
    """The row of what is no description, where the suggestion is that of the network."""
    return Row(lambda: from_json(wrong, known), lambda own: from_json(own), {"net": NET})


def closed(checkpoints: Any) -> None:
    with checkpoints:
        assert not list(checkpoints.folder.glob("step_*"))


ROWS = {
    # Described.
    "a class that is not frozen": Row(lambda: to_json(Thawed(1)), lambda kind: to_json(kind(1)), {"dataclasses": dataclasses}),
    "a constructor of its own": Row(lambda: to_json(Nine(1)), closed, {"folder": "nine"}),
    "no equal number": Row(lambda: to_json(float("nan")), closed, {"folder": "nan"}),
    "a set": value({1, 2}),
    "a complex number": value(1j),
    "an array": value(jnp.ones(2)),
    "a dict with an order": value(OrderedDict(a=1)),
    "an object": value(Plain(1)),
    "an object without fields": value(object()),
    "a function without a name": Row(lambda: to_json(fnn.Loss(lambda y, t: y - t)), lambda f: to_json(fnn.activation(f))),
    "an initializer of jax": Row(lambda: to_json(fnn.Dense(3, kernel_init=jax.nn.initializers.he_normal())), lambda own: to_json(fnn.Dense(3, kernel_init=own))),
    # Built.
    "classes of others": Row(lambda: from_json(to_json(OWN), (BatchNorm,)), lambda net: {OWN: 1}[net], {"description": to_json(OWN), "BatchNorm": BatchNorm, "Product": Product}),
    "a function with fields": description({"fnn.mlp": {"sizes": [3, 4]}}),
    "fields of another version": description({"fnn.Dense": {"features": 3, "neurons": 3}}),
    "no description": description({"a": 1, "b": 2}),
}  # fmt: skip
