"""What the backward of a layer gets, and what is made again for it: what it asked for, in its time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import (
    Bias,
    Dense,
    Dropout,
    LayerNorm,
    Parallel,
    Remat,
    Repeat,
    Reversible,
    Serial,
    Skip,
)
from fnn.compose import ordering
from fnn.compose.ordering import _held, is_small, with_dependency
from fnn.memory.targets import compiled_for
from fnn.reading import Stacked
from tests.cases import SINE, Case, example
from tests.proof import assert_equal, explicit, occurrences, reference
from vjpcheck.jaxprs import every

RELU, GELU = Serial(Dense(6), fnn.relu), Serial(Dense(6), fnn.gelu, Dense(6))
EVERY_WAY = Serial(  # in every composition, layers that read their input, their output, both or neither
    *(Dense(6), fnn.relu, Bias(), fnn.gelu, LayerNorm()),
    *(Skip(inner) for inner in (RELU, GELU, fnn.relu, Bias())),
    *(Repeat(inner, 2) for inner in (RELU, GELU, fnn.relu, Dense(6), Bias())),
    *(Repeat(inner, 2, shared=True) for inner in (RELU, Dense(6))),
    *(Remat(inner) for inner in (RELU, fnn.relu, Dense(6))),
    *(Reversible(Dense(3), Serial(Dense(3), fnn.relu)), Repeat(Reversible(fnn.relu, Bias()), 2)),
    *(Parallel(fnn.relu, Dense(6), Bias()), Parallel(fnn.relu, Dense(6), Bias(), join="concatenate")),
    *(Parallel(fnn.relu), Parallel(Dense(6), Bias(), join="concatenate")),
    Dense(6),
)
KINDS: tuple[Any, ...] = (*{type(layer) for layer in EVERY_WAY.layers}, Serial)


def backward_alone(net: Any) -> Any:
    """Give the program of a backward pass as JAX writes it, before anything is optimized."""
    drawn = example(Case("net", net, (4, 6)))
    _, residuals = jax.eval_shape(lambda d: fnn.forward(net, d.params, d.x, d.key), drawn)
    return jax.make_jaxpr(lambda r: fnn.backward(net, drawn.params, r, drawn.dy))(residuals).jaxpr


def test_a_layer_gets_the_sides_that_it_names_and_none_beside():
    def strict(right: Any) -> Any:
        def backward(self, params, x, y, *rest):
            given = {side for side, value in (("input", x), ("output", y)) if value is not None}
            assert given == self.needs, f"{self} reads {set(self.needs)}, got {given}"
            return right(self, params, x, y, *rest)

        return backward

    with pytest.MonkeyPatch.context() as patch:
        for kind in KINDS:
            patch.setattr(kind, "backward", strict(kind.backward))
        backward_alone(EVERY_WAY)


SMALL = ordering.SMALL  # what is small for those who use fnn: for the tests, nothing is
MADE_AGAIN = {
    "nothing": (Serial(Dense(6), fnn.relu, Dense(6)), 0, 0),
    "an activation": (GELU, 1, 0),
    "an activation and noise": (Serial(Dense(6), fnn.gelu, Dropout(0.1), Dense(6)), 2, 0),
    "a layer": (Remat(GELU), 2, 2),
    "an activation in a loop": (Repeat(GELU, 3), 0, 0),
    "a layer in a loop": (Repeat(Remat(GELU), 3), 2, 2),
    "a loop": (Remat(Repeat(GELU, 3)), 1, 2),
    "the end of a loop": (Serial(Repeat(Serial(Dense(6), fnn.gelu), 3), Dense(6)), 1, 0),
    "stretches of a loop": (Repeat(GELU, 4, every=2), 1, 2),
    "what runs backwards": (Repeat(Reversible(Dense(3), Dense(3)), 3), 1, 2),
}


@pytest.mark.parametrize("name", MADE_AGAIN)
def test_what_is_made_again_waits_for_the_cotangent_and_is_cheap_unless_asked_for(name):
    """In a loop's own body nothing waits: the compiler sees nothing there that it could be merged with."""
    net, waits, products = MADE_AGAIN[name]
    program = backward_alone(net)
    barriers = [line for line in str(program).splitlines() if "optimization_barrier" in line]
    assert len([line for line in barriers if not line.strip().startswith("_:")]) == waits  # what is read
    assert (
        occurrences("dot_general", program) == 2 * 2 + products
    )  # two layers, and two products to pull one back


def test_what_runs_backwards_finds_its_input_of_tokens_too():
    net = Reversible(Dense(3), SINE)
    drawn = example(Case("net", net, (2, 3, 6)))
    y, extras = net.forward(drawn.params, drawn.x, None)
    read = Stacked(fnn.readers.gradient, (drawn.params,))
    assert_equal(net.backward_and_input(drawn.params, y, extras, drawn.dy, read)[2], drawn.x)


