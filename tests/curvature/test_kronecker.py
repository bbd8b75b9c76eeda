"""Kronecker factors against the explicit blocks of J^T H J: see test_fishers.py for the rest of the table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.curvature.kronecker import is_block
from fnn.losses.likelihoods import CATEGORICAL
from tests.cases import Example
from tests.proof import assert_equal
from tests.readers.brute import LOSS, data, every_case, ranks, run
from tests.readers.explicit import explicit_ggn, soft_target


@every_case
def test_kronecker_factors_of_one_example_are_the_block(case):
    """At n = 1 without tokens, inputs (x) outputs is the block of G; gradient and value come along."""
    if "shared" in case.name or (len(case.shape) > (1 if case.integer else 2)):
        pytest.skip("tokens and uses: the factors are no longer exact")
    own = data(case)
    own = dataclasses.replace(own, x=own.x[:1], dy=own.dy[:1], key=None)
    target, loss = soft_target(own.dy), fnn.softmax_cross_entropy(reduction="mean")

    def both():
        value, dy = loss.value_and_grad(fnn.forward(own.net, own.params, own.x)[0], target)
        curved = fnn.curvature.kronecker_factors(own.net, loss)(own.params, own.x, target)
        residuals = fnn.forward(own.net, own.params, own.x)[1]
        gradient = fnn.backward(own.net, own.params, residuals, dy)[0]
        return explicit_ggn(own, target, loss)[0], curved, value, gradient

    g, curved, value, gradient = run(both)
    assert_equal(curved.value, value)
    assert_equal(curved.gradient, gradient)
    at = 0
    rank = jax.tree.leaves(ranks(own))
    blocks = jax.tree.leaves(curved.factors, is_leaf=is_block)
    for param, r, block in zip(jax.tree.leaves(own.params), rank, blocks, strict=True):
        stack = param.shape[: param.ndim - r]
        size = param[(0,) * len(stack)].size
        flattened = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[len(stack) :]), block)  # noqa: B023
        for i in range(int(np.prod(stack, dtype=int))):
            inputs, outputs = flattened.inputs[i], flattened.outputs[i]
            inputs = np.diag(inputs) if inputs.ndim == 1 else inputs
            assert_equal(np.kron(inputs, outputs), g[at : at + size, at : at + size], 1e-10)
            at += size


def dense_setting(n=6, tokens=()):
    net = fnn.Serial(fnn.Dense(4), fnn.tanh, fnn.Dense(3))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((n, *tokens, 5)))
    params = jax.tree.map(lambda p: p + 0.1, fnn.init(net, jax.random.key(1), x))
    return net, params, x


@pytest.mark.thorough
def test_expand_and_reduce():
    """Two tokens: expanded as examples of their own; reduced by x's mean and dz's sum (Eschenhagen 2023)."""
    net, params, x = dense_setting(4, (2,))
    y, residuals = fnn.forward(net, params, x)
    target = soft_target(y)
    expand = fnn.curvature.kronecker_factors(net, LOSS)(params, x, target).factors
    folded = fnn.curvature.kronecker_factors(net, LOSS)(params, x.reshape(8, 5), target.reshape(8, 3)).factors
    assert_equal(expand, folded, 1e-12)
    reduce = fnn.curvature.kronecker_factors(net, LOSS, tokens="reduce")(params, x, target).factors
    root = CATEGORICAL.root(y, target) / 8**0.5
    mean = x.mean(1)
    outputs = sum(seed.sum(1).T @ seed.sum(1) for seed in root)
    hidden = fnn.apply(fnn.Serial(*net.layers[:2]), params[:2], x).mean(1)
    assert_equal(reduce[0]["kernel"].inputs, mean.T @ mean / 4, 1e-12)
    assert_equal(reduce[2]["kernel"].inputs, hidden.T @ hidden / 4, 1e-12)
    assert_equal(reduce[2]["kernel"].outputs, outputs, 1e-12)
    assert_equal(reduce[2]["bias"].outputs, outputs, 1e-12)


@pytest.mark.parametrize("fisher", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_fishers_and_reductions(fisher, reduction):
    """The output layer's factors by hand; the empirical one shares the gradient's backward pass."""
    net, params, x = dense_setting()
    loss, key = fnn.softmax_cross_entropy(reduction=reduction), jax.random.key(3)
    label = jnp.arange(6) % 3
    curved = fnn.curvature.kronecker_factors(net, loss, fisher, samples=2 if fisher == "sampled" else 1)(
        params, x, label, key
    )
    y = fnn.apply(net, params, x)
    share = 6 if reduction == "mean" else 1
    _, of_sample = jax.random.split(key)
    seeds = {
        "exact": lambda: CATEGORICAL.root(y, label),
        "sampled": lambda: jnp.stack(
            [CATEGORICAL.sample(k, y, label) for k in jax.random.split(of_sample, 2)]
        ) / 2**0.5,
        "empirical": lambda: (jax.nn.softmax(y) - jax.nn.one_hot(label, 3))[None],
    }[fisher]()  # fmt: skip
    assert_equal(curved.factors[2]["kernel"].outputs, jnp.einsum("cna,cnb->ab", seeds, seeds) / share, 1e-12)
    value, gradient = fnn.value_and_grad(net, loss)(params, x, label)
    assert_equal((curved.value, curved.gradient), (value, gradient), 1e-12)


@pytest.mark.thorough
def test_joined_bias_is_the_block_of_both():
    net, params, x = dense_setting(1)
    target = soft_target(fnn.apply(net, params, x))
    factors = fnn.curvature.kronecker_factors(net, LOSS, bias="joint")(params, x, target).factors
    assert factors[0]["bias"] is None
    own = Example(net, params, x, jnp.zeros((1, 3)), None)
    g = explicit_ggn(own, target, LOSS)[0]
    b, w = np.arange(4), 4 + np.arange(20)  # "b" comes first among the leaves
    order = np.concatenate([w, b])
    block = np.kron(factors[0]["kernel"].inputs, factors[0]["kernel"].outputs)
    assert_equal(block, np.asarray(g)[np.ix_(order, order)], 1e-10)
    alone = fnn.Serial(fnn.Dense(4, bias=False), fnn.LayerNorm(), fnn.Dense(3))
    params = fnn.init(alone, jax.random.key(0), x)
    factors = fnn.curvature.kronecker_factors(alone, LOSS, bias="joint")(params, x, target).factors
    assert factors[0]["kernel"].inputs.shape == (5, 5) and factors[1]["bias"].inputs.shape == (1, 1)
