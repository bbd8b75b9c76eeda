"""Plans: as good as the best of all, exact in bytes and flops, and without effect on any number."""

# pyright: reportArgumentType=false

from collections.abc import Iterator
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import (
    Dense,
    Dropout,
    LayerNorm,
    Parallel,
    Repeat,
    Reversible,
    RMSNorm,
    Segment,
    Serial,
    Skip,
    gated,
)
from fnn.factors import is_factor
from tests.cases import CASES, SINE, Case, example
from tests.proof import assert_equal

EVERY_KIND = [
    Case("chain", fnn.mlp([8] * 6, fnn.gelu), (4, 8)),
    Case("unlike", Serial(Dense(32), fnn.gelu, Dense(4), fnn.relu, LayerNorm(), Dense(16), fnn.tanh, Dense(2)), (4, 8)),
    Case("noise", Serial(Dense(8), Dropout(0.3), SINE, Dense(8), Dropout(0.3), fnn.tanh, Dense(2)), (4, 8)),
    Case("blocks", Repeat(Skip(Serial(RMSNorm(), gated(8), Dense(8))), 6), (2, 3, 8)),
    Case("shared", Serial(Dense(8), Repeat(Serial(Dense(8), Dropout(0.2), fnn.tanh), 6, shared=True)), (4, 8)),
    Case("branches", Serial(Parallel(fnn.mlp([8] * 4), fnn.mlp([8, 8])), Dense(3)), (4, 8)),
    Case("reversible", Repeat(Reversible(fnn.mlp([4, 8, 4]), Dense(4)), 3), (4, 8)),
]  # fmt: skip


def shape_of(case):
    return case.input()


def segmentations(start: int, stop: int, proper: bool) -> Iterator[tuple[Segment, ...]]:
    """Give every plan of a stretch: each layer by itself or in a segment, with every plan of its own."""
    if start == stop:
        yield ()
        return
    for rest in segmentations(start + 1, stop, False):
        yield rest
    for end in range(start + 1, stop + (not proper)):
        for inner in segmentations(0, end - start, True):
            for rest in segmentations(end, stop, False):
                yield (Segment(start, end, inner), *rest)


def flops_again(layers: tuple, plan: tuple[Segment, ...], costs: list[int]) -> int:
    """Count what a plan runs again: all of a segment up to the last boundary in it that a backward reads."""
    total = 0
    for start, stop, inner in plan:
        last = max(
            (i + (side == "output") for i in range(start, stop) for side in layers[i].needs), default=0
        )
        total += sum(costs[i] for i in range(start, stop) if i < last)
        total += flops_again(layers[start:stop], inner, costs[start:stop])
    return total


