"""Functions as they stand in other people's packages: none makes the checker raise, none is called wrong."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import Mesh, PartitionSpec

from tests.check.rules import with_rules
from vjpcheck import Verdict, gradient, pair

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)
W = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)


def double_tanh(x):
    """A Pallas kernel, interpreted."""

    def kernel(x_ref, o_ref):
        o_ref[...] = jnp.tanh(x_ref[...]) * 2.0

    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def kernel(factor):
    def backward(x, dy):
        return (factor * (1 - jnp.tanh(x) ** 2) * dy,)

    return with_rules(double_tanh, lambda x: (double_tanh(x), x), backward)


def plain(x):
    return 2 * jnp.tanh(x)


def spread(x):
    mesh = Mesh(np.array(jax.devices()[:1]), ("d",))
    rows = PartitionSpec("d")
    return jax.shard_map(lambda x: jnp.sin(x) * 2, mesh=mesh, in_specs=rows, out_specs=rows)(x)


def named(x):
    return lax.composite(lambda x: jnp.sin(x) ** 2, "mine.sin2")(x)


def linear(params, x):
    return x @ params["w"] + (0 if params["b"] is None else params["b"])


def scaled(x, by=2.0):
    return x * by


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def power(x, n):
    return x**n


power.defjvp(lambda n, primals, tangents: (primals[0] ** n, n * primals[0] ** (n - 1) * tangents[0]))


def counted(x, n):
    """A loop under vmap, whose condition then has an axis for the batch."""
    loop = jax.vmap(lambda n: lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 2), (0, 1.0))[1])
    return x * loop(n)


def symbolic():
    def forward(x):
        return x.value**2, x.value

    f = jax.custom_vjp(lambda x: x**2)
    f.defvjp(forward, lambda x, dy: (2 * x * dy,), symbolic_zeros=True)
    return f


NONE = {"w": W, "b": None}
RIGHT: dict[str, tuple[Any, ...]] = {
    "a kernel": (kernel(2.0), X),
    "a kernel over devices": (
        with_rules(spread, lambda x: (spread(x), x), lambda x, dy: (2 * jnp.cos(x) * dy,)),
        X,
    ),
    "a composite": (with_rules(named, lambda x: (named(x), x), lambda x, dy: (jnp.sin(2 * x) * dy,)), X),
    "a loop under vmap": (
        with_rules(
            counted,
            lambda x, n: (counted(x, n), n),
            lambda n, dy: (counted(dy, n), np.zeros(3, jax.dtypes.float0)),
        ),
        X,
        np.array([1, 3, 2], np.int32),
    ),
    "a tree with None in it": (
        with_rules(
            linear,
            lambda p, x: (linear(p, x), (p, x)),
            lambda r, dy: ({"w": r[1].T @ dy, "b": None}, dy @ r[0]["w"].T),
        ),
        NONE,
        X,
    ),
    "a function in a tree": (lambda layer, x: layer["act"](x @ layer["w"]), {"w": W, "act": jnp.tanh}, X),
    "an argument with a default": (
        with_rules(scaled, lambda x, by: (x * by, (x, by)), lambda r, dy: (dy * r[1], (dy * r[0]).sum())),
        X,
    ),
    "forward mode with a fixed argument": (power, X, 3),
    "a number for a static argument": (jax.jit(lambda x, n: x.reshape(n, -1) ** 2, static_argnums=1), X, 2),
    "symbolic zeros": (symbolic(), X),
    "a special function": (jax.scipy.special.exp1, abs(X) + 0.5),
}  # fmt: skip


@pytest.mark.parametrize("call", RIGHT.values(), ids=RIGHT)
def test_a_right_rule_of_any_kind_passes(call):
    report = gradient(call[0], *call[1:])
    assert report.verdict is Verdict.PASS, str(report)


def test_a_wrong_kernel_fails_whatever_it_is_compared_with():
    measured = gradient(kernel(3.0), X)
    assert measured.mistake == "factor" and "finite differences" in measured.checks
    assert gradient(kernel(3.0), X, reference=plain).mistake == "factor"
    assert gradient(kernel(2.0), X, reference=plain).verdict is Verdict.PASS


def test_a_function_of_one_dtype_is_measured_at_that_dtype():
    def halves(x):
        if x.dtype != np.float16 and x.dtype != np.float32:
            raise TypeError("no such kernel")
        return np.sin(np.asarray(x))

    def forward(x):
        return halves(x), np.asarray(x)

    right = pair(forward, lambda x, dy: (np.cos(x) * dy,), X)
    assert right.verdict is not Verdict.FAIL
    assert (
        "the function does not run in float64, so the differences are as coarse as its dtype" in right.notes
    )
    assert pair(forward, lambda x, dy: (-np.cos(x) * dy,), X).mistake == "sign"


def test_inputs_outside_of_the_domain_are_skipped_and_said():
    def require(x):
        if not (np.asarray(x) > 0).all():
            raise ValueError("the inputs must be positive")
        return np.asarray(x)

    @jax.custom_jvp
    def positive(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return x + 0 * lax.stop_gradient(jax.pure_callback(require, shape, lax.stop_gradient(x)))

    positive.defjvp(lambda p, t: (positive(p[0]), t[0]))

    def backward(factor):
        return lambda x, dy: (factor * dy / x,)

    right, wrong = (pair(lambda x: (jnp.log(positive(x)), x), backward(k), abs(X) + 0.5) for k in (1, 2))
    assert right.verdict is Verdict.PASS and wrong.mistake == "factor"
    assert any("not tried: inputs zero" in note for note in right.notes), right.notes


def test_only_the_wanted_arguments_are_differentiated():
    def grown(a, x):  # JAX cannot go back through the loop
        return lax.while_loop(lambda y: y < 100, lambda y: 2 * y, a) * jnp.sin(x)

    report = gradient(grown, np.float32(1.5), X, wrt=1)
    assert report.verdict is Verdict.PASS, str(report)
    assert [leaf.name for leaf in report.leaves] == ["x"]


def test_wrt_and_reference_count_all_arguments():
    f = with_rules(
        lambda n, x: x**n,
        lambda n, x: (x**n, x),
        lambda n, x, dy: (n * x ** (n - 1) * dy,),
        nondiff_argnums=(0,),
    )
    assert gradient(f, 3, X, wrt=1, reference=lambda n, x: x**n).verdict is Verdict.PASS
    assert gradient(f, 3, X, wrt=1, reference=lambda n, x: x ** (n + 1)).mistake == "forward differs"


def test_none_stands_for_all_of_an_argument():
    f = with_rules(linear, lambda p, x: (linear(p, x), (p, x)), lambda r, dy: (None, dy @ r[0]["w"].T))
    report = gradient(f, {"w": W, "b": W[0]}, X, level="quick")
    assert [m.name for m in report.mistakes] == ["missing gradient", "missing gradient"]


def test_a_rule_in_no_known_place_is_jax_own(monkeypatch):
    monkeypatch.setattr("vjpcheck.subject.rules", lambda f: (None, None))
    right = with_rules(lambda x: x**2, lambda x: (x**2, x), lambda x, dy: (2 * x * dy,))
    wrong = with_rules(lambda x: x**2, lambda x: (x**2, x), lambda x, dy: (3 * x * dy,))
    assert gradient(right, X, level="quick").verdict is Verdict.PASS
    assert gradient(wrong, X, level="quick").mistake == "factor"


def test_a_rule_that_refuses_a_cotangent_of_zero_is_not_wrong_for_it():
    def refuse(dy):
        if not np.any(dy):
            raise ValueError("breakdown of the solver")
        return np.asarray(dy)

    def backward(x, dy):
        return (2 * x * jax.pure_callback(refuse, jax.ShapeDtypeStruct(dy.shape, dy.dtype), dy),)

    report = gradient(with_rules(lambda x: x**2, lambda x: (x**2, x), backward), X, level="quick")
    assert report.verdict is Verdict.PASS, str(report)
    assert "the rules raise for a cotangent of zero, which is left out" in report.notes
