"""Wrong calls of layers and compositions."""

from typing import Any, cast

import jax.numpy as jnp
import numpy as np

import fnn
from fnn import (
    Concatenate,
    Dense,
    Dropout,
    Each,
    Embedding,
    Heads,
    Parallel,
    Repeat,
    Select,
    Serial,
    Skip,
    Sum,
)
from tests.contract.broken import Scaling
from tests.suggestions.row import KEY, Row, X

nan, inf = float("nan"), float("inf")
TREE = {"a": X, "b": X[:, :3]}
PAIR = (X, X[:, :3])
I = jnp.array([-1, 2])  # noqa: E741


def built(layer, x: Any = X):
    """Take a suggested layer for `x`."""
    return fnn.forward(layer, fnn.init(layer, KEY, x), x)


def params_of(layer, x: Any = X):
    return fnn.init(layer, KEY, x)


def into(layer):
    """Take a suggested input of a layer."""
    return lambda value: built(layer, value)


def back(layer, dy, x: Any = X):
    """Give the backward of a layer this `dy`."""
    params = params_of(layer, x)
    return fnn.backward(layer, params, fnn.forward(layer, params, x)[1], dy)


def again(layer, x: Any = X):
    """Give a layer the suggested params."""
    return lambda params: fnn.forward(layer, params, x)


def cotangent(layer, dy, x: Any = X):
    """The row of a wrong `dy`."""
    y = built(layer, x)[0]
    return Row(lambda: back(layer, dy, x), lambda dy: back(layer, dy, x), {"y": y, "dy": dy})


SQUARED = fnn.squared_error()


def model(params: Any, x: Any) -> Any:
    """A network of one's own, no layer."""
    return x * params[None]


OF_FIVE = params_of(Dense(3), X[:, :5])
TABLE = {"embedding": jnp.ones((3, 2), jnp.float32)}