def test_a_norm_that_uses_share_is_run_again_for_what_comes_after_them():
    uses = Repeat(Serial(Dense(6), LayerNorm(), SINE), 3, shared=True)
    drawn = example(Case("net", Serial(Bias(), uses, Dense(2)), (7, 6)))
    assert_equal(explicit(drawn), jax.jit(reference)(drawn))


# A chain of 8, 8, 8 features keeps its input, one boundary and its output: 96 bytes a row in float32.
@pytest.mark.parametrize("rows", [10922, 10923])  # 1 MiB, and more
def test_a_small_chain_waits_for_nothing(rows):
    net = Serial(Dense(8), fnn.gelu, Dense(8), fnn.tanh)
    for dtype, each in (("float32", 1), ("float16", 2)):
        x = jnp.ones((rows * each, 8), dtype)
        params = fnn.init(net, jax.random.key(0), x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ordering, "SMALL", SMALL)
            assert is_small({"first": x[0], "rest": [x[1:], x, x]}) == (rows == 10922)
            step = jax.make_jaxpr(fnn.value_and_grad(net, fnn.squared_error()))(params, x, x).jaxpr
        assert occurrences("platform_index", step) == (rows == 10923)


@pytest.mark.parametrize("first", [0.0, 1.0, np.nan])
def test_what_waits_for_an_array_is_the_same_after_it(first):
    awkward = jnp.array([1e-40, -0.0, np.nan, np.inf, -np.inf, 2.0], jnp.float32)
    x = awkward, jnp.array([0, 255], jnp.uint8), jnp.array(3), jnp.array([True, False]), jax.random.key(1)
    for run in (with_dependency, jax.jit(lambda *args: with_dependency(*args))):
        for array in (jnp.full((2, 3), first), jnp.array([int(first == 1)]), jnp.zeros((0, 3))):
            *waited, key = run(x, array)
            jax.tree.map(np.testing.assert_array_equal, waited, list(x[:-1]))
            assert key == x[-1]


def test_nothing_waits_where_nothing_is_compiled():
    x, on = (jnp.ones(3), jnp.ones(2)), {"a": jnp.ones((0, 2)), "b": jnp.ones(4)}
    assert with_dependency(x, on) is x
    program = jax.make_jaxpr(lambda on: with_dependency(x, on))(on).jaxpr
    assert occurrences("platform_index", program) == 1


@pytest.mark.parametrize(
    ("leaf", "array", "numbers"),
    [((3, 4), (3, 4), (3,)), ((3, 4), (3,), (3,)), ((3,), (3,), ()), ((), (3, 4), ()), ((3, 4), (5, 4), ())],
)
def test_a_row_waits_for_one_number_and_never_more_numbers_than_rows(leaf, array, numbers):
    program = jax.make_jaxpr(_held)(jnp.ones(leaf), jnp.ones(array)).jaxpr
    asked = [equation.invars[0].aval.shape for equation in every(program) if equation.primitive.name == "eq"]
    assert asked == [numbers]


def test_what_waits_for_many_cotangents_is_one_array_still():
    """So that factors of many cotangents at once hold their other side once."""
    x, many = jnp.arange(3.0), jnp.ones((2, 4, 3))
    waiting = jax.vmap(jax.vmap(with_dependency, (None, 0), None), (None, 0), None)
    np.testing.assert_array_equal(waiting(x, many), x)


def test_a_derivative_goes_through_what_waits():
    def cubed(x: Any, array: Any) -> Any:
        return jnp.sum(with_dependency(x, array) ** 3)

    x, array = jnp.array([1.0, -2.0]), jnp.array([0.5])
    np.testing.assert_array_equal(jax.hessian(cubed)(x, array), np.diag([6.0, -12.0]))
    assert jax.jvp(cubed, (x, array), (x, array))[1] == 3 * jnp.sum(x**3)
    assert jax.grad(cubed, 1)(x, array) == 0


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 0), ("cuda", 0), ("tpu", 1)])
def test_a_barrier_is_for_a_tpu_alone(platform, barriers):
    traced = jax.jit(lambda *args: with_dependency(*args)).trace(jnp.zeros((3, 4)), jnp.zeros(2))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("optimization_barrier") == barriers


KEPT = {  # and how many boundaries
    "gelu": (Serial(*[Dense(32), fnn.gelu] * 8), 8),
    "silu": (Serial(*[Dense(32), fnn.silu] * 8), 8),
    "plan": (Serial(*[Dense(32), fnn.relu] * 8, plan=tuple(fnn.Segment(i, i + 4) for i in (2, 6, 10))), 5),
}


@pytest.mark.parametrize("name", KEPT)
def test_no_compiler_merges_what_is_made_again_with_what_was_made(name):
    """An unrolled network's temporaries are its kept boundaries and four of a layer, on a CPU too."""
    net, kept = KEPT[name]
    x = jax.ShapeDtypeStruct((4096, 32), jnp.float32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))

    def gradients(params: Any, x: Any, dy: Any) -> Any:
        return fnn.backward(net, params, fnn.forward(net, params, x)[1], dy)[0]

    assert compiled_for("here", gradients, params, x, x).temporaries <= (kept + 4) * 4 * 4096 * 32
