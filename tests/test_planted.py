"""The proof is proven: mistakes planted in our rules must turn it red."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import (
    Dense,
    Embedding,
    LayerNorm,
    Parallel,
    Repeat,
    RMSNorm,
    Scale,
    Serial,
    Skip,
)
from fnn.compose import loop, serial
from fnn.layers import dense, dropout, embedding, gated, norm
from tests.cases import VOCABULARY, Case, example
from tests.proof import assert_central_differences, assert_equal, explicit, reference


@dataclass(frozen=True)
class Mistake:
    """Put `value` in the place of `owner.name`; the proof of `net` must fail."""

    name: str
    owner: Any
    attribute: str
    wrong: Callable[[Any], Any]  # the right function -> the wrong one
    net: Any
    shape: tuple[int, ...] = (5, 5)
    integer: bool = False

    def __repr__(self) -> str:
        return self.name


def around_backward(change: Callable[..., tuple[Any, Any]]) -> Callable[[Any], Any]:
    """Change what a backward gets or gives: `change(right, self, params, x, y, extras, dy)`."""
    return lambda right: lambda self, *args: change(right, self, *args)


def with_factors(change: Callable[[dict], dict]) -> Callable[[Any], Any]:
    """Change the factors."""

    def wrong(right, self, params, x, y, extras, dy):
        factors, dx = right(self, params, x, y, extras, dy)
        return change(factors), dx

    return around_backward(wrong)


def outputs_kept(right: Any) -> Any:
    """Keep of every use of a loop its output, where its backward reads the input."""

    def wrong(self, params, x, key):
        y, (kept, extras) = right(self, params, x, key)
        return y, (jnp.concatenate([kept[1:], y[None]]), extras)

    return wrong


def with_dx(change: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """Change dx: `change(dx, dy, params)`."""

    def wrong(right, self, params, x, y, extras, dy, *read):
        factors, dx = right(self, params, x, y, extras, dy, *read)
        return factors, change(dx, dy, params)

    return around_backward(wrong)


def with_dy(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change the cotangent that comes in."""

    def wrong(right, self, params, x, y, extras, dy, *read):
        return right(self, params, x, y, extras, change(dy), *read)

    return around_backward(wrong)


def row_mean(v: Any) -> Any:
    return v.mean(-1, keepdims=True)


def last_of_its_kind(index: Any) -> Any:
    """Tell of every place whether no later one has the same index: what a scatter that sets leaves."""
    place = jnp.arange(index.size)
    later = (index[None] == index[:, None]) & (place[None] > place[:, None])
    return jnp.where(later.any(1), 0.0, 1.0)


def of_activation(row: Any, **wrong: Any) -> Any:
    return Serial(Dense(4), replace(row, **wrong), Dense(3))


def first_use_alone(factors: Any, param: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], factors)


