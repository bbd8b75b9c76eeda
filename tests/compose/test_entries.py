"""Trees as inputs and outputs: what is kept, who is refused and how."""

# pyright: reportArgumentType=false

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import Concatenate, Dense, Each, Embedding, Heads, Select, Serial, Sum
from fnn.check import layers
from tests.cases import SEVERAL, TREES, VOCABULARY, example, indices, rows
from tests.proof import assert_equal, explicit

KEY = jax.random.key(0)
X = {"categories": jnp.arange(4, dtype=jnp.int32), "numbers": jnp.ones((4, 5), jnp.float32)}
TABLE = Each({"categories": Embedding(VOCABULARY, 3), "numbers": Serial(Dense(3), fnn.relu)})
NET = Serial(TABLE, Concatenate(), Dense(2))


def suggestion(make: Any) -> str:
    """Give what the error says to try."""
    with pytest.raises(fnn.InputError) as caught:
        make()
    return str(caught.value).rpartition("try `")[2][:-1]


@pytest.mark.parametrize(
    "layer", [Dense(3), fnn.relu, fnn.LayerNorm(), fnn.Gate(), Embedding(7, 2)], ids=repr
)
@pytest.mark.parametrize("x", [X, tuple(X.values())], ids=["dict", "tuple"])
def test_a_leaf_that_gets_a_tree_names_the_composition_that_routes_it(layer, x):
    x = jax.tree.map(lambda leaf: leaf[..., :4], x)
    routed = eval(suggestion(lambda: fnn.init(layer, KEY, x)), {**vars(fnn), "fnn": fnn})
    params = fnn.init(routed, KEY, x)
    y = fnn.apply(routed, params, x)
    assert y.shape[0] == 4
    with pytest.raises(fnn.InputError, match="not a tree"):
        fnn.apply(layer, params[1], x)


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (Select("number"), X),
        (Select(7), tuple(X.values())),
        (Select("numbers"), X["numbers"]),
        (Concatenate(), X["numbers"]),
        (Sum(), X["numbers"]),
        (TABLE, X["numbers"]),
        (TABLE, {**X, "more": X["numbers"]}),
        (TABLE, {"numbers": X["numbers"]}),
        (TABLE, tuple(X.values())),
        (Each((fnn.relu, fnn.relu)), [X["numbers"], X["numbers"]]),
    ],
)
def test_a_tree_that_does_not_fit_is_refused_with_a_call_that_works(net, x):
    scope = {**vars(fnn), "fnn": fnn, "x": x, "z": X["numbers"], "layer": fnn.identity}
    fix = suggestion(lambda: fnn.init(net, KEY, x))
    if fix.startswith("x = "):
        exec(fix, scope)
        fnn.init(net, KEY, scope["x"])
        return
    found = eval(fix, scope)
    if not isinstance(found, fnn.Layer):
        fnn.init(net, KEY, found)
    elif isinstance(found, Heads):  # one of its layers takes integers, and x is of numbers
        assert found.layers == net.layers
    else:
        x = {name: X["numbers"] for name in x} if isinstance(found, Each) else x
        fnn.init(found, KEY, x)


