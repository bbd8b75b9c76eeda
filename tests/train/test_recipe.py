"""Networks and losses as JSON: what comes back is equal, and what cannot is refused by its place."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.train.named import names
from fnn.train.recipe import from_json, to_json
from fnn.train.spelled import difference
from tests.cases import CASES, SINE
from tests.contract.batch_norm import BatchNorm
from tests.contract.gating import Product

REFUSED = {  # an activation whose function is a lambda, CUBE
    "mlp-own-activations": r"net.layers\['activation'\].f: to_json: ",
    "alone-<lambda>": "net.f: to_json: ",
    "dense-<lambda>-dense": r"net.layers\[1\].f: to_json: ",
}
LOSSES = [
    fnn.softmax_cross_entropy(0.1, "sum"),
    fnn.binary_cross_entropy(),
    fnn.losses.kl_divergence(),
    fnn.losses.hinge("none"),
    fnn.losses.absolute_error(),
    fnn.losses.cosine(),
    fnn.losses.poisson(),
    fnn.half_squared_error(),
    fnn.squared_error(),
    fnn.huber(0.5),
    fnn.LinearCrossEntropy(11, tied=(0, "embedding"), ignore=-1, dtype=jnp.bfloat16),
    0.5 * fnn.huber().on("value") + fnn.LinearCrossEntropy(3).on("policy"),
]
MORE = [
    fnn.Dense(3, dtype="bfloat16", kernel_init=fnn.initializers.normal(0.1)),
    fnn.Dense(3, dtype=jnp.dtype("float16")),
    fnn.Dense(3, dtype=np.float32),
    fnn.Gate(fnn.activations.leaky_relu_with(0.2)),
    fnn.activations.Softmax(axis=0),
    fnn.memory.stored(fnn.mlp([3, 8, 2]), fnn.memory.Bits(4)),
    fnn.memory.stored(fnn.Serial(fnn.Dense(2)), fnn.memory.Rounded()),
    fnn.Serial(layers=fnn.Dense(3), f=fnn.relu),
]


def written(description: Any) -> Any:
    """Give what is read again where a description was written as JSON."""
    return json.loads(json.dumps(description, allow_nan=False))


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in REFUSED], ids=repr)
def test_a_network_comes_back_equal(case):
    again = from_json(written(to_json(case.net)))
    assert again == case.net and hash(again) == hash(case.net) and repr(again) == repr(case.net)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in REFUSED], ids=repr)
def test_a_lambda_is_refused_by_its_place(case):
    with pytest.raises(fnn.InputError, match=REFUSED[case.name] + "expected a function that its module has"):
        to_json(case.net)


@pytest.mark.parametrize("value", [*LOSSES, *MORE], ids=repr)
def test_losses_and_options_come_back_equal(value):
    again = from_json(written(to_json(value)))
    assert again == value and hash(again) == hash(value) and repr(again) == repr(value)


def test_a_number_of_numpy_comes_back_as_an_equal_one():
    net = fnn.Repeat(fnn.Dense(3), np.int64(2))  # pyright: ignore[reportArgumentType]
    assert from_json(written(to_json(net))) == net


class Pair(NamedTuple):
    """What a user's network may have for an option."""

    a: Any
    b: Any = ()


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -2.5, float("inf"), "a", b"\x00\xff", (), (1, (2, [3, ()])), {"a": {1: 2}, "b": {}},
     {"name": "fnn.relu", "dict": 1}, np.dtype("int8"), Pair(1, (2, 3)), {(1, 2): Pair(None)}, 2**70, "𝛼\n"],
    ids=repr,
)  # fmt: skip
def test_values_come_back_with_their_types(value):
    again = from_json(written(to_json(value)), known=(Pair,))
    assert again == value and type(again) is type(value) and repr(again) == repr(value)


def double(params: Any, x: Any) -> Any:
    """Give a function that is a layer by `Function`."""
    return 2 * x


def test_classes_and_functions_of_others_are_passed_in():
    net = fnn.Serial(BatchNorm(), Product(fnn.Dense(3), fnn.relu), fnn.function.Function(double))
    description = written(to_json(net))
    again = from_json(description, known=(Product, BatchNorm, double))
    assert again == net and hash(again) == hash(net)
    wanted = r"from_json: expected tests.contract.gating.Product among `known`, got known=\(.*BatchNorm\)"
    with pytest.raises(fnn.InputError, match=wanted + ".*known=\\(BatchNorm, Product, double\\)"):
        from_json(description, known=(BatchNorm,))