@pytest.mark.thorough
@pytest.mark.parametrize("n", [3, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", EVERY_KIND[:2], ids=repr)
def test_no_plan_of_all_is_better(case, n):
    layers, x = case.net.layers[:n], shape_of(case)
    rows = fnn.summary(Serial(*layers), x).rows
    costs = [row.flops for row in rows]
    reached = {}
    for plan in segmentations(0, len(layers), False):
        peak = fnn.memory.report(Serial(*layers, plan=plan), None, x).peak
        flops = flops_again(layers, plan, costs)
        reached[peak] = min(flops, reached.get(peak, flops))
    best, least = [], np.inf
    for peak in sorted(reached):
        if reached[peak] < least:
            least = reached[peak]
            best.append((peak, least))
    assert [(plan.peak, plan.flops) for plan in fnn.memory.plans(Serial(*layers), x)] == best


@pytest.mark.parametrize("case", CASES[::5] + EVERY_KIND, ids=repr)
def test_a_plan_tells_the_truth_about_its_bytes(case):
    """Two counts that know nothing of each other: the recursion over plans, and the walk over a network."""
    for plan in fnn.memory.plans(case.net, shape_of(case)):
        counted = fnn.memory.report(plan.net, None, shape_of(case))
        assert (plan.kept, plan.peak) == (counted.residuals, counted.peak)
        assert counted.residuals == counted.summary.kept_bytes


@pytest.mark.thorough
@pytest.mark.parametrize("case", EVERY_KIND[:-1], ids=repr)  # what runs backwards has one plan
def test_gradients_are_the_same_up_to_rounding(case):
    """Not bit for bit: another program may add up the same numbers in another order."""
    drawn = example(case)

    def run(net):
        y, residuals = fnn.forward(net, drawn.params, drawn.x, drawn.key)
        grads, dx = fnn.backward(net, drawn.params, residuals, drawn.dy)
        factors, _ = fnn.backward(net, drawn.params, residuals, drawn.dy, read=fnn.readers.as_factors)
        norms = jax.tree.map(fnn.readers.squared_norm, factors, drawn.params, is_leaf=is_factor)
        return y, grads, dx, norms

    plain = run(case.net)
    plans = fnn.memory.plans(case.net, drawn.x)
    assert len(plans) > 1
    for plan in (plans[0], plans[len(plans) // 2], plans[-1]):
        assert_equal(run(plan.net), plain)


def test_the_least_recomputation_within_the_budget():
    net, x = fnn.mlp([8] * 6, fnn.gelu), jax.ShapeDtypeStruct((4, 8), jnp.float32)
    plans = fnn.memory.plans(net, x)
    assert plans[-1].flops == 0 and plans[-1].peak <= fnn.memory.report(net, None, x).peak
    for plan in plans:
        assert fnn.memory.fit(net, x, plan.peak) == plan.net
    assert plans[-1].net is net
    for few, more in zip(plans[:-1], plans[1:], strict=True):
        assert few.peak < more.peak and few.flops > more.flops - (more.net is net)
        assert fnn.memory.fit(net, x, more.peak - 1) == few.net


def test_a_budget_that_cannot_be_met_says_what_the_least_is():
    net, x = fnn.mlp([8] * 5), jax.ShapeDtypeStruct((4, 8), jnp.float32)
    least = fnn.memory.plans(net, x)[0].peak
    with pytest.raises(fnn.InputError, match=f"at least {least} bytes, got 10: try `fnn.memory.fit.*{least}"):
        fnn.memory.fit(net, x, 10)
    with pytest.raises(fnn.InputError, match="budget to be an integer >= 1"):
        fnn.memory.fit(net, x, -1)


@pytest.mark.thorough
def test_never_more_recomputation_than_segments_of_equal_length():
    net, x = fnn.mlp([8] * 10, fnn.gelu), jax.ShapeDtypeStruct((4, 8), jnp.float32)
    plans, layers = fnn.memory.plans(net, x), net.layers
    costs = [row.flops for row in fnn.summary(net, x).rows]
    for length in range(2, len(layers), 2):
        ends = [*range(0, len(layers), length), len(layers)]
        plan = tuple(Segment(*pair) for pair in pairwise(ends))
        peak = fnn.memory.report(net.with_plan(plan), None, x).peak
        assert min(p.flops for p in plans if p.peak <= peak) <= flops_again(layers, plan, costs)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: Serial(Dense(3), plan=(Segment(0, 2),)), "a plan of segments of the 1 layers"),
        (lambda: Serial(Dense(3), Dense(3), plan=((0, 2), (1, 2))), "one behind the other"),
        (lambda: Repeat(Dense(3), 4, every=5), "every to divide n = 4"),
        (lambda: Repeat(Dense(3), 4, shared=True, every=3), "every to divide n = 4"),
        (lambda: fnn.Remat([Dense(3)]), "layers, which derive"),
        (lambda: Reversible(Dense(3), 3), "layers, which derive"),
        (lambda: fnn.init(Reversible(Dense(3), Dense(3)), jax.random.key(0), jnp.ones((2, 5), jnp.float32)), r"\(\.\.\., 2k\)"),
        (lambda: fnn.init(Reversible(Dense(3), Dense(2)), jax.random.key(0), jnp.ones((2, 4), jnp.float32)), "f's output like its input"),
    ],
)  # fmt: skip
def test_a_wrong_call(make, parts):
    with pytest.raises(fnn.InputError, match=parts):
        make()


def test_an_error_names_the_place_in_the_whole_network():
    net = Serial(Dense(8), fnn.relu, Dense(8), Dense(3), plan=((0, 1), (1, 4, ((0, 2),))))
    x = jnp.ones((2, 5), jnp.float32)
    params = fnn.init(net, jax.random.key(0), x)
    wrong = (
        *params[:2],
        {"kernel": jnp.ones((8, 4), jnp.float32), "bias": jnp.ones(8, jnp.float32)},
        params[3],
    )
    with pytest.raises(fnn.InputError, match=r"net\.layers\[2\]: Dense\(8\)"):
        fnn.forward(net, wrong, x)
    deep = Repeat(Serial(Dense(5), fnn.relu), 4, every=2)
    stacked = fnn.init(deep, jax.random.key(0), x)
    wrong = ({"kernel": stacked[0]["kernel"][..., :4], "bias": stacked[0]["bias"]}, ())
    with pytest.raises(fnn.InputError, match=r"net\.layer\.layers\[0\]: Dense\(5\)"):
        fnn.forward(deep, wrong, x)