@pytest.mark.parametrize(
    ("net", "x", "parts"),
    [
        (Concatenate(), (rows(4, 2), rows(3, 2)), "but on axis 1"),
        (Concatenate(), (rows(4, 2), rows(4, 2, 2)), "but on axis 1"),
        (Concatenate(2), (rows(4, 2), rows(4, 2)), "an axis 2"),
        (Concatenate(), (rows(4, 2), indices(4, 2)), "floating-point x"),
        (Concatenate(), (), "a tree of arrays"),
        (Sum(), (rows(4, 2), rows(4, 3)), r"arrays like float32\[4,2\]"),
        (Serial(Each({"a": Dense(3), "b": Serial(fnn.relu, Dense(2))})), {"a": rows(4, 2), "b": indices(4)},
         r'net\.layers\[0\]\["b"\]\.layers\[0\]: relu'),
        (Heads({"actor": Dense(3, inputs=7)}), rows(4, 2), r'net\["actor"\]: Dense'),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_where_it_stands(net, x, parts):
    with pytest.raises(fnn.InputError, match=parts):
        fnn.init(net, KEY, x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Each({}),
        lambda: Heads([]),
        lambda: Each(fnn.relu),
        lambda: Heads({1: fnn.relu}),
        lambda: Each({"a": jnp.tanh}),
    ],
)
def test_what_are_no_named_layers_is_refused(make):
    assert suggestion(make)


def test_params_and_cotangents_of_another_tree_are_refused():
    params = fnn.init(NET, KEY, X)
    with pytest.raises(
        fnn.InputError, match=r"net\.layers\[0\]: Each.*a dict of params for categories, numbers|Each: "
    ):
        fnn.forward(NET, ({"other": ()}, *params[1:]), X)
    heads = Heads({"a": Dense(2), "b": Dense(1)})
    params = fnn.init(heads, KEY, X["numbers"])
    y, residuals = fnn.forward(heads, params, X["numbers"])
    for wrong in (y["a"], {"a": y["a"]}, (y["a"], y["b"])):
        with pytest.raises(fnn.InputError, match="dy like y"):
            fnn.backward(heads, params, residuals, wrong)
    select = Select(("a", "b"))
    with pytest.raises(fnn.InputError, match="dy like y"):
        fnn.backward(select, (), fnn.forward(select, (), y)[1], {"a": y["a"]})


def test_an_entry_draws_the_same_params_whatever_stands_beside_it():
    alone = fnn.init(Each({"b": Dense(3)}), KEY, {"b": rows(4, 2)})
    beside = fnn.init(Each({"a": Dense(1), "b": Dense(3)}), KEY, {"a": rows(4, 2), "b": rows(4, 2)})
    np.testing.assert_array_equal(alone["b"]["kernel"], beside["b"]["kernel"])
    assert fnn.init(Each({"a": fnn.relu, "b": Dense(1)}), KEY, {"a": rows(3), "b": rows(3)}).keys() == {"b"}


def kept(net: Any, x: Any) -> list[tuple[int, ...]]:
    params = jax.eval_shape(lambda: fnn.init(net, KEY, x))
    _, residuals = jax.eval_shape(lambda p, x: fnn.forward(net, p, x), params, x)
    return sorted(leaf.shape for leaf in jax.tree.leaves(residuals))


@pytest.mark.parametrize(
    ("net", "shapes"),
    [
        # the relu's output is kept with the embedding's, and the concatenation follows from them
        (NET, [(4,), (4, 3), (4, 3), (4, 5)]),
        (Serial(Select("numbers"), Dense(2)), [(4, 5)]),
        (
            Serial(Select("numbers"), Heads((Dense(2), Dense(3))), Concatenate(), fnn.relu, Dense(1)),
            [(4, 5), (4, 5)],
        ),
        (Serial(Select(("numbers",)), Concatenate()), []),
    ],
)
def test_no_boundary_of_a_tree_is_kept_twice(net, shapes):
    assert kept(net, jax.eval_shape(lambda: X)) == shapes


TARGET = jnp.array([0, 1, 1, 0], jnp.int32)


def test_readings_of_examples_that_are_trees():
    params, loss = fnn.init(NET, KEY, X), fnn.softmax_cross_entropy(reduction="sum")
    read = fnn.readers.losses_and_readings(NET, loss, fnn.readers.squared_norm)
    losses, norms = read(params, X, TARGET)
    each = jax.vmap(fnn.value_and_grad(NET, loss), (None, 0, 0))(params, X, TARGET)
    wanted = jax.tree.map(lambda g: jnp.square(g).sum(range(1, g.ndim)), each[1])
    assert_equal((losses, norms), (each[0], wanted), 1e-5)
    with pytest.raises(fnn.InputError, match="as many examples"):
        read(params, {**X, "numbers": X["numbers"][:2]}, TARGET)
    with pytest.raises(fnn.InputError, match="couples them"):
        pair, net = (X["numbers"], X["numbers"]), Serial(Concatenate(axis=0), Dense(2))
        own = fnn.init(net, KEY, pair)
        fnn.readers.losses_and_readings(net, loss, fnn.gradient)(own, pair, TARGET)


@pytest.mark.parametrize(
    "case",
    [c for c in (*TREES, *SEVERAL) if c.name in ("each-concatenate", "heads", "repeat-of-each")],
    ids=repr,
)
def test_plans_change_nothing_for_trees(case):
    drawn = example(case)
    plans = fnn.memory.plans(case.net, case.input())
    wanted = jax.jit(explicit)(drawn)
    for plan in plans[:1]:
        assert plan.peak == fnn.memory.report(plan.net, None, case.input()).peak
        assert_equal(jax.jit(explicit)(fnn_replace(drawn, plan.net)), wanted)


def fnn_replace(drawn: Any, net: Any) -> Any:
    import dataclasses

    return dataclasses.replace(drawn, net=net)


def test_the_walk_over_layers_takes_trees():
    net = Serial(Each((Dense(2), fnn.tanh)), Concatenate())
    x = jnp.ones((4, 3), jnp.float32), jnp.linspace(0, 1, 8, dtype=jnp.float32).reshape(4, 2)
    report = layers(net, fnn.init(net, KEY, x), x, level="quick")
    assert report.verdict == "PASS", str(report)