def test_a_class_may_have_moved_to_another_module():
    @dataclass(frozen=True)
    class Moved(BatchNorm):
        pass

    description = to_json(Moved())
    [(name, fields)] = description.items()
    assert from_json({name.replace("tests.train", "old.place"): fields}, known=(Moved,)) == Moved()


@dataclass(frozen=True)
class Nine(fnn.Dense):
    """A layer whose constructor does not say what it is."""

    def __post_init__(self) -> None:
        vars(self).update(features=self.features + 9)


@dataclass
class Thawed:
    """A description that is not frozen, and so has no hash."""

    a: int


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (fnn.Serial(a=fnn.Dense(3, kernel_init=jax.nn.initializers.he_normal())),
         r"net.layers\['a'\].kernel_init: to_json: expected a function .*fnn.initializers.he_normal\(\)"),
        (fnn.Loss(lambda y, t: y - t), "net.rule: to_json: expected a function that its module has"),
        (fnn.function.Function(lambda p, x: x), "net.f: to_json: expected a function that its module has"),
        ((1, {"a": jnp.ones(2)}), r"net\[1\]\['a'\]: to_json: expected numbers, strings, tuples, frozen"),
        ({1, 2}, "to_json: expected numbers"),
        (1j, "to_json: expected numbers"),
        (Nine(1), "to_json: expected a value that its fields tell"),
        (Thawed(1), r"expected a value that its fields tell.*dataclass\('Thawed', \['a'\], frozen=True\)"),
    ],
    ids=["closure", "rule", "function", "array", "set", "complex", "constructor", "not frozen"],
)  # fmt: skip
def test_what_cannot_come_back_is_refused_where_it_is_described(value, match):
    with pytest.raises(fnn.InputError, match=match):
        to_json(value)


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "jax.numpy.load", "fnn.export.files.whole", "fnn.train.recipe.to_json",
     "jax.numpy.save", "pickle.loads", "fnn.export.load", "fnn.check.check", "jax.numpy", "fnn.losses"],
)  # fmt: skip
def test_a_file_names_no_other_code(name):
    with pytest.raises(fnn.InputError, match="among `known`"):
        from_json({"name": name})
    with pytest.raises(fnn.InputError, match="among `known`"):
        from_json({name: {"features": 3}})


def test_functions_are_named_but_not_called():
    with pytest.raises(fnn.InputError, match="expected a class with fields, got fnn.mlp"):
        from_json({"fnn.mlp": {"sizes": [3, 4]}})


@pytest.mark.parametrize(
    "description",
    [{}, {"a": 1, "b": 2}, {"name": 3}, {"dict": 3}, {"fnn.Dense": [3]}, {"list": {}}, object()],
    ids=lambda value: type(value).__name__ + str(len(str(value)) * isinstance(value, dict)),
)
def test_garbage_is_no_description(description):
    with pytest.raises(fnn.InputError, match="expected what `to_json` returned"):
        from_json(description)


def test_fields_of_another_version_are_refused():
    with pytest.raises(fnn.InputError, match="from_json: expected the fields of fnn.Dense, got .*neurons"):
        from_json({"fnn.Dense": {"features": 3, "neurons": 3}})
    with pytest.raises(fnn.InputError, match="features"):
        from_json({"fnn.Dense": {}})


def test_options_are_told_although_they_have_their_default():
    """So that another default in a later version does not change what a checkpoint is of."""
    assert to_json(fnn.LayerNorm()) == {"fnn.LayerNorm": {"eps": 1e-5, "scale": True, "bias": True}}


def test_the_shortest_name_is_told():
    assert to_json(fnn.gelu) == {"name": "fnn.gelu"}
    assert to_json(SINE)["fnn.activations.Activation"]["f"] == {"name": "jax.numpy.sin"}
    assert names().values["fnn.activations.table.gelu"] is fnn.gelu


def test_the_difference_of_two_networks_has_a_place():
    a, b = (
        to_json(fnn.Serial(fnn.Dense(3), f, plan=plan)) for f, plan in [(fnn.relu, ()), (fnn.gelu, ((0, 2),))]
    )
    assert difference(a, a) is None
    assert difference(a, b, unless=("plan",)) == ".layers[1]: 'fnn.relu', not 'fnn.gelu'"
    assert "plan" in str(difference(a, b))
    assert difference(to_json(fnn.relu), to_json(fnn.Dense(3))) is not None