ROWS = {
    # Sizes and options: what is suggested is never negative, zero or absurd.
    "features": Row(lambda: Dense(-1), built),
    "no features": Row(lambda: Dense(0), built),
    "inputs": Row(lambda: Dense(3, inputs=-2), built),
    "vocabulary": Row(lambda: Embedding(0, 2), lambda f: built(f, jnp.array([1]))),
    "a vocabulary below zero": Row(lambda: Embedding(-5, -2), lambda f: built(f, jnp.array([1]))),
    "an embedding without features": Row(lambda: Embedding(2, 0), lambda f: built(f, jnp.array([1]))),
    "times": Row(lambda: Repeat(fnn.relu, 0), built, {"layer": fnn.relu}),
    "stretches": Row(lambda: Repeat(fnn.relu, 4, every=0), built, {"layer": fnn.relu}),
    "stretches that do not divide": Row(lambda: Repeat(fnn.relu, 4, every=3), built, {"layer": fnn.relu}),
    "one size": Row(lambda: fnn.mlp([5]), built, {"inputs": 6, "hidden": 3, "outputs": 2}),
    "a size of none": Row(lambda: fnn.mlp([6, 0, -3]), built, {"inputs": 6, "hidden": 3, "outputs": 2}),
    "gated": Row(lambda: fnn.gated(-1), built),
    "a name of an activation": Row(lambda: fnn.mlp([6, 3, 2], "relu"), built),  # pyright: ignore[reportArgumentType]
    "too few activations": Row(lambda: fnn.mlp([6, 4, 4, 3], [fnn.relu]), built),
    "a scan over unlike layers": Row(lambda: fnn.mlp([6, 4, 3, 2], scan=True), built, {"activations": fnn.relu}),
    "rate": Row(lambda: Dropout(1.0), built),
    "eps": Row(lambda: fnn.LayerNorm(eps=0), built),
    "eps of an RMSNorm": Row(lambda: fnn.RMSNorm(eps=-1.0), built),
    "elu nan": Row(lambda: fnn.activations.elu_with(nan), built),
    "celu inf": Row(lambda: fnn.activations.celu_with(inf), built),
    "leaky nan": Row(lambda: fnn.activations.leaky_relu_with(nan), built),
    "a side": Row(lambda: fnn.activation(jnp.tanh, of="y"), built, {"f": jnp.sin, "df": jnp.cos}),  # pyright: ignore[reportArgumentType]
    "no derivative": Row(lambda: fnn.activation(jnp.exp, of="output"), built, {"f": jnp.exp, "df": lambda y: y}),
    "a join": Row(lambda: Parallel(fnn.relu, join="mean"), built, {"a": fnn.relu, "b": fnn.tanh}),  # pyright: ignore[reportArgumentType]
    "no layers": Row(lambda: Parallel(), built, {"a": fnn.relu, "b": fnn.tanh}),
    "a list of layers": Row(lambda: Serial([Dense(3)]), built, {"layers": [Dense(3)]}),  # pyright: ignore[reportArgumentType]
    "a function for a network": Row(lambda: fnn.value_and_grad(model, SQUARED), lambda f: fnn.value_and_grad(f, SQUARED)(X[0], X, X), {"net": model}),  # pyright: ignore[reportArgumentType]
    "layers for a network": Row(lambda: fnn.curvature.kronecker_factors([Dense(3)], SQUARED), built, {"net": [Dense(3)]}),  # pyright: ignore[reportArgumentType]
    "a class for a network": Row(lambda: fnn.forward(fnn.LayerNorm, {}, X), lambda f: built(f, X)),  # pyright: ignore[reportArgumentType]
    "a class": Row(lambda: Serial(Dense), built, {"features": 3}),  # pyright: ignore[reportArgumentType]
    "a class without fields": Row(lambda: Serial(fnn.Scale), built),  # pyright: ignore[reportArgumentType]
    "a function": Row(lambda: Serial(jnp.tanh), built, {"f": jnp.tanh}),  # pyright: ignore[reportArgumentType]
    "a number": Row(lambda: Skip(3), built, {"layer": fnn.relu, "a": fnn.relu, "b": fnn.tanh}),  # pyright: ignore[reportArgumentType]
    "some names": Row(lambda: Serial(fnn.relu, b=fnn.relu), built, {"a": fnn.relu, "b": fnn.tanh}),
    "plan as a name": Row(lambda: Serial(plan=Dense(3)), built),  # pyright: ignore[reportArgumentType]
    "a step": Row(lambda: fnn.mlp([6, 3, 2])[::2], built, {"net": fnn.mlp([6, 3, 2])}),
    "a plan": Row(
        lambda: Serial(fnn.relu, plan=(fnn.Segment(0, 5),)),
        built,
        {"net": fnn.mlp([6, 3]), "x": X, "budget": 10**9},
    ),
    "a name that is no text": Row(lambda: Each({1: fnn.relu}), lambda f: built(f, {"1": X}), {"layer": fnn.relu}),  # pyright: ignore[reportArgumentType]
    "one layer": Row(lambda: Each(fnn.relu), lambda f: built(f, {"name": X}), {"layer": fnn.relu}),  # pyright: ignore[reportArgumentType]
    # Inputs.
    "no array": Row(lambda: built(Dense(3), [1.0]), into(Dense(3)), {"x": [1.0]}),
    "no array in forward": Row(lambda: fnn.forward(Dense(3), OF_FIVE, [1.0] * 5), into(Dense(3)), {"x": [1.0] * 5}),
    "a tree": Row(lambda: built(Dense(3), TREE), lambda f: built(f, TREE)),
    "integers": Row(lambda: built(fnn.relu, X.astype(int)), into(fnn.relu), {"x": X.astype(int)}),
    "no integers": Row(lambda: built(Embedding(3, 2)), into(Embedding(3, 2)), {"x": X}),
    "no axis": Row(lambda: built(Dense(3), X[0, 0]), into(Dense(3)), {"x": X[0, 0]}),
    "no axis for params": Row(lambda: fnn.forward(Dense(3), OF_FIVE, X[0, 0]), into(Dense(3)), {"x": X[0, 0]}),
    "no axis to norm": Row(lambda: built(fnn.LayerNorm(), X[0, 0]), into(fnn.LayerNorm()), {"x": X[0, 0]}),
    "no axis to scale": Row(lambda: built(fnn.Scale(), X[0, 0]), into(fnn.Scale()), {"x": X[0, 0]}),
    "no inputs": Row(lambda: built(Dense(3), X[:, :0]), into(Dense(3))),
    "nothing to norm": Row(lambda: built(fnn.LayerNorm(), X[:, :0]), into(fnn.LayerNorm())),
    "features do not divide": Row(lambda: fnn.forward(Dense(3), OF_FIVE, X), again(Dense(3)), {"net": Dense(3), "x": X}),
    "features first": Row(lambda: fnn.forward(Dense(3), OF_FIVE, jnp.ones((5, 7))), lambda x: fnn.forward(Dense(3), OF_FIVE, x), {"x": jnp.ones((5, 7))}),
    "features divide": Row(lambda: fnn.forward(Dense(3), params_of(Dense(3), X[:, :3]), X), into(Dense(3)), {"x": X}),
    "another size said": Row(lambda: built(Dense(3, inputs=7)), built),
    "params of another layer": Row(lambda: fnn.forward(fnn.Bias(), {}, X), again(fnn.Bias()), {"net": fnn.Bias(), "x": X}),
    "params of a shorter chain": Row(lambda: fnn.forward(Serial(fnn.relu, Dense(2)), (), X), again(Serial(fnn.relu, Dense(2))), {"net": Serial(fnn.relu, Dense(2)), "x": X}),
    "params without names": Row(lambda: fnn.forward(Serial(a=Dense(2)), ((),), X), again(Serial(a=Dense(2))), {"net": Serial(a=Dense(2)), "x": X}),
    "params of one branch": Row(lambda: fnn.forward(Parallel(fnn.Bias(), fnn.relu), ((),), X), again(Parallel(fnn.Bias(), fnn.relu)), {"net": Parallel(fnn.Bias(), fnn.relu), "x": X}),
    "params of fewer uses": Row(lambda: fnn.forward(Repeat(fnn.Bias(), 3), params_of(Repeat(fnn.Bias(), 2)), X), again(Repeat(fnn.Bias(), 3)), {"net": Repeat(fnn.Bias(), 3), "x": X}),
    "an index below zero": Row(lambda: fnn.forward(Embedding(3, 2), TABLE, I), again_index := (lambda x: fnn.forward(Embedding(3, 2), TABLE, x)), {"x": I}),
    "an index too large": Row(lambda: fnn.forward(Embedding(3, 2), TABLE, jnp.array([4])), lambda f: built(f, jnp.array([4]))),
    "an index beyond sense": Row(lambda: fnn.forward(Embedding(3, 2), TABLE, jnp.array([10**9])), again_index, {"x": jnp.array([10**9])}),
    "softmax's axis": Row(lambda: fnn.activations.Softmax(axis=2)(X), built),
    "softmax of a number": Row(lambda: fnn.softmax(X[0, 0]), fnn.softmax, {"x": X[0, 0]}),
    "a function that is not elementwise": Row(lambda: fnn.activation(lambda x: x[0])(X), built),
    "fused features": Row(lambda: fnn.Fused(cast(Any, [64, 10])), built),
    "a way to run": Row(lambda: fnn.Fused((4,), run=cast(Any, "gpu")), built),
    "another's params in fused layers": Row(lambda: fnn.forward(fnn.Fused((4, 2)), params_of(Dense(4)), X), names={"net": fnn.Fused((4, 2)), "x": X}),
    "an odd number to gate": Row(lambda: built(fnn.Gate(), X[:, :5]), built),
    "a number that no blocks of gates make": Row(lambda: built(fnn.Gate(blocks=2), X[:, :2]), lambda f: f, {"j": 3}),
    "blocks of a gated unit": Row(lambda: fnn.gated(6, blocks=4), built),
    "no blocks of gates": Row(lambda: fnn.Gate(blocks=0), lambda f: built(f, X[:, :2])),
    "no blocks of a gated unit": Row(lambda: fnn.gated(6, blocks=0), built),
    "an odd number to reverse": Row(lambda: built(fnn.Reversible(fnn.relu, fnn.relu), X[:, :5]), into(fnn.Reversible(fnn.relu, fnn.relu)), {"x": X[:, :5]}),
    # Outputs of parts.
    "a skip of another size": Row(lambda: built(Skip(Dense(3))), built, {"layer": Dense(3)}),
    "a repeat of another size": Row(lambda: built(Repeat(Dense(3), 2)), lambda f: built(Repeat(f, 2))),
    "a repeat of another tree": Row(lambda: built(Repeat(Select("a"), 2), TREE), lambda f: built(Repeat(f, 2), TREE)),
    "reversible's halves": Row(lambda: built(fnn.Reversible(Dense(2), fnn.relu)), lambda f: built(fnn.Reversible(f, fnn.relu))),
    "branches to add": Row(lambda: built(Parallel(Dense(3), Dense(4))), built),
    "branches to concatenate": Row(lambda: built(Parallel(fnn.relu, Dense(3, dtype=jnp.float16), join="concatenate")), built),
    # Trees.
    "an entry that is not there": Row(lambda: built(Select("c"), TREE), lambda f: built(f, TREE)),
    "no entries": Row(lambda: built(Select("c"), X), into(Select("c")), {"x": X}),
    "no tree": Row(lambda: built(Sum(), X), into(Sum()), {"x": X}),
    "an empty tree": Row(lambda: built(Sum(), ()), into(Sum()), {"x": X, "z": X}),
    "arrays that are not alike": Row(lambda: built(Sum(), TREE), lambda f: built(Serial(f, Sum()), TREE), {"x": TREE, "dtype": jnp.float32}),
    "arrays of other rows": Row(lambda: built(Concatenate(axis=0), TREE), lambda f: built(Serial(f, Concatenate(axis=0)), TREE), {"x": TREE, "dtype": jnp.float32}),
    "an axis too many": Row(lambda: built(Concatenate(axis=3), TREE), lambda f: built(f, TREE)),
    "numbers to concatenate": Row(lambda: built(Concatenate(), (X[0, 0], X[0, 1])), into(Concatenate()), {"x": (X[0, 0], X[0, 1])}),
    "one array for each": Row(lambda: built(Each({"a": Dense(3), "b": fnn.relu}), X), built),
    "too many entries": Row(lambda: built(Each({"a": Dense(3)}), TREE), lambda f: built(f, TREE)),
    "a list for each": Row(lambda: built(Each((Dense(3), fnn.relu)), list(PAIR)), into(Each((Dense(3), fnn.relu))), {"x": list(PAIR)}),
    "other entries": Row(lambda: built(Each({"c": Dense(3)}), {"a": X}), lambda f: built(f, {"a": X}), {"x": {"a": X}, "layer": Dense(3)}),
    "a tuple for names": Row(lambda: built(Each({"a": Dense(3), "b": fnn.relu}), PAIR), into(Each({"a": Dense(3), "b": fnn.relu})), {"x": PAIR}),
    "entries for a tuple": Row(lambda: built(Each((Dense(3),)), PAIR), lambda f: built(f, PAIR), {"x": PAIR, "layer": Dense(3)}),
    # Cotangents.
    "dy of one row": cotangent(Dense(3), jnp.ones(3, jnp.float32)),
    "dy of another shape": cotangent(Dense(3), jnp.ones((3, 4), jnp.float32)),
    "dy with an example in each column": cotangent(Dense(3), jnp.ones((3, len(X)), jnp.float32)),
    "dy of another dtype": cotangent(fnn.tanh, X.astype(jnp.bfloat16)),
    **{
        f"{kind} as x": Row(lambda kind=kind: fnn.apply(Dense(3), params_of(Dense(3)), np.zeros((4, 6), kind)), into(Dense(3)), {"k": 6})  # pyright: ignore[reportArgumentType]
        for kind in ("O", "U3", "S3", "M8[s]", "m8[s]")
    },
    "records as x": Row(lambda: fnn.forward(Dense(3), params_of(Dense(3)), np.zeros((4, 6), [("a", "f4")])), into(Dense(3)), {"k": 6}),
    "a text as x": Row(lambda: fnn.apply(Dense(3), params_of(Dense(3)), "x"), into(Dense(3)), {"k": 6}),
    "dy that is no array": cotangent(Dense(3), None),
    "dy of other heads": cotangent(Heads({"a": fnn.relu, "b": fnn.tanh}), {"a": X}),
    "dy of other picks": cotangent(Select(("a", "b")), {"a": X}, TREE),
    "residuals": Row(
        lambda: fnn.backward(Dense(3), X, OF_FIVE, X),  # pyright: ignore[reportArgumentType]
        lambda value: value,
        {"net": fnn.relu, "params": (), "residuals": fnn.forward(fnn.relu, (), X)[1], "dy": X},
    ),
    # Leaves of one's own: the whole of what is refused stands in tests/contract/test_refused_layers.py.
    "needs": Row(lambda: Serial(Scaling(needs="input")), lambda needs: built(Scaling(needs=needs))),
    "cheap": Row(lambda: Serial(Scaling(cheap=None)), lambda cheap: built(Scaling(cheap=cheap))),
    "what init returns": Row(lambda: params_of(Scaling("init"))),
    "what forward returns": Row(lambda: fnn.forward(Scaling("three"), {"scale": X[0]}, X), lambda pair: pair[0], {"y": X}),
    "what its extras are": Row(lambda: fnn.forward(Scaling("text as extras"), {"scale": X[0]}, X), lambda pair: pair[0], {"y": X}),
    "what backward returns": Row(lambda: back(Scaling("three back"), X), lambda pair: pair, {"factors": {}, "dx": X}),
    "what dx is": Row(lambda: back(Scaling("no dx"), X), lambda pair: pair, {"factors": {}, "x": X}),
    "which factors": Row(lambda: back(Scaling("another name"), X), lambda factors: factors, {"params": {"scale": X[0]}}),
    "of what shape": Row(lambda: back(Scaling("a gradient of the rows"), X), lambda factors: factors, {"params": {"scale": X[0]}}),
    # Params by layer.
    "nothing to stack": Row(lambda: fnn.stack(()), lambda tree: tree, {"params": TABLE}),
    "nothing to unstack": Row(lambda: fnn.unstack({}), lambda tree: tree, {"params": TABLE}),
}  # fmt: skip
