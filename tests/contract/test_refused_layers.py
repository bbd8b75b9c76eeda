"""A leaf that breaks the contract is refused by a sentence, from every door that meets the fault."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
import fnn.check
from tests.contract.broken import Scaling

KEY, X = jax.random.key(0), jnp.ones((4, 3), jnp.float32)
PARAMS = {"scale": jnp.ones(3, jnp.float32)}
LOSS = fnn.squared_error()
PAIR = "a forward that returns (y, extras)"
LIKE = "a backward whose dx is like x, float32[4,3]"
FACTORS = "factors in the structure of its params, {scale: float32[3]}"
SHAPE = "a factor of the param float32[3], or a gradient like it"
FORWARD = {
    "y alone": (PAIR, "float32[4,3]", "return y, ()"),
    "nothing": (PAIR, "None", "return y, ()"),
    "three": (PAIR, "a tuple of 3", "return y, ()"),
    "a list": (PAIR, "[float32[4,3], ()]", "return y, ()"),
    "text as extras": ("a forward whose extras is a pytree of arrays", "'mean'", "return y, ()"),
    "a number as extras": ("a forward whose extras is a pytree of arrays", "2.0", "return y, ()"),
    "a function as extras": ("a forward whose extras is a pytree of arrays", "len", "return y, ()"),
    "a number as y": ("a forward whose y is a pytree of arrays", "1.0", "return jnp.asarray(y), extras"),
}
ZEROS = "jax.tree.map(jnp.zeros_like, params)"
BACKWARD = {
    "dx alone": ("a backward that returns (factors, dx)", "float32[4,3]", "return factors, dx"),
    "three back": ("a backward that returns (factors, dx)", "a tuple of 3", "return factors, dx"),
    "no dx": (LIKE, "None", "jax.tree.map(jnp.zeros_like, x)"),
    "dx of one row": (LIKE, "float32[3]", "jax.tree.map(jnp.zeros_like, x)"),
    "dx in another dtype": (LIKE, "bfloat16[4,3]", "jax.tree.map(jnp.zeros_like, x)"),
    "dx in a tuple": (LIKE, "(float32[4,3],)", "jax.tree.map(jnp.zeros_like, x)"),
    "another name": (FACTORS, "{'kernel': 'Scaled'}", ZEROS),
    "no factors": (FACTORS, "()", ZEROS),
    "a factor of another shape": (SHAPE, "Total of (2,)", ZEROS),
    "a gradient of the rows": (SHAPE, "float32[4,3]", ZEROS),
}
NEEDS = ('needs, a frozenset of "input" and "output"', "needs = frozenset")
DECLARED = [
    ({"needs": "input"}, *NEEDS),
    ({"needs": ("input",)}, *NEEDS),
    ({"needs": frozenset(("inputs",))}, *NEEDS),
    ({"needs": None}, *NEEDS),
    ({"cheap": None}, "cheap to be one of False, True", "cheap = False"),
    ({"cheap": len}, "cheap to be one of False, True", "cheap = False"),
    ({"noisy": 1}, "noisy to be one of False, True", "noisy = False"),
    ({"couples_examples": 0}, "couples_examples to be one of None, False, True", "couples_examples = None"),
]


def doors(net, params):
    """Every way in, from init to the checker."""
    backwards = {
        "value_and_grad": lambda: fnn.value_and_grad(net, LOSS, noise=False)(params, X, X),
        "under jit": lambda: jax.jit(fnn.value_and_grad(net, LOSS, noise=False))(params, X, X),
        "grad of apply": lambda: jax.grad(lambda p: fnn.apply(net, p, X).sum())(params),
        "norms": lambda: fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm)(params, X, X),
    }
    return backwards | {
        "forward": lambda: fnn.forward(net, params, X),
        "output": lambda: fnn.output(net, params, X),
        "summary": lambda: fnn.summary(net, X),
        "explain": lambda: fnn.explain(net, X),
        "report": lambda: fnn.memory.report(net, None, X),
        "plans": lambda: fnn.memory.plans(net, X),
    }, list(backwards)


def refused(door, call, texts):
    with pytest.raises(fnn.InputError) as raised:
        call()
    for text in texts:
        assert text in str(raised.value), f"{door}: {raised.value}"


def places(fault, **declared):
    leaf = Scaling(fault, **declared)
    yield leaf, PARAMS
    yield fnn.Serial(leaf, fnn.relu), (PARAMS, ())


@pytest.mark.parametrize("fault", FORWARD)
def test_what_a_forward_returns(fault):
    for net, params in places(fault):
        ways, _ = doors(net, params)
        for door, call in ways.items():
            refused(door, call, FORWARD[fault])
        with pytest.raises(ValueError) as raised:
            fnn.check.layers(net, params, X, library=fnn)
        assert FORWARD[fault][0] in str(raised.value)
    with pytest.raises(fnn.InputError, match="Scaling"):
        fnn.init(fnn.Repeat(Scaling(fault), 2), KEY, X)


@pytest.mark.parametrize("fault", BACKWARD)
def test_what_a_backward_returns(fault):
    for net, params in places(fault):
        ways, backwards = doors(net, params)
        for door in backwards:
            refused(door, ways[door], BACKWARD[fault])
    report = fnn.check.layers(Scaling(fault), PARAMS, X, library=fnn)
    assert report.verdict is fnn.check.Verdict.FAIL and BACKWARD[fault][0] in str(report)


@pytest.mark.parametrize(("declared", "wanted", "fix"), DECLARED)
def test_what_a_layer_says_of_itself(declared, wanted, fix):
    leaf = Scaling(**declared)
    ways, _ = doors(leaf, PARAMS)
    ways |= {"init": lambda: fnn.init(leaf, KEY, X), "Serial": lambda: fnn.Serial(leaf)}
    for door, call in ways.items():
        refused(door, call, (wanted, fix))
    with pytest.raises(ValueError) as raised:
        fnn.check.layers(leaf, PARAMS, X, library=fnn)
    assert wanted in str(raised.value)


def test_what_init_returns():
    for net, _ in places("init"):
        refused("init", lambda net=net: fnn.init(net, KEY, X), ("a pytree of arrays", "1.0", "return ()"))


def test_what_is_suggested_works():
    for fields in ({}, {"needs": frozenset(("input", "output")), "cheap": False, "noisy": False}):
        leaf = dataclasses.replace(Scaling(), **fields, couples_examples=None)
        value, grads = fnn.value_and_grad(leaf, LOSS)(fnn.init(leaf, KEY, X), X, 0 * X)
        assert value == 3
        np.testing.assert_allclose(grads["scale"], 2, rtol=1e-6)
        assert fnn.check.layers(leaf, PARAMS, X, library=fnn).verdict is fnn.check.Verdict.PASS
