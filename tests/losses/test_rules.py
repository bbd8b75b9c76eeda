"""Rules of one's own: what they return is checked, and what they lack is made."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.proof import assert_equal

RNG = np.random.default_rng(0)
X, T = jnp.asarray(RNG.standard_normal((6, 4))), jnp.asarray(RNG.standard_normal((6, 3)))
LABEL, W = jnp.array([0, 1, 2, 2, 1, 0]), jnp.asarray(RNG.uniform(0.1, 2, 6))
NET = fnn.Dense(3)
PARAMS = fnn.init(NET, jax.random.key(0), X)
Y = fnn.forward(NET, PARAMS, X)[0]
integer_labels = optax.losses.softmax_cross_entropy_with_integer_labels


def quartic(y, t):
    return ((y - t) ** 4).sum(-1)


def contrastive(y, t):
    return -jnp.diagonal(jax.nn.log_softmax(y @ t.T, -1))


def normalised(y, t):
    return jnp.square((y - y.mean(0, keepdims=True)) - t).sum(-1)


def of_mean(y, t):
    """Broadcast the mean of the batch to its rows, with its gradient."""
    value = jnp.square(y - t).mean()
    return jnp.full(y.shape[:-1], value), 2 * (y - t) / y.size * y.shape[0]


@pytest.mark.parametrize(
    "rule, known, target",
    [
        (quartic, lambda y, t: ((y - t) ** 4).sum(-1), T),
        (optax.losses.squared_error, lambda y, t: jnp.square(y - t).sum(-1), T),  # a value for each output
        (integer_labels, lambda y, t: -jax.nn.log_softmax(y)[jnp.arange(6), t], LABEL),
        (lambda y, t: (quartic(y, t), 4 * (y - t) ** 3), quartic, T),
        (contrastive, contrastive, T),
        (normalised, normalised, T),
    ],
)
@pytest.mark.parametrize("weights", [None, W], ids=["", "weighted"])
def test_a_bare_rule_is_differentiated(rule, known, target, weights):
    """Rules that couple rows are right here, too: the weights go through them."""

    def plain(y):
        w = jnp.ones(6) if weights is None else weights
        return (w * known(y, target)).sum() / w.sum()

    loss = fnn.Loss(rule)
    wanted = jax.value_and_grad(plain)(Y)
    assert_equal(loss.value_and_grad(Y, target, weights), wanted, 1e-11)
    assert_equal(jax.value_and_grad(lambda y: loss(y, target, weights))(Y), wanted, 1e-11)
    cotangent = jnp.cos(jnp.arange(6.0))
    by_rows = jax.grad(lambda y: jnp.vdot(cotangent, loss.with_reduction("none")(y, target)))(Y)
    assert_equal(by_rows, jax.grad(lambda y: jnp.vdot(cotangent, known(y, target)))(Y), 1e-11)


@pytest.mark.parametrize(
    "rule",
    [
        lambda y, t: jnp.mean((y - t) ** 2),
        jax.value_and_grad(lambda y, t: jnp.mean((y - t) ** 2)),
        lambda y, t: (quartic(y, t), quartic(y, t)),
        lambda y, t: (quartic(y, t), 4 * (y - t)[..., :2] ** 3),
        lambda y, t: (quartic(y, t), {"y": y}),
        lambda y, t: (quartic(y, t), y, t),
        lambda y, t: None,
        lambda y, t: jnp.zeros(4),
        lambda y, t: jnp.zeros(y.shape[:-1], jnp.complex128),
    ],
)
@pytest.mark.parametrize("shape", [(12, 3), (1, 3), (2, 2, 3)])
def test_what_a_rule_returns_is_checked(rule, shape):
    y = jnp.ones(shape)
    with pytest.raises(fnn.InputError, match="a rule") as error:
        fnn.Loss(rule).value_and_grad(y, y)
    loss = eval(error.value.args[3], {"fnn": fnn, "jnp": jnp})
    assert loss.value_and_grad(y, y)[1].shape == shape


def test_a_bare_function_is_a_loss_at_every_door():
    fields = (PARAMS, X, T)
    loss = fnn.Loss(quartic)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    for make, more in [
        (lambda f: fnn.value_and_grad(NET, f), ()),
        (lambda f: fnn.readers.losses_and_readings(NET, f, fnn.readers.squared_norm), ()),
        (lambda f: fnn.privacy.clipped_gradient(NET, f, 1.0), ()),
        (lambda f: fnn.curvature.kronecker_factors(NET, f, "empirical"), ()),
        (lambda f: fnn.curvature.ggn_diagonal(NET, f, "empirical"), ()),
        (lambda f: fnn.curvature.hessian_product(NET, f), (ones,)),
        (lambda f: fnn.curvature.ggn_product(NET, f), (ones,)),
        (lambda f: fnn.attribution.el2n(NET, f), ()),
        (lambda f: fnn.attribution.grand(NET, f), ()),
    ]:
        assert_equal(make(quartic)(*fields, *more), make(loss)(*fields, *more))
    either: list[Any] = [quartic, loss]
    steps = [fnn.train.update_in_backward(NET, f, optax.sgd(0.1)) for f in either]
    got, wanted = (step(PARAMS, init(PARAMS, X), X, T) for init, step in steps)
    assert_equal(got, wanted)
    for bad in (3, "huber", NET, fnn.LinearCrossEntropy):
        with pytest.raises(fnn.InputError, match="a loss"):
            fnn.value_and_grad(NET, bad)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("rule", [contrastive, normalised, of_mean])
def test_a_loss_that_couples_rows_is_refused_where_examples_are_told_apart(rule):
    for door in (
        fnn.readers.losses_and_readings(NET, rule, fnn.readers.squared_norm),
        fnn.privacy.clipped_gradient(NET, rule, 1.0),
        fnn.curvature.kronecker_factors(NET, rule, "empirical"),
        fnn.curvature.ggn_diagonal(NET, rule, "empirical"),
        fnn.attribution.el2n(NET, rule),
        fnn.readers.losses_and_readings(NET, 0.5 * fnn.Loss(rule), fnn.readers.squared_norm),
    ):
        with pytest.raises(fnn.InputError, match="keeps examples apart"):
            door(PARAMS, X, T)
    value, _ = fnn.value_and_grad(NET, rule)(PARAMS, X, T)
    assert np.isfinite(value)


def test_trees_of_outputs_and_targets():
    def actor_critic(y, t):
        advantage, returns, action = t
        log_p = jax.nn.log_softmax(y["policy"])[jnp.arange(6), action]
        return -advantage * log_p + jnp.square(y["value"][:, 0] - returns)

    y = {"policy": Y, "value": Y[:, :1]}
    target = (T[:, 0], T[:, 1], LABEL)
    loss = fnn.Loss(actor_critic)
    got = loss.value_and_grad(y, target, W)
    wanted = jax.value_and_grad(lambda y: (W * actor_critic(y, target)).sum() / W.sum())(y)
    assert_equal(got, wanted)
    assert_equal(jax.grad(lambda y: loss(y, target, W))(y), wanted[1])


SOFT, ONE_HOT = fnn.softmax_cross_entropy(), jax.nn.one_hot(LABEL, 3, dtype=jnp.int32)
HEAD = fnn.LinearCrossEntropy(3)
OWN = HEAD.init(jax.random.key(0), Y)


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda: SOFT(Y, LABEL.at[0].set(-100)), {"target": LABEL.at[0].set(-100)}),
        (lambda: SOFT(Y, LABEL.at[0].set(2**30)), {"target": LABEL.at[0].set(2**30)}),
        (lambda: SOFT(Y, ONE_HOT), {"target": ONE_HOT}),
        (lambda: SOFT(Y, LABEL[:, None]), {"target": LABEL[:, None]}),
        (lambda: SOFT(Y, LABEL[:3]), {"target": LABEL[:3]}),
        (lambda: SOFT(Y, LABEL.astype(jnp.float32)), {"target": LABEL.astype(jnp.float32)}),
        (lambda: fnn.huber()(Y, LABEL), {"target": LABEL}),
        (lambda: fnn.huber()(Y, T[:2]), {"target": T[:2]}),
        (lambda: HEAD(OWN, Y, LABEL.at[0].set(-100)), {"target": LABEL.at[0].set(-100)}),
        (lambda: HEAD(OWN, Y, jax.nn.one_hot(LABEL, 3)), {"target": jax.nn.one_hot(LABEL, 3)}),
        (lambda: HEAD(OWN, Y, LABEL[:, None]), {"target": LABEL[:, None]}),
        (lambda: SOFT(Y, LABEL, W[:2]), {}),
    ],
)  # fmt: skip
def test_every_suggestion_works_when_run(call, names):
    with pytest.raises(fnn.InputError) as error:
        call()
    fix = error.value.args[3]
    space = {"jax": jax, "jnp": jnp, "fnn": fnn, "y": Y, "x": Y, "loss": SOFT, "head": HEAD, "params": OWN}
    found = eval(fix, space | names)
    if found.ndim:  # a target or weights, else the value
        who = call.__code__.co_names
        first = (OWN, Y) if "HEAD" in who else (Y,)
        loss = {"HEAD": HEAD, "SOFT": SOFT}.get(
            next(n for n in who if n in ("HEAD", "SOFT", "huber")), fnn.huber()
        )
        found = loss(*first, *((found,) if names else (LABEL, found)))
    assert np.isfinite(found)


@pytest.mark.parametrize(
    "make", [fnn.softmax_cross_entropy, fnn.losses.kl_divergence, fnn.losses.cosine, fnn.huber]
)
def test_rows_without_outputs_are_refused(make):
    with pytest.raises(fnn.InputError, match="one or more outputs"):
        make()(jnp.zeros((3, 0)), jnp.zeros((3, 0)))


def test_forward_mode_has_a_plain_function_that_the_error_names():
    def through(f, *args):
        return jax.jvp(lambda y: f(*args, y, LABEL), (Y,), (T,))

    for f, args, plain in [(SOFT, (), "loss.value"), (HEAD, (OWN,), "head.value")]:
        with pytest.raises(fnn.InputError, match=f"reverse mode.*{plain}"):
            through(f, *args)
        value, along = through(f.value, *args)
        of, dy = jax.value_and_grad(lambda y, f=f, args=args: f(*args, y, LABEL))(Y)
        assert_equal((value, along), (of, jnp.vdot(dy, T)))
