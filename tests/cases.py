"""The one table of networks that all tests walk: a new layer is one row, and every property holds for it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
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
    LayerNorm,
    Parallel,
    Remat,
    Repeat,
    Reversible,
    RMSNorm,
    Scale,
    Segment,
    Select,
    Serial,
    Skip,
    Sum,
    gated,
)

VOCABULARY = 11

ACTIVATIONS = [
    fnn.identity, fnn.relu, fnn.activations.leaky_relu, fnn.activations.relu_squared, fnn.activations.elu, fnn.activations.selu, fnn.activations.celu, fnn.gelu,
    fnn.gelu_tanh, fnn.silu, fnn.activations.mish, fnn.activations.softplus, fnn.sigmoid, fnn.tanh, fnn.activations.hard_sigmoid,
    fnn.activations.hard_silu, fnn.activations.hard_tanh, fnn.activations.relu6, fnn.activations.log_sigmoid, fnn.activations.softsign, fnn.softmax,
]  # fmt: skip
SINE = fnn.activation(jnp.sin, jnp.cos)  # reads its input, and compiles in no time
CUBE = fnn.activation(lambda x: x**3)  # its derivative is autodiff's


def rows(*shape: int) -> jax.ShapeDtypeStruct:
    """Give the shape of a floating array of a tree."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def indices(*shape: int) -> jax.ShapeDtypeStruct:
    """Give the shape of an array of indices of a tree."""
    return jax.ShapeDtypeStruct(shape, jnp.int32)


@dataclass(frozen=True)
class Case:
    """A network and the shape of its input, integer for an embedding; of a tree, a tree of `rows`, `indices`."""

    name: str
    net: Any
    shape: Any
    integer: bool = False

    def __repr__(self) -> str:
        return self.name

    def input(self, dtype: Any = jnp.float32) -> Any:
        """Give the shape of the input, its floating arrays in `dtype`."""
        axes = isinstance(self.shape, tuple) and all(isinstance(size, int) for size in self.shape)
        x = (indices if self.integer else rows)(*self.shape) if axes else self.shape
        return jax.tree.map(lambda v: v if v.dtype == jnp.int32 else jax.ShapeDtypeStruct(v.shape, dtype), x)


@partial(jax.tree_util.register_dataclass, data_fields=["params", "x", "dy", "key"], meta_fields=["net"])
@dataclass(frozen=True)
class Example:
    """A case with data: params away from their initial symmetry, input, cotangent, key."""

    net: Any
    params: Any
    x: Any
    dy: Any
    key: Any

    def data(self) -> tuple[Any, Any, Any]:
        """Give what is drawn for one example alone: all but the params."""
        return self.x, self.dy, self.key


def example(case: Case, dtype: Any = jnp.float64, seed: int = 0) -> Example:
    """Draw params, input and cotangent of a case in `dtype`; the same seed gives the same data.

    The params have the structure that `init` gives them and values of our own: no symmetry, no zero bias.
    """
    random = np.random.default_rng(seed)

    def draw(like: Any, scale: float = 1.0) -> Any:
        if like.dtype == jnp.int32:
            return jnp.asarray(random.integers(0, VOCABULARY, like.shape), jnp.int32)
        return jnp.asarray(scale * random.standard_normal(like.shape), dtype)

    key = jax.random.key(seed)
    x = jax.tree.map(draw, case.input(dtype))
    params = jax.eval_shape(lambda: fnn.init(case.net, key, case.input()))
    params = jax.tree.map(lambda leaf: draw(leaf, 0.5), params)
    y = jax.eval_shape(lambda params: fnn.forward(case.net, params, x, key)[0], params)
    return Example(case.net, params, x, jax.tree.map(draw, y), key)


def _feed_forward(width: int, hidden: int) -> Skip:
    return Skip(Serial(RMSNorm(), gated(hidden), Dense(width)))


