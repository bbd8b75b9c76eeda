"""Clipped sums against the clipped Jacobian; one backward pass; bad examples, masks and microbatches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.privacy.clipping import STABILITY
from tests.cases import Example
from tests.proof import assert_equal, count_products
from tests.readers.brute import LOSS, draw, every_case, flat, ranks, run

LABELS = fnn.softmax_cross_entropy()
OPTIONS: tuple[dict[str, Any], ...] = ({}, {"per": "layer"}, {"automatic": True})


def clipped_sums(jacobian, params, rank, norm):
    """Clip by hand: for the network, for every layer (stacked ones apart), and automatically."""
    n = flat(jacobian).shape[0]
    squares = jax.tree.map(
        lambda g, r: np.square(g).sum(tuple(range(g.ndim - r, g.ndim))), jacobian, rank
    )  # (n, stack...)
    lengths = np.sqrt(sum(s.reshape(n, -1).sum(1) for s in jax.tree.leaves(squares)))
    groups = {}
    for path, square in jax.tree.leaves_with_path(squares):
        groups[path[:-1]] = groups.get(path[:-1], 0) + square
    share = norm / np.sqrt(sum(s.reshape(n, -1).shape[1] for s in groups.values()))

    def summed(c, g):
        return (c.reshape(*c.shape, *(1,) * (g.ndim - c.ndim)) * g).sum(0)

    own = {path: share / np.maximum(share, np.sqrt(square)) for path, square in groups.items()}
    return (
        lengths,
        jax.tree.map(lambda g: summed(norm / np.maximum(norm, lengths), g), jacobian),
        jax.tree_util.tree_map_with_path(lambda path, g: summed(own[path[:-1]], g), jacobian),
        jax.tree.map(lambda g: summed(norm / (lengths + STABILITY), g), jacobian),
    )


@every_case
def test_clipped_sums(case):
    drawn = draw(case)
    own, jacobian = drawn.case, jax.tree.map(np.asarray, drawn.jacobian)
    norm = float(np.median(np.linalg.norm(flat(jacobian), axis=1))) or 1.0  # where most gradients are zero
    lengths, *wanted = clipped_sums(jacobian, own.params, ranks(own), norm)

    def ours():
        return [
            fnn.privacy.clipped_gradient(own.net, LOSS, norm, **option)(
                own.params, own.x, drawn.target, own.key
            )
            for option in OPTIONS
        ]

    for got, want in zip(run(ours), wanted, strict=True):
        assert_equal(got.gradient, jax.tree.map(jnp.asarray, want), 1e-10)
        assert_equal(got.norms, lengths, 1e-10)
        assert_equal(got.losses, drawn.losses, 1e-12)
        assert got.finite.all()


def setting(n=8):
    net = fnn.mlp([5, 7, 7, 7, 7, 7, 3], fnn.tanh, scan=True)
    x = jax.random.normal(jax.random.key(0), (n, 5))
    return net, fnn.init(net, jax.random.key(1), x), x, jnp.arange(n) % 3


def test_one_backward_pass_is_all():
    """No matrix product more than the plain gradient has; the norms of rows need none."""
    net, params, x, label = setting()
    own = Example(net, params, x, None, None)
    ours = count_products(
        lambda own: fnn.privacy.clipped_gradient(net, LOSS, 0.1)(own.params, own.x, label), own
    )
    plain = count_products(lambda own: fnn.value_and_grad(net, LOSS)(own.params, own.x, label), own)
    assert 0 < ours <= plain


@pytest.mark.thorough
def test_masks_count_examples_out():
    net, params, x, label = setting()
    mask = jnp.array([1, 1, 0, 1, 0, 1, 1, 0], bool)
    option: dict[str, Any]
    for option in (*OPTIONS, {"microbatch": 4}):
        clip = fnn.privacy.clipped_gradient(net, LOSS, 0.1, **option)
        whole = fnn.privacy.clipped_gradient(net, LOSS, 0.1, **{**option, "microbatch": None})
        padded = x.at[2].set(jnp.nan).at[4].set(jnp.inf)
        got, wanted = clip(params, padded, label, mask=mask), whole(params, x[mask], label[mask])
        assert_equal(got.gradient, wanted.gradient, 1e-12)
        assert_equal(got.norms[mask], wanted.norms, 1e-12)
        assert not got.norms[~mask].any() and got.finite.all()
        nobody = clip(params, x, label, mask=jnp.zeros(8, bool))
        assert not any(leaf.any() for leaf in jax.tree.leaves(nobody.gradient))


@pytest.mark.thorough
def test_a_gradient_that_is_not_finite_counts_as_zero_and_is_reported():
    net, params, x, label = setting()
    bad = x.at[3, 1].set(jnp.inf).at[5, 0].set(jnp.nan)
    good = jnp.array([i not in (3, 5) for i in range(8)])
    for option in OPTIONS:
        clip = fnn.privacy.clipped_gradient(net, LOSS, 0.1, **option)
        got, wanted = clip(params, bad, label), clip(params, x[good], label[good])
        assert_equal(got.gradient, wanted.gradient, 1e-12)
        np.testing.assert_array_equal(got.finite, good)
        some = jnp.arange(8) != 6  # beside a mask, too
        got, wanted = clip(params, bad, label, mask=some), clip(params, x[good & some], label[good & some])
        assert_equal(got.gradient, wanted.gradient, 1e-12)
        np.testing.assert_array_equal(got.finite, good)


def test_a_zero_gradient_stays_zero():
    net = fnn.Dense(3)
    x = jnp.zeros((4, 5))
    params = {"kernel": jnp.ones((5, 3)), "bias": jnp.zeros(3)}
    target = jnp.zeros((4, 3))
    for option in OPTIONS:
        clip = fnn.privacy.clipped_gradient(net, fnn.squared_error(), 1.0, **option)
        got = clip(params, x, target)
        assert not any(leaf.any() for leaf in jax.tree.leaves(got.gradient)) and got.finite.all()


@pytest.mark.parametrize("option", OPTIONS)
def test_tokens_that_cancel_leave_no_root_of_a_negative_number(option):
    """Twenty tokens of one input whose cotangents cancel: the Gram form rounds to either side of zero."""
    rng = np.random.default_rng(0)
    dz = rng.standard_normal((64, 20, 40)).astype(np.float32)
    x = jnp.asarray(np.broadcast_to(rng.standard_normal((64, 1, 80)), (64, 20, 80)), jnp.float32)
    net, loss = fnn.Dense(40, bias=False), fnn.half_squared_error()
    params = {"kernel": jnp.zeros((80, 40), jnp.float32)}
    got = fnn.privacy.clipped_gradient(net, loss, 1e-3, **option)(
        params, x, jnp.asarray(dz - dz.mean(1)[:, None])
    )
    assert got.finite.all() and (got.norms >= 0).all()
    assert jnp.isfinite(got.gradient["kernel"]).all()


def test_microbatches_give_the_same():
    net, params, x, label = setting()
    whole = fnn.privacy.clipped_gradient(net, LOSS, 0.1)(params, x, label)
    parts = fnn.privacy.clipped_gradient(net, LOSS, 0.1, microbatch=2)(params, x, label)
    assert_equal(parts, whole, 1e-12)
    with pytest.raises(fnn.InputError, match="divides the 8 examples"):
        fnn.privacy.clipped_gradient(net, LOSS, 0.1, microbatch=3)(params, x, label)


@pytest.mark.thorough
@pytest.mark.parametrize("option", OPTIONS)
def test_no_example_moves_the_sum_by_more_than_the_norm(option):
    """The sensitivity that the noise is made for."""
    net, params, x, label = setting()
    clip = fnn.privacy.clipped_gradient(net, LOSS, 0.05, **option)
    whole = clip(params, 100 * x, label)
    for i in range(8):
        without = clip(params, 100 * x, label, mask=jnp.arange(8) != i)
        change = jax.tree.map(jnp.subtract, whole.gradient, without.gradient)
        length = sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(change)) ** 0.5
        assert length <= 0.05 * (1 + 1e-12)


def test_the_noise_has_its_deviation():
    """One draw of 57,003 normal numbers: the mean square is within 5 deviations, 5 sqrt(2 / m), of one."""
    net = fnn.Dense(57)
    x = jnp.ones((2, 1000))
    params = fnn.init(net, jax.random.key(0), x)
    private = fnn.privacy.private_gradient(net, fnn.squared_error(), 2.0, noise_multiplier=3.0, batch_size=4)
    got, info = private(params, x, jnp.ones((2, 57)), jax.random.key(1))
    again, _ = private(params, x, jnp.ones((2, 57)), jax.random.key(1))
    assert_equal(again, got)
    noise = jax.tree.map(lambda g, c: (4 * g - c) / 6, got, info.gradient)
    values = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noise)])
    assert abs(np.square(values).mean() - 1) < 5 * (2 / values.size) ** 0.5
    assert abs(values.mean()) < 5 / values.size**0.5
    exact, _ = fnn.privacy.private_gradient(net, fnn.squared_error(), 2.0, 0.0, 4)(
        params, x, jnp.ones((2, 57)), jax.random.key(1)
    )
    assert_equal(exact, jax.tree.map(lambda g: g / 4, info.gradient))


def test_the_accountant():
    """One step without sampling is the Gaussian mechanism, whose epsilon is known in closed form."""
    pytest.importorskip("dp_accounting")
    from scipy import optimize, stats

    def delta(epsilon, sigma):  # Balle, Wang 2018
        a, b = 1 / (2 * sigma), epsilon * sigma
        return stats.norm.cdf(a - b) - np.exp(epsilon) * stats.norm.cdf(-a - b)

    wanted: Any = optimize.brentq(lambda e: delta(e, 2.0) - 1e-5, 1e-3, 20)
    got = fnn.privacy.privacy_spent(2.0, sampling=1.0, steps=1, delta=1e-5)
    assert wanted <= got + 1e-6 and abs(got - wanted) < 1e-3


@pytest.mark.parametrize(
    ("epsilon", "of"),
    [
        (3.0, {"sampling": 0.01, "steps": 100, "delta": 1e-5}),
        (0.05, {"sampling": 1.0, "steps": 2, "delta": 1e-3}),
        (8.0, {"sampling": 1.0, "steps": 1, "delta": 1e-5}),
        (0.3, {"sampling": 1.0, "steps": 1, "delta": 0.4}),  # half of Renyi's noise is enough
    ],
)
def test_noise_is_found_for_a_budget(epsilon, of):
    pytest.importorskip("dp_accounting")
    sigma = fnn.privacy.noise_for(epsilon, **of)
    assert fnn.privacy.privacy_spent(sigma, **of) <= epsilon * (1 + 1e-6)
    assert fnn.privacy.privacy_spent(0.97 * sigma, **of) > epsilon


def test_bad_input_is_named():
    net, params, x, label = setting()
    with pytest.raises(fnn.InputError, match="norm > 0"):
        fnn.privacy.clipped_gradient(net, LOSS, 0.0)
    with pytest.raises(fnn.InputError, match='per "network" or "layer"'):
        fnn.privacy.clipped_gradient(net, LOSS, 1.0, per="leaf")
    with pytest.raises(fnn.InputError, match=r"mask of shape \(8,\)"):
        fnn.privacy.clipped_gradient(net, LOSS, 1.0)(params, x, label, mask=jnp.ones(3))
    with pytest.raises(fnn.InputError, match="noise_multiplier >= 0"):
        fnn.privacy.private_gradient(net, LOSS, 1.0, -1.0, 8)


@pytest.mark.parametrize("microbatch", [None, 2])
def test_a_scale_keeps_in_float16_what_is_too_small_for_it(microbatch):
    """The clipped sums of gradients about 1e-6, against those in float64: units of rounding, not tenths."""
    x, label = jax.random.normal(jax.random.key(0), (6, 5), jnp.float32), jnp.arange(6) % 3
    params = fnn.init(fnn.mlp([5, 4, 3]), jax.random.key(1), x)
    loss = 1e-6 * fnn.softmax_cross_entropy()

    def clipped(net, x, params, **options):
        return fnn.privacy.clipped_gradient(net, loss, 1e-6, microbatch=microbatch)(
            params, x, label, **options
        )

    half, in_half = fnn.mlp([5, 4, 3], dtype=jnp.float16), x.astype(jnp.float16)
    wide = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    wanted = clipped(fnn.mlp([5, 4, 3]), in_half.astype(jnp.float64), wide)
    plain, scaled = (clipped(half, in_half, params, scale=s) for s in (None, 2.0**16))
    unit = float(jnp.finfo(jnp.float16).eps)  # twice the roundoff: of x, two weights, h, its derivative, dz
    np.testing.assert_allclose(scaled.norms, wanted.norms, rtol=6 * unit)
    assert (np.abs(np.asarray(plain.norms) / np.asarray(wanted.norms) - 1) > 6 * unit).any()
    for a, b in zip(*map(jax.tree.leaves, (scaled.gradient, wanted.gradient)), strict=True):
        np.testing.assert_allclose(a, b, atol=6 * unit * float(jnp.abs(b).max()))
    noiseless = fnn.privacy.private_gradient(
        half, loss, 1e-6, noise_multiplier=0, batch_size=1, microbatch=microbatch
    )
    private, _ = noiseless(params, in_half, label, jax.random.key(2), None, 2.0**16)
    assert_equal(private, scaled.gradient, 1e-6)


@pytest.mark.parametrize("per", ("network", "layer"))
@pytest.mark.parametrize("traced", (False, True))
def test_a_norm_of_infinity_clips_nothing(per, traced):
    net, x, label = fnn.mlp([4, 8, 3]), jax.random.normal(jax.random.key(1), (6, 4)), jnp.arange(6) % 3
    params = fnn.init(net, jax.random.key(0), x)
    x = x.at[2].set(jnp.inf)  # an example that adds nothing

    def clipped(norm):
        return fnn.privacy.clipped_gradient(net, LABELS, norm, per=per)(params, x, label)

    got = (jax.jit(clipped) if traced else clipped)(jnp.inf)
    rows = jnp.array([0, 1, 3, 4, 5])
    want = fnn.value_and_grad(net, LABELS.with_reduction("sum"))(params, x[rows], label[rows])[1]
    assert_equal(got.gradient, want, 1e-6)
    np.testing.assert_array_equal(got.finite, jnp.arange(6) != 2)


@pytest.mark.parametrize("dtype", ("float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz"))
def test_a_loss_of_outputs_in_eight_bits_is_that_of_the_same_numbers(dtype):
    y = jnp.array([[0.5, -1.0, 2.0], [0.0, 0.25, -4.0]]).astype(dtype)
    for loss, target in ((LABELS, jnp.array([0, 2])), (fnn.squared_error(), jnp.ones((2, 3)))):
        np.testing.assert_array_equal(loss(y, target), loss(y.astype(jnp.float32), target))
