"""The factors of functions, use by use, against a gradient for each example."""

import jax
import jax.numpy as jnp
import pytest

from fnn.factors import is_factor
from fnn.function import factors
from fnn.function.forms import Viewed
from fnn.reader import gradient
from fnn.readers.examples import example_gradient
from tests.function.cases import CASES
from tests.function.functions import X, draw, ruled

pytestmark = pytest.mark.filterwarnings("ignore:.*no derivative goes to")


def name_of(factor):
    inner = f":{type(factor.factor).__name__}" if isinstance(factor, Viewed) else ""
    return type(factor).__name__ + inner


def one_by_one(f, params, args):
    def loss(params, *args):
        return f(params, *(a[None] for a in args))[0]

    return jax.vmap(jax.grad(loss), (None, *[0] * len(args)))(params, *args)


def close(ours, theirs):
    def check(a, b):
        assert a.shape == b.shape
        a, b = (v.astype(jnp.float64) for v in (a, b))
        scale = max(1.0, float(jnp.abs(b).max(initial=0)))
        assert jnp.abs(a - b).max(initial=0) <= 1e-10 * scale

    jax.tree.map(check, ours, theirs)


def each_of(factor, param):
    """Give the examples' gradients, those of stacked params with the examples first."""
    stacks = param.ndim - factor.rank
    return jnp.moveaxis(example_gradient(factor, param), stacks, 0)


def readings(f, params, *args):
    """Give the factors, their examples and their gradients, by one compiled program."""

    @jax.jit
    def run(params, *args):
        losses, found = factors(f)(params, *args)
        each = jax.tree.map(each_of, found, params, is_leaf=is_factor)
        return losses, found, each, jax.tree.map(gradient, found, params, is_leaf=is_factor)

    return run(params, *args)


@pytest.mark.parametrize("name", CASES)
def test_each_use_has_the_gradients_of_the_examples(name):
    case = CASES[name]
    losses, found, each, total = readings(case.f, case.params, *case.args)
    close(losses, jax.jit(case.f)(case.params, *case.args))
    assert jax.tree.map(name_of, found, is_leaf=is_factor) == case.forms
    expected = jax.jit(one_by_one, static_argnums=0)(case.f, case.params, case.args)
    close(each, expected)
    close(total, jax.tree.map(lambda g: g.sum(0), expected))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("name", ["made", "merged behind", "scanned", "convolution", "mapped"])
def test_one_example_and_none(name, n):
    case = CASES[name]
    _, _, each, _ = readings(case.f, case.params, *(a[:n] for a in case.args))
    expected = jax.jit(one_by_one, static_argnums=0)(case.f, case.params, case.args)
    close(each, jax.tree.map(lambda g: g[:n], expected))


def test_the_same_eagerly():
    case = CASES["scanned"]
    _, found = factors(case.f)(case.params, *case.args)
    each = jax.tree.map(each_of, found, case.params, is_leaf=is_factor)
    close(each, one_by_one(case.f, case.params, case.args))


def test_the_users_own_rule_stays_in_force():
    w = draw(0, 5, 4)
    _, found = factors(ruled)({"w": w}, X)
    expected = jax.grad(lambda p: ruled(p, X).sum())({"w": w})
    close({"w": gradient(found["w"], w)}, expected)
    close({"w": each_of(found["w"], w).sum(0)}, expected)