LAYERS = [
    Case("dense", Dense(3), (7, 5)),
    Case("dense-without-bias", Dense(3, bias=False), (7, 5)),
    Case("dense-one-row", Dense(3), (1, 5)),
    Case("dense-one-input-one-output", Dense(1), (2, 1)),
    Case("dense-no-batch", Dense(3), (5,)),
    Case("dense-tokens", Dense(3), (2, 3, 5)),
    Case("dense-deep-batch", Dense(3), (2, 3, 2, 5)),
    Case("dense-square", Dense(5), (5, 5)),
    Case("embedding", Embedding(VOCABULARY, 5), (7,), integer=True),
    Case("embedding-tokens", Embedding(VOCABULARY, 3), (5, 4), integer=True),
    Case("embedding-one", Embedding(VOCABULARY, 3), (), integer=True),
    Case("layer-norm", LayerNorm(), (7, 5)),
    Case("layer-norm-plain", LayerNorm(scale=False, bias=False), (7, 5)),
    Case("layer-norm-no-batch", LayerNorm(eps=1e-2), (5,)),
    Case("layer-norm-one-feature", LayerNorm(), (3, 1)),
    Case("rms-norm", RMSNorm(), (7, 5)),
    Case("rms-norm-tokens", RMSNorm(scale=False), (2, 3, 5)),
    Case("dropout", Dropout(0.4), (7, 5)),
    Case("dropout-zero", Dropout(0.0), (7, 5)),
    Case("scale", Scale(), (7, 5)),
    Case("bias", fnn.Bias(), (2, 3, 5)),
    Case("gated", gated(3), (7, 5)),
    Case("gated-blocks", gated(4, blocks=2), (7, 5)),
    *(Case(f"gate-{f}", fnn.Gate(f), (7, 6)) for f in (fnn.gelu, fnn.sigmoid, fnn.relu, fnn.tanh)),
]

COMPOSITIONS = [
    Case("empty-chain", Serial(), (7, 5)),
    Case("mlp", fnn.mlp([5, 7, 3]), (11, 5)),
    Case("mlp-no-batch", fnn.mlp([5, 7, 3], fnn.gelu), (5,)),
    Case("mlp-tokens", fnn.mlp([5, 7, 3], fnn.tanh), (2, 3, 5)),
    Case("mlp-own-activations", fnn.mlp([5, 7, 7, 3], [SINE, CUBE]), (7, 5)),
    Case("mlp-scanned", fnn.mlp([5, 7, 7, 7, 7, 7, 3], scan=True), (3, 5)),
    Case("mlp-scanned-dropout", fnn.mlp([5, 7, 7, 7, 7, 7, 3], SINE, dropout=0.3, scan=True), (3, 5)),
    Case(
        "named",
        Serial(
            encoder=Serial(Dense(4), SINE), norm=LayerNorm(), drop=Dropout(0.3), head=Serial(out=Dense(3))
        ),
        (7, 5),
    ),
    Case(
        "named-in-chain",
        Serial(Dense(4), Serial(act=fnn.relu, wide=Dense(4)), Serial(act=fnn.relu, wide=Dense(3)), SINE),
        (7, 5),
    ),
    Case("chain-in-chain", Serial(Serial(Dense(4), fnn.gelu), Serial(Dense(3), fnn.relu)), (7, 5)),
    Case("cheap-chain", Serial(Scale(), fnn.Bias(), Dropout(0.3), fnn.relu, SINE), (7, 5)),
    Case("dense-norm-sine", Serial(Dense(6), LayerNorm(), SINE, Dropout(0.2), Dense(3)), (7, 5)),
    Case("embedding-chain", Serial(Embedding(VOCABULARY, 5), LayerNorm(), Dense(3)), (4, 3), integer=True),
    Case("skip-relu", Skip(Serial(Dense(5), fnn.relu)), (7, 5)),
    Case("skip-dropout", Serial(Skip(Dropout(0.5)), Dense(3)), (7, 5)),
    Case("skip-feed-forward", _feed_forward(5, 6), (2, 3, 5)),
    Case("parallel-sum", Parallel(Serial(Dense(3), fnn.relu), Dense(3)), (7, 5)),
    Case(
        "parallel-concatenate",
        Serial(Parallel(Serial(Dense(2), fnn.relu), Dense(3), SINE, join="concatenate"), Dense(2)),
        (7, 5),
    ),
    Case("parallel-embeddings", Parallel(Embedding(VOCABULARY, 3), Embedding(VOCABULARY, 3)), (7,), True),
    Case("repeat-one", Repeat(Dense(5), 1), (7, 5)),
    Case("repeat-input-and-output", Repeat(Serial(Dense(5), fnn.relu), 3), (7, 5)),
    Case("repeat-output-alone", Serial(Repeat(fnn.relu, 3), Dense(2)), (7, 5)),
    Case("repeat-neither", Repeat(fnn.Bias(), 3), (7, 5)),
    Case("repeat-feed-forward", Serial(Repeat(_feed_forward(5, 4), 3), LayerNorm(), Dense(2)), (2, 3, 5)),
    Case("repeat-dropout", Repeat(Serial(Dense(5), Dropout(0.3), SINE), 3), (7, 5)),
    Case("repeat-rebuilt", Serial(Repeat(Serial(Dense(5), LayerNorm(), SINE), 3), Dense(2)), (7, 5)),
    Case("repeat-of-rebuilt", Serial(Repeat(Repeat(Serial(Dense(5), SINE), 2), 3), Dense(2)), (4, 5)),
    Case("shared", Repeat(Serial(Dense(5), fnn.tanh), 3, shared=True), (7, 5)),
    Case("shared-no-batch", Repeat(Serial(Dense(5), fnn.relu), 3, shared=True), (5,)),
    Case("shared-feed-forward", Repeat(_feed_forward(5, 4), 2, shared=True), (3, 2, 5)),
    Case("repeat-of-repeat", Repeat(Repeat(Skip(Serial(Dense(5), fnn.relu)), 2), 3), (4, 5)),
    Case("repeat-of-shared", Repeat(Repeat(Serial(Dense(5), fnn.relu), 2, shared=True), 3), (4, 5)),
    Case("shared-of-repeat", Repeat(Repeat(Serial(Dense(5), fnn.relu), 2), 3, shared=True), (4, 5)),
    Case("shared-of-shared", Repeat(Repeat(Serial(Dense(5), SINE), 2, shared=True), 2, shared=True), (4, 5)),
    Case("shared-of-parallel", Repeat(Skip(Parallel(Dense(5), Scale())), 2, shared=True), (4, 5)),
    Case("deep-nesting", Serial(Dense(6), Skip(Repeat(Parallel(_feed_forward(6, 3), Serial(LayerNorm(), SINE)), 2)), Dense(2)), (2, 3, 5)),
]  # fmt: skip