SHARED = Repeat(Serial(Dense(5), fnn.tanh), 3, shared=True)
BLOCKS = Repeat(Serial(Dense(5), fnn.relu), 3)
MISTAKES = [
    Mistake("transpose missing", Dense, "backward", with_dx(lambda dx, dy, p: dy @ p["kernel"]), Dense(5)),
    Mistake("sign of dx", Dense, "backward", with_dx(lambda dx, dy, p: -dx), Dense(3)),
    Mistake("factor 2", Dense, "backward", with_dx(lambda dx, dy, p: 2 * dx), Dense(3)),
    Mistake("mean for sum", Dense, "backward", with_factors(lambda f: f | {"kernel": fnn.factors.Outer(f["kernel"].x / 5, f["kernel"].dz)}), Dense(3)),
    Mistake("bias of the first row", Dense, "backward", with_factors(lambda f: f | {"bias": fnn.factors.Total(f["bias"].dz[:1])}), Dense(3)),
    Mistake("rows shifted", Dense, "backward", with_factors(lambda f: f | {"kernel": fnn.factors.Outer(jnp.roll(f["kernel"].x, 1, 0), f["kernel"].dz)}), Dense(3)),
    Mistake("cotangent ignored", Dense, "backward", with_dy(jnp.ones_like), Dense(3)),
    Mistake("cotangent clipped", Dense, "backward", with_dy(lambda dy: jnp.clip(dy, -1, 1)), Dense(3)),
    Mistake("input and cotangent swapped", Dense, "backward", with_factors(lambda f: f | {"kernel": fnn.factors.Outer(f["kernel"].dz, f["kernel"].x)}), Dense(5)),
    Mistake("relu' is 1", fnn, "relu", lambda right: right, of_activation(fnn.relu, df=jnp.ones_like)),
    Mistake("relu' of the other side", fnn, "relu", lambda right: right, of_activation(fnn.relu, df=lambda y: (y <= 0).astype(y.dtype))),
    Mistake("tanh' at the output", fnn, "tanh", lambda right: right, of_activation(fnn.tanh, of="output")),
    Mistake("gelu' of the tanh form", fnn, "gelu", lambda right: right, of_activation(fnn.gelu, df=fnn.gelu_tanh.df)),
    Mistake("sigmoid' is sigmoid", fnn, "sigmoid", lambda right: right, of_activation(fnn.sigmoid, df=fnn.sigmoid.f)),
    Mistake("scale's factor without x", Scale, "backward", with_factors(lambda f: {"scale": fnn.factors.Total(f["scale"].dz)}), Scale()),
    Mistake("mean of the variance dropped", LayerNorm, "backward", with_dx(lambda dx, dy, p: dx + row_mean(dy)), LayerNorm()),
    Mistake("statistics as constants", RMSNorm, "backward", around_backward(lambda right, self, p, x, y, rstd, dy: (right(self, p, x, y, rstd, dy)[0], dy * p["scale"][None] * rstd)), RMSNorm()),
    Mistake("scale left out of dx", LayerNorm, "backward", with_dx(lambda dx, dy, p: dx / p["scale"][None]), LayerNorm()),
    Mistake("scatter set for add", embedding, "Rows", lambda right: lambda index, dz: right(index, dz * last_of_its_kind(index)[:, None]), Embedding(VOCABULARY, 3), (9,), True),
    Mistake("dropout without rescaling", dropout.Dropout, "backward", with_dx(lambda dx, dy, p: dx * 0.6), fnn.Dropout(0.4)),
    Mistake("mask redrawn", dropout.Dropout, "backward", around_backward(lambda right, self, p, x, y, key, dy: right(self, p, x, y, jax.random.fold_in(key, 1), dy)), fnn.Dropout(0.4)),
    Mistake("gate and value swapped", gated.Gate, "backward", with_dx(lambda dx, dy, p: jnp.roll(dx, dx.shape[-1] // 2, -1)), fnn.Gate(), (5, 6)),
    Mistake("skip dropped", Skip, "backward", with_dx(lambda dx, dy, p: dx - dy), Skip(Serial(Dense(5), fnn.relu))),
    Mistake("branch dropped", Parallel, "backward", with_dx(lambda dx, dy, p: dx - dy @ p[0]["kernel"].T), Parallel(Dense(5), Dense(5))),
    Mistake("slices swapped", Parallel, "backward", with_dy(lambda dy: jnp.roll(dy, 2, -1)), Parallel(Dense(2), Dense(2), join="concatenate")),
    Mistake("boundary of another layer", serial.Serial, "backward", around_backward(lambda right, self, p, x, y, extras, dy, read: right(self, p, x, y, ({i: v + 1 for i, v in extras[0].items()}, extras[1]), dy, read)), Serial(Dense(4), fnn.gelu, Dense(3))),
    Mistake("weights of the next layer", serial.Serial, "backward", around_backward(lambda right, self, p, x, y, e, dy, read: right(self, (p[1], p[0]), x, y, e, dy, read)), Serial(Dense(5), Dense(5))),
    Mistake("weights updated too early", Dense, "backward", around_backward(lambda right, self, p, x, y, e, dy: right(self, {"kernel": p["kernel"] - 0.01 * x.T @ dy, "bias": p["bias"]}, x, y, e, dy)), Dense(5)),
    Mistake("scan in the wrong order", loop, "lax", lambda right: Backwards(right), BLOCKS),
    Mistake("one use of shared params", loop, "join", lambda right: first_use_alone, SHARED),
    Mistake("output for input in a scan", loop.Loop, "forward", outputs_kept, BLOCKS),
    Mistake("gradient rounded", dense, "Outer", lambda right: lambda x, dz, *more: right(x.astype(jnp.float32), dz.astype(jnp.float32), *more), Dense(3)),
    Mistake("row of the norm lost", norm, "Scaled", lambda right: lambda x, dz: right(x.at[0].set(0), dz), LayerNorm()),
]  # fmt: skip


class Backwards:
    """`lax` with a scan that never runs in reverse."""

    def __init__(self, lax: Any):
        self.lax = lax

    def scan(self, *args: Any, reverse: bool = False) -> Any:
        return self.lax.scan(*args)


@pytest.mark.parametrize("mistake", MISTAKES, ids=repr)
def test_a_planted_mistake_turns_the_proof_red(mistake, monkeypatch):
    drawn = example(Case(mistake.name, mistake.net, mistake.shape, mistake.integer))
    wanted = jax.jit(reference)(drawn)
    monkeypatch.setattr(
        mistake.owner, mistake.attribute, mistake.wrong(getattr(mistake.owner, mistake.attribute))
    )
    got = jax.jit(lambda drawn: explicit(drawn))(drawn)  # a new function: what was traced before is right
    with pytest.raises(AssertionError):
        assert_equal(got, wanted)
    if mistake.name != "gradient rounded":  # differences see 1e-7, not the last digits
        with pytest.raises(AssertionError):
            assert_central_differences(drawn, *got)


@pytest.mark.parametrize("mistake", MISTAKES, ids=repr)
def test_without_the_mistake_it_is_green(mistake):
    net = mistake.net
    if mistake.owner is fnn:  # the mistake is in the network itself
        net = Serial(Dense(4), getattr(fnn, mistake.attribute), Dense(3))
    drawn = example(Case(mistake.name, net, mistake.shape, mistake.integer))
    assert_equal(*jax.jit(lambda drawn: (explicit(drawn), reference(drawn)))(drawn))


def test_a_wrong_dtype_or_tree_turns_the_proof_red():
    right = {"kernel": np.ones((2, 3)), "bias": np.ones(3)}
    for wrong in (
        right | {"kernel": np.ones((2, 3), np.float32)},
        right | {"kernel": np.ones((3, 2))},
        {"kernel": right["kernel"]},
        (right["kernel"], right["bias"]),
        right | {"bias": np.full(3, np.nan)},
    ):
        with pytest.raises(AssertionError):
            assert_equal(wrong, right)
