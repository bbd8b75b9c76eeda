"""The search for a name: it meets any operation without stopping, and names what stands in for another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from tests.check.rules import with_rules
from vjpcheck import Verdict, diagnose, gradient, pair
from vjpcheck.attempt import Attempts
from vjpcheck.diagnose import cotangents

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)


def bent(f):
    """A rule for f that no single mistake explains, so that every part of the search is asked."""

    def backward(args, dy):
        return tuple(
            0.7 * c + 0.01 * jnp.sin(5 * c) * a for c, a in zip(jax.vjp(f, *args)[1](dy), args, strict=True)
        )

    return with_rules(f, lambda *args: (f(*args), args), backward)


FUNCTIONS = {
    "clamp with numbers for bounds": lambda x: lax.clamp(0.0, x, 1.0) * x,
    "a relu that looks at bits": lambda x: fnn.relu(x) ** 2,
    "rfft": lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2,
    "fft": lambda x: jnp.real(jnp.fft.fft(x + 0j)) ** 2,
    "complex exponentials": lambda x: jnp.real(jnp.exp(1j * x) * (x + 1j)),
    "a reduction by a function": lambda x: lax.reduce(x * x, 1.0, lambda a, b: a * b + 0.0, (1,)),
    "a reduction of pairs": lambda x: (
        lax.reduce((x * x, x), (0.0, 0.0), lambda a, b: (a[0] + b[0], a[1] + b[1]), (1,))[0] * x[:, 0]
    ),
}


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_search_goes_through_any_operation(f, monkeypatch):
    monkeypatch.setattr(cotangents, "nonlinear", lambda e, wrong: iter(()))
    report = gradient(bent(f), X, level="quick")
    assert report.verdict is Verdict.FAIL
    assert not any("search" in note or "paths" in note for note in report.notes), report.notes


def flipped(x):
    return jnp.sum(jnp.tanh(x) ** 2, 1)


def test_a_part_of_the_search_that_raises_leaves_what_others_found(monkeypatch):
    def broken(*_):
        raise RuntimeError("no dials today")

    def twice(x, dy):
        return (4 * jnp.tanh(x) * (1 - jnp.tanh(x) ** 2) * dy[:, None],)

    monkeypatch.setattr(cotangents, "hypotheses", broken)
    report = pair(lambda x: (flipped(x), x), twice, X, level="quick")
    assert report.mistake == "factor"
    assert any("forms of the cotangent (RuntimeError: no dials today)" in note for note in report.notes)

    monkeypatch.setattr(diagnose, "Panel", broken)
    report = pair(lambda x: (flipped(x), x), lambda x, dy: (x * dy[:, None],), X, level="quick")
    assert report.verdict is Verdict.FAIL and "no dials today" in " ".join(report.notes)
    assert any("is worst at" in text for text in report.details)


def test_a_mistake_that_cannot_be_tried_is_noted_and_the_others_are_tried(monkeypatch):
    from vjpcheck.diagnose import regions

    def impossible(x):
        raise TypeError("never with these numbers")

    monkeypatch.setitem(regions.ACTIVATIONS, "nothing", impossible)
    report = pair(lambda x: (jnp.tanh(x) ** 2, x), lambda x, dy: (dy * jnp.exp(x),), X, level="quick")
    assert report.mistake == "another formula"
    assert any("the derivative is that of nothing" in note for note in report.notes)


def test_attempts_keep_what_came_before_an_error():
    def some():
        yield 1
        raise ValueError("then no more\nand why")

    attempts = Attempts()
    assert attempts.gather("numbers", some) == [1]
    assert attempts.run("one", lambda: 1) == 1 and attempts.run("none", lambda: 1 // 0, 7) == 7
    assert attempts.notes()[0] == "not tried: numbers (ValueError: then no more)"


def net(w1, w2, x):
    """Two layers and a mean, with everything that lies on the way."""
    z1 = x @ w1
    a1 = jnp.tanh(z1)
    z2 = a1 @ w2
    a2 = jax.nn.sigmoid(z2)
    return jnp.sum((a2 - x) ** 2) / 5, (w1, w2, x, z1, a1, z2, a2)


def back(mistake):
    def backward(saved, dy):
        w1, w2, x, z1, a1, z2, a2 = saved
        da2 = 2 * (a2 - x) / 5
        dz2 = jax.nn.sigmoid(5 * da2) / 5 if mistake == "function" else da2 * a2 * (1 - a2)
        dw2 = (da2 if mistake == "value" else a1).T @ dz2
        da1 = da2.T @ dz2 if mistake == "rule" else dz2 @ w2.T
        dz1 = da1 * (1 - a1**2)
        return dy * x.T @ dz1, dy * dw2, None

    return backward


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        ("function", "function for its derivative"),
        ("value", "cotangent for a value"),
        ("rule", "rule of the other operand"),
    ],
)
def test_a_cotangent_in_the_place_of_a_value_is_named(mistake, name):
    keys = jax.random.split(jax.random.key(0), 3)
    args = [jax.random.normal(k, (4, 4)) for k in keys]
    report = pair(net, back(mistake), *args, wrt=(0, 1), level="quick")
    assert report.mistake == name, str(report)
    assert report.mistakes[0].error < 1e-5 and report.mistakes[0].fresh < 1e-5


def test_what_is_compared_is_said_and_nothing_else():
    structural = pair(lambda x: (x**2, x), lambda x, dy: (None,), X, level="quick")
    assert structural.mistake == "missing gradient" and "reproduces" not in str(structural)
    numeric = pair(lambda x: (x**2, x), lambda x, dy: (-2 * x * dy,), X, level="quick")
    assert "reproduces the gradient to" in str(numeric) and "on fresh inputs to" in str(numeric)


def test_the_other_gradients_are_judged_beside_one_of_a_wrong_shape():
    def backward(saved, dy):
        x, w = saved
        return dy @ w.T * 2, (x.T @ dy)[:1]

    report = pair(lambda x, w: (x @ w, (x, w)), backward, X, np.ones((3, 2), np.float32), level="quick")
    assert report.mistake == "wrong shape"
    assert [(leaf.name, leaf.verdict) for leaf in report.leaves] == [("x", "FAIL"), ("w", "FAIL")]
    assert report.leaves[0].ratio == pytest.approx(2, rel=1e-5)
    assert "finite differences" not in report.checks
