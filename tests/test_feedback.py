"""Other backward rules against the same written out by hand, with readers on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.proof import assert_equal

LOSS = fnn.half_squared_error(reduction="sum")


def setting(net=None):
    net = net or fnn.Serial(fnn.Dense(6), fnn.tanh, fnn.Dense(4), fnn.tanh, fnn.Dense(3))
    rng = np.random.default_rng(0)
    x, target = jnp.asarray(rng.standard_normal((7, 5))), jnp.asarray(rng.standard_normal((7, 3)))
    params, feedback = (
        jax.tree.map(lambda p: p.astype(jnp.float64) + 0.1, fnn.init(net, jax.random.key(seed), x))
        for seed in (0, 1)
    )
    return net, params, feedback, x, target


def by_hand(params, x, target, back):
    """Give the gradients of the three dense layers, errors returning by `back(dz, i)` from layer i."""
    (a, _, b, _, c) = params
    h = np.tanh(x @ a["kernel"] + a["bias"])
    g = np.tanh(h @ b["kernel"] + b["bias"])
    e = g @ c["kernel"] + c["bias"] - target
    dg = back(e, e, 2) * (1 - g**2)
    dh = back(e, dg, 1) * (1 - h**2)
    return tuple(
        {"kernel": pair[0].T @ pair[1], "bias": pair[1].sum(0)} if pair else ()
        for pair in ((x, dh), None, (h, dg), None, (g, e))
    )


def numpy(*trees):
    return [jax.tree.map(np.asarray, tree) for tree in trees]


def test_feedback_alignment_and_sign_symmetry_by_hand():
    net, params, feedback, x, target = setting()
    for other in (feedback, fnn.feedback.sign_symmetric(params, feedback), params):
        value, got = fnn.feedback.feedback_alignment(net, LOSS)(params, other, x, target)
        p, b, x_, t_ = numpy(params, other, x, target)
        wanted = by_hand(p, x_, t_, lambda e, dz, i: dz @ b[2 * i]["kernel"].T)  # noqa: B023
        assert_equal(got, wanted, 1e-12)
        assert_equal(value, fnn.value_and_grad(net, LOSS)(params, x, target)[0], 1e-12)
    signs = fnn.feedback.sign_symmetric(params, feedback)
    np.testing.assert_array_equal(np.sign(signs[0]["kernel"]), np.sign(params[0]["kernel"]))
    np.testing.assert_array_equal(np.abs(signs[0]["kernel"]), np.abs(feedback[0]["kernel"]))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "net",
    [
        fnn.Serial(fnn.Dense(5), fnn.LayerNorm(), fnn.gelu, fnn.Skip(fnn.gated(5)), fnn.Dense(3)),
        fnn.mlp([5, 6, 6, 6, 6, 6, 3], fnn.gelu, scan=True),
    ],
    ids=["recomputed", "scanned"],
)  # fmt: skip
def test_with_the_params_themselves_it_is_backpropagation(net):
    """And what the backward recomputes, it recomputes with the params: only dense weights are exchanged."""
    net, params, feedback, x, target = setting(net)
    own = fnn.feedback.feedback_alignment(net, LOSS)(params, params, x, target)
    assert_equal(own, fnn.value_and_grad(net, LOSS)(params, x, target), 1e-12)
    last, wanted = (
        run[1]["output"] if isinstance(run[1], dict) else run[1][-1]
        for run in (
            fnn.feedback.feedback_alignment(net, LOSS)(params, feedback, x, target),
            fnn.value_and_grad(net, LOSS)(params, x, target),
        )
    )
    assert_equal(last, wanted, 1e-12)  # the last layer's gradient needs no feedback


def test_direct_feedback_by_hand():
    net, params, _, x, target = setting()
    matrices = fnn.feedback.direct_feedback_matrices(net, jax.random.key(2), params, x)
    assert [m.shape for m in matrices] == [(3, 6), (3, 4)]
    value, got = jax.jit(fnn.feedback.direct_feedback(net, LOSS))(params, matrices, x, target)
    p, m, x_, t_ = numpy(params, matrices, x, target)
    assert_equal(got, by_hand(p, x_, t_, lambda e, dz, i: e @ m[i - 1]), 1e-12)
    assert_equal(value, fnn.value_and_grad(net, LOSS)(params, x, target)[0], 1e-12)


def test_readers_work_with_every_rule():
    net, params, feedback, x, target = setting()
    matrices = fnn.feedback.direct_feedback_matrices(net, jax.random.key(2), params, x)
    read = fnn.readers.zip_readers(
        fnn.readers.squared_norm,
        fnn.readers.example_gradient,
        fnn.readers.second_moment,
        fnn.readers.variance,
    )
    for rule, back in ((fnn.feedback.feedback_alignment, feedback), (fnn.feedback.direct_feedback, matrices)):
        _, readings = rule(net, LOSS, read)(params, back, x, target)
        norms, each, moments, _ = fnn.readers.unzip(params, readings)
        _, whole = rule(net, LOSS)(params, back, x, target)
        assert_equal(jax.tree.map(lambda g: g.sum(0), each), whole, 1e-12)
        assert_equal(norms, jax.tree.map(lambda g: jnp.square(g).sum(tuple(range(1, g.ndim))), each), 1e-12)
        assert_equal(moments, jax.tree.map(lambda g: jnp.square(g).mean(0), each), 1e-12)


def test_readers_with_leaves_work_with_every_rule():
    """Products with a direction, pairs, and a clipped sum, of the examples' gradients by each rule."""
    net, params, feedback, x, target = setting()
    matrices = fnn.feedback.direct_feedback_matrices(net, jax.random.key(2), params, x)
    for rule, back in ((fnn.feedback.feedback_alignment, feedback), (fnn.feedback.direct_feedback, matrices)):

        def read(reader, trees=(), rule=rule, back=back):
            return jax.jit(lambda: rule(net, LOSS, reader)(params, back, x, target, trees=trees)[1])()

        each = read(fnn.readers.example_gradient)
        rows = jnp.concatenate([leaf.reshape(7, -1) for leaf in jax.tree.leaves(each)], 1)
        v = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(feedback)])
        assert_equal(
            fnn.readers.sum_over_params(read(fnn.readers.inner_product, (feedback,))), rows @ v, 1e-12
        )
        factors = read(fnn.readers.as_factors)
        assert_equal(
            fnn.readers.sum_over_params(read(fnn.readers.gram, (factors,)), axes=2), rows @ rows.T, 1e-12
        )
        scale = 1 / jnp.maximum(1, jnp.sqrt(fnn.readers.sum_over_params(read(fnn.readers.squared_norm))))
        clipped = read(
            fnn.readers.weighted_gradient, (jax.tree.unflatten(jax.tree.structure(params), [scale] * 6),)
        )
        wanted = [jnp.tensordot(scale, leaf, 1) for leaf in jax.tree.leaves(each)]
        assert_equal(jax.tree.leaves(clipped), wanted, 1e-12)
        with pytest.raises(fnn.InputError, match="begins like the params"):
            read(fnn.readers.inner_product, (feedback[1:],))