TABULAR = {"categories": indices(7), "numbers": rows(7, 5)}
TREES = [
    Case(
        "each-concatenate",
        Serial(
            Each({"categories": Embedding(VOCABULARY, 3), "numbers": Serial(Dense(3), SINE)}),
            Concatenate(),
            *(Dense(4), fnn.relu, Dense(2)),
        ),
        TABULAR,
    ),
    Case("each-sum", Serial(Each({"numbers": Dense(4), "rest": fnn.tanh}), Sum()), {"numbers": rows(6, 5), "rest": rows(6, 4)}),
    Case("select", Serial(Select("numbers"), Dense(3)), TABULAR),
    Case("select-pair", Serial(Select((2, 0)), Sum(), fnn.relu), (rows(7, 5), indices(7), rows(7, 5))),
    Case("select-branches", Parallel(Serial(Select("categories"), Embedding(VOCABULARY, 3)), Serial(Select("numbers"), Dense(3))), TABULAR),
    Case("concatenate-tokens", Concatenate(), (rows(3, 2, 4), {"a": rows(3, 2, 1), "b": rows(3, 2, 5)})),
    Case("concatenate-axis", Serial(Concatenate(axis=1), Dense(3)), (rows(3, 2, 4), rows(3, 1, 4))),
    Case("sum", Sum(), {"a": rows(7, 5), "b": rows(7, 5), "c": rows(7, 5)}),
    Case("heads-pair", Serial(Heads((fnn.relu, Serial(Dense(5), fnn.softmax))), Concatenate(), Dense(2)), (7, 5)),
    Case("remat-of-each", Serial(Remat(Each({"a": Serial(Dense(3), SINE, Dense(3)), "b": Dense(4)})), Concatenate()), {"a": rows(5, 3), "b": rows(5, 4)}),
]  # fmt: skip
# Of several outputs, which no loss on one array takes.
SEVERAL = [
    Case("each-pair", Each((Embedding(VOCABULARY, 3), Dense(2))), (indices(7), rows(7, 5))),
    Case("each-noise", Each({"a": Serial(Dense(3), Dropout(0.4)), "b": Dropout(0.4)}), {"a": rows(6, 5), "b": rows(6, 4)}),
    Case("heads", Serial(Dense(5), fnn.relu, Heads({"actor": Dense(3), "critic": Serial(Dense(1), fnn.tanh)})), (7, 4)),
    Case("heads-of-tree", Heads({"both": Concatenate(), "one": Select("b")}), {"a": rows(7, 2), "b": rows(7, 3)}),
    Case("repeat-of-each", Repeat(Each({"a": Serial(Dense(3), SINE), "b": Skip(Dense(4))}), 2), {"a": rows(5, 3), "b": rows(5, 4)}),
    Case("shared-each", Repeat(Each((Dense(3), Dense(3))), 2, shared=True), (rows(5, 3), rows(5, 3))),
    Case("skip-of-each", Skip(Each((Serial(Dense(3), fnn.relu), Dense(4)))), (rows(5, 3), rows(5, 4))),
]  # fmt: skip

