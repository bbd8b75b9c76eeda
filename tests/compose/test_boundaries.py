"""What a chain keeps: the smallest set of boundaries, at the floor for deep networks, scanned or not."""

from dataclasses import dataclass
from itertools import combinations

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fnn
from fnn import (
    Dense,
    Dropout,
    LayerNorm,
    Parallel,
    Repeat,
    RMSNorm,
    Serial,
    Skip,
    gated,
)
from fnn.compose.boundaries import kept_boundaries
from tests.cases import ACTIVATIONS


@dataclass(frozen=True)
class Stub:
    """What a chain looks at when it chooses."""

    needs: frozenset[str]
    cheap: bool


stubs = st.builds(Stub, st.frozensets(st.sampled_from(["input", "output"])), st.booleans())


def follows(kept: tuple[int, ...], layers: list[Stub]) -> bool:
    reachable, needed = set(kept), set()
    for i, layer in enumerate(layers):
        needed |= {i + (side == "output") for side in layer.needs}
        if i in reachable and layer.cheap:
            reachable.add(i + 1)
    return needed <= reachable


@settings(deadline=None, derandomize=True)
@given(st.lists(stubs, max_size=7))
def test_no_smaller_set_would_do(layers):
    kept = kept_boundaries(tuple(layers))
    assert follows(kept, layers)
    for smaller in combinations(range(len(layers) + 1), max(0, len(kept) - 1)):
        assert not kept or not follows(smaller, layers)


@pytest.mark.parametrize(
    ("net", "kept"),
    [
        (Serial(Dense(7), fnn.gelu, Dense(3)), [(2, 5), (2, 7)]),
        (Serial(Dense(7), fnn.relu, Dense(3)), [(2, 5), (2, 7)]),
        (Serial(Dense(7), fnn.relu, Dropout(0.5), fnn.identity, Dense(3)), [(2, 5), (2, 7)]),
        (Serial(Dense(7), LayerNorm(), fnn.gelu, Dense(3)), [(2, 1), (2, 1), (2, 1), (2, 5), (2, 7)]),
        (Serial(Serial(Dense(7), fnn.gelu), Serial(Dense(3))), [(2, 5), (2, 7)]),
        (Skip(Serial(RMSNorm(), gated(7), Dense(5))), [(2, 1), (2, 5), (2, 14)]),  # D + 2F
        (Serial(Parallel(fnn.relu, fnn.tanh), Dense(3)), [(2, 5), (2, 5)]),
        (Serial(fnn.Embedding(9, 5), LayerNorm(), Dense(3)), [(2,), (2, 1), (2, 1), (2, 1)]),
        (Serial(fnn.Bias(), fnn.identity), []),
    ],
)
def test_what_is_kept(net, kept):
    words = isinstance(net, Serial) and isinstance(net.layers[0], fnn.Embedding)
    x = jax.ShapeDtypeStruct((2,), jnp.int32) if words else jax.ShapeDtypeStruct((2, 5), jnp.float32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    _, residuals = jax.eval_shape(lambda p, x: fnn.forward(net, p, x), params, x)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(residuals)) == kept


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("scan", [True, False], ids=["scanned", "unrolled"])
def test_sixteen_layers_keep_one_boundary_each_and_the_input(activation, scan):
    net = fnn.mlp([8] * 18, activation, scan=scan)
    x = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    assert fnn.summary(net, x).kept_bytes == 17 * 4 * 8 * 4


def test_a_hundred_layers_compile_to_the_program_of_two():
    def program(n):
        net = Repeat(Skip(Serial(LayerNorm(), Dense(8), fnn.gelu)), n)
        x = jax.ShapeDtypeStruct((4, 8), jnp.float32)
        params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
        step = fnn.value_and_grad(net, fnn.squared_error())
        return jax.jit(step).lower(params, x, x).compile().as_text()

    two, hundred = (str(program(n)).count("\n") for n in (2, 100))
    assert abs(hundred - two) < 0.05 * two


def test_a_chain_in_a_chain_is_one_chain():
    a, b, c = Dense(3), fnn.relu, Dense(2)
    assert Serial(a, Serial(b, c)) == Serial(Serial(a, b), c) == Serial(a, b, c)
    assert hash(Serial(a, Serial(b))) == hash(Serial(a, b))