def test_direct_feedback_through_tokens_and_blocks():
    net = fnn.Serial(
        fnn.Embedding(7, 4), fnn.Repeat(fnn.Skip(fnn.gated(4)), 2), fnn.LayerNorm(), fnn.Dense(3)
    )
    x = jnp.asarray(np.random.default_rng(0).integers(0, 7, (2, 5)))
    params = fnn.init(net, jax.random.key(0), x)
    matrices = fnn.feedback.direct_feedback_matrices(net, jax.random.key(2), params, x)
    _, got = fnn.feedback.direct_feedback(net, fnn.softmax_cross_entropy())(params, matrices, x, x % 3)
    assert jax.tree.structure(got) == jax.tree.structure(params)
    assert all(jnp.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(got))


def test_bad_input_is_named():
    net, params, feedback, x, target = setting()
    with pytest.raises(fnn.InputError, match="feedback that begins like the params"):
        fnn.feedback.feedback_alignment(net, LOSS)(params, feedback[:2], x, target)
    with pytest.raises(fnn.InputError, match=r"matrices \[\(3, 6\), \(3, 4\)\]"):
        fnn.feedback.direct_feedback(net, LOSS)(params, (jnp.ones((3, 6)),), x, target)
    with pytest.raises(fnn.InputError, match="a chain"):
        fnn.feedback.direct_feedback(fnn.Dense(3), LOSS)(params[0], (), x, target)  # pyright: ignore[reportArgumentType]