CHAIN = (Dense(6), LayerNorm(), SINE, Dropout(0.2), Dense(6), fnn.relu, Dense(6), fnn.tanh, Dense(3))
PLAN = (Segment(1, 4), Segment(4, 8))
REMADE = [
    Case("fused", fnn.Fused((4, 3), SINE, run="plain"), (2, 3, 5)),
    Case("fused-kernel", fnn.Fused((4, 6, 3), fnn.gelu, run="interpreted"), (5, 1)),
    Case("recomputed", Serial(Dense(4), Remat(Serial(Dense(5), fnn.relu)), Dense(3)), (7, 5)),
    Case("recomputed-embedding", Remat(Embedding(VOCABULARY, 3)), (7,), integer=True),
    Case("plan", Serial(*CHAIN, plan=PLAN), (7, 5)),
    Case("plan-named", Serial(body=Serial(*CHAIN[:5]), tail=Serial(*CHAIN[5:]), plan=PLAN), (7, 5)),
    Case("plan-whole", Serial(*CHAIN, plan=(Segment(0, 9),)), (7, 5)),
    Case("plan-in-plan", Serial(*CHAIN, plan=(Segment(0, 6, (Segment(1, 4), Segment(4, 6))),)), (2, 3, 5)),
    Case("repeat-every-2", Repeat(Serial(Dense(5), Dropout(0.3), SINE), 6, every=2), (7, 5)),
    Case("repeat-every-3", Serial(Repeat(_feed_forward(5, 4), 6, every=3), Dense(2)), (2, 3, 5)),
    Case("repeat-every-all", Repeat(Skip(Serial(Dense(5), fnn.relu)), 3, every=3), (7, 5)),
    Case("shared-every-2", Repeat(Serial(Dense(5), fnn.tanh), 4, shared=True, every=2), (7, 5)),
    Case("reversible", Reversible(Serial(Dense(3), fnn.relu), Serial(Dense(3), Dropout(0.3), SINE)), (7, 6)),
    Case("reversible-tokens", Reversible(_feed_forward(3, 4), Dense(3)), (2, 3, 6)),
    Case("repeat-reversible", Repeat(Reversible(_feed_forward(3, 4), Serial(Dense(3), fnn.tanh)), 3), (7, 6)),
    Case("shared-reversible", Repeat(Reversible(Dense(3), Dropout(0.3)), 2, shared=True), (7, 6)),
    Case("every-of-every", Repeat(Repeat(Serial(Dense(5), SINE), 4, every=2), 2, every=2), (4, 5)),
]

ALONE = [Case(f"alone-{f}", f, (7, 5)) for f in [*ACTIVATIONS, SINE, CUBE]]
CHAINS = [Case(f"dense-{f}-dense", Serial(Dense(4), f, Dense(3)), (7, 5)) for f in [*ACTIVATIONS, SINE, CUBE]]
CASES = [*LAYERS, *COMPOSITIONS, *TREES, *SEVERAL, *REMADE, *ALONE, *CHAINS]
