"""Losses that are added, weighted and taken of named outputs: every reader works on them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.factors import Total
from tests.proof import assert_equal

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((6, 4)))
LABEL, RETURNS = jnp.array([0, 1, 2, 2, 1, 0]), jnp.asarray(RNG.standard_normal((6, 1)))
W = jnp.asarray(RNG.uniform(0.1, 2, 6))


@dataclass(frozen=True)
class Fork(fnn.Leaf):
    """Add a bias, and take the last output for the value, the others for the policy."""

    needs = frozenset()
    cheap = True
    couples_examples = False

    def init(self, key, x):
        return {"bias": jnp.zeros(x.shape[-1])}

    def forward(self, params, x, key):
        y = x + params["bias"].reshape(1, -1)
        return {"policy": y[:, :-1], "value": y[:, -1:]}, ()

    def backward(self, params, x, y, extras, dy):
        dx = jnp.concatenate([dy["policy"], dy["value"]], -1)
        return {"bias": Total(dx)}, dx


NET = fnn.Serial(fnn.Dense(4), Fork())
PARAMS = fnn.init(NET, jax.random.key(0), X)
TARGET = {"policy": LABEL, "value": RETURNS}
ACTOR, CRITIC = fnn.softmax_cross_entropy(), fnn.half_squared_error()
BOTH = ACTOR.on("policy") + 0.5 * CRITIC.on("value")


def rows(params, x=X, target=TARGET):
    """Return each row's value as a user writes it."""
    y = fnn.forward(NET, params, x)[0]
    log_p = jax.nn.log_softmax(y["policy"])
    picked = -jnp.take_along_axis(log_p, target["policy"][:, None], 1)[:, 0]
    return picked + 0.25 * jnp.square(y["value"] - target["value"])[:, 0]


@pytest.mark.parametrize("weights", [None, W], ids=["", "weighted"])
def test_a_sum_on_named_outputs_is_the_sum(weights):
    w = jnp.ones(6) if weights is None else weights
    got = fnn.value_and_grad(NET, BOTH)(PARAMS, X, TARGET, None, weights)
    assert_equal(got, jax.value_and_grad(lambda p: (w * rows(p)).sum() / w.sum())(PARAMS))
    called = jax.value_and_grad(lambda p: BOTH(fnn.apply(NET, p, X), TARGET, weights))(PARAMS)
    assert_equal(called, got)
    each = BOTH.with_reduction("none")(fnn.apply(NET, PARAMS, X), TARGET, weights)
    assert_equal(each, w * rows(PARAMS))
    assert_equal(BOTH.value(fnn.apply(NET, PARAMS, X), TARGET, weights), got[0])


def test_entries_of_tuples_and_the_algebra_of_losses():
    huber = fnn.huber()
    pair = (X[:, :3], X[:, 3:])
    loss = 0.5 * huber.on(1) + ACTOR.on(0) * 2
    value, dy = loss.value_and_grad(pair, (LABEL, RETURNS))
    a, b = huber.value_and_grad(pair[1], RETURNS), ACTOR.value_and_grad(pair[0], LABEL)
    assert_equal((value, dy), (0.5 * a[0] + 2 * b[0], (2 * b[1], 0.5 * a[1])))
    assert sum([huber, ACTOR]) == huber + ACTOR and hash(2 * huber) == hash(2.0 * huber)
    assert 2 * (0.5 * huber + ACTOR) == 1.0 * huber + 2 * ACTOR
    assert (huber + ACTOR).on("y") == huber.on("y") + ACTOR.on("y")
    same = (0.5 * huber + 0.5 * huber).value_and_grad(X, X[::-1])
    assert_equal(same, huber.value_and_grad(X, X[::-1]))
    with pytest.raises(fnn.InputError, match="reduced alike"):
        huber + fnn.huber(reduction="sum")
    with pytest.raises(fnn.InputError, match="the entry 'value'"):
        huber.on("value")(pair, (LABEL, RETURNS))
    with pytest.raises(fnn.InputError, match="times a number"):
        jnp.ones(()) * huber  # pyright: ignore[reportOperatorIssue]
    with pytest.raises(fnn.InputError, match="a loss"):
        huber + 3
    with pytest.raises(fnn.InputError, match="one head with a tied weight"):
        fnn.LinearCrossEntropy(3, tied=(0, "embedding")) + fnn.LinearCrossEntropy(3, tied=(0, "embedding"))


def test_every_reader_works_on_a_sum():
    jacobian = jax.tree.map(np.asarray, jax.jacrev(rows)(PARAMS))
    squares = sum(np.square(g).reshape(6, -1).sum(1) for g in jax.tree.leaves(jacobian))
    losses, readings = fnn.readers.losses_and_readings(NET, BOTH, fnn.readers.squared_norm)(PARAMS, X, TARGET)
    assert_equal((losses, fnn.readers.sum_over_params(readings)), (rows(PARAMS), jnp.asarray(squares)), 1e-10)
    clipped = fnn.privacy.clipped_gradient(NET, BOTH, 0.5)(PARAMS, X, TARGET)
    c = 0.5 / np.maximum(0.5, np.sqrt(squares))
    assert_equal(clipped.gradient, jax.tree.map(lambda g: np.tensordot(c, g, 1), jacobian), 1e-10)
    y = fnn.forward(NET, PARAMS, X)[0]
    _, dy = BOTH.with_reduction("sum").value_and_grad(y, TARGET)
    lengths = np.sqrt(sum(np.square(d).sum(1) for d in jax.tree.leaves(dy)))
    assert_equal(fnn.attribution.el2n(NET, BOTH)(PARAMS, X, TARGET), jnp.asarray(lengths), 1e-10)
    init, step = fnn.train.update_in_backward(NET, BOTH, optax.sgd(0.1))
    new, _, _ = step(PARAMS, init(PARAMS, X), X, TARGET)
    grads = jax.grad(lambda p: rows(p).mean())(PARAMS)
    assert_equal(new, jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, grads))


def test_the_likelihood_of_a_sum_has_its_hessian():
    y = fnn.forward(NET, PARAMS, X)[0]
    likelihood = BOTH.likelihood
    assert likelihood is not None
    root = likelihood.root(y, TARGET)

    flat = jnp.concatenate([y["policy"], y["value"]], 1)
    columns = jnp.concatenate([root["policy"], root["value"]], 2)
    for i in range(6):
        assert_equal(columns[:, i].T @ columns[:, i], jax.hessian(of_row)(flat[i], i), 1e-10)
    assert (-1 * ACTOR).likelihood is None
    assert (ACTOR + fnn.losses.hinge()).likelihood is None
    draws = jax.vmap(lambda key: likelihood.sample(key, y, TARGET))(jax.random.split(jax.random.key(0), 4096))
    second = jnp.square(draws["value"]).mean(0)
    np.testing.assert_allclose(second, 0.5, rtol=6 * (2 / 4096) ** 0.5)  # the variance of a square is 2


def of_row(flat, i):
    """Return one row's value of its four outputs."""
    policy = -jax.nn.log_softmax(flat[:3])[LABEL[i]]
    return policy + 0.25 * jnp.square(flat[3:] - RETURNS[i]).sum()


@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_curvature_of_a_sum(fisher):
    diagonal = fnn.curvature.ggn_diagonal(NET, BOTH, fisher)(PARAMS, X, TARGET)
    curved = fnn.curvature.kronecker_factors(NET, BOTH, fisher)(PARAMS, X, TARGET)
    for of, whole in zip(jax.tree.leaves(diagonal), jax.tree.leaves(curved.gradient), strict=True):
        assert of.shape == whole.shape
    assert_equal(diagonal[1]["bias"], jnp.diagonal(curved.factors[1]["bias"].outputs), 1e-10)
    if fisher == "exact":
        basis = jnp.eye(4)
        zeros = jax.tree.map(jnp.zeros_like, PARAMS)
        product = fnn.curvature.ggn_product(NET, BOTH)
        wanted = [
            product(PARAMS, X, TARGET, (zeros[0], {"bias": e}))[1]["bias"][i] for i, e in enumerate(basis)
        ]
        assert_equal(diagonal[1]["bias"], jnp.stack(wanted), 1e-10)


def test_a_head_among_the_losses():
    head = fnn.LinearCrossEntropy(3, bias=False)
    loss = head.on("policy") + 0.1 * CRITIC.on("value")
    y = jax.eval_shape(lambda: fnn.forward(NET, PARAMS, X)[0])
    params = (PARAMS, loss.init(jax.random.key(1), y))
    assert params[1]["kernel"].shape == (3, 3)

    def plain(params):
        y = fnn.forward(NET, params[0], X)[0]
        picked = jax.nn.log_softmax(y["policy"] @ params[1]["kernel"])[jnp.arange(6), LABEL]
        return -picked + 0.05 * jnp.square(y["value"] - RETURNS)[:, 0]

    got = fnn.value_and_grad(NET, loss)(params, X, TARGET)
    assert_equal(got, jax.value_and_grad(lambda p: plain(p).mean())(params))
    _, readings = fnn.readers.losses_and_readings(NET, loss, fnn.readers.squared_norm)(params, X, TARGET)
    each = jax.tree.map(lambda g: np.square(g).reshape(6, -1).sum(1), jax.jacrev(plain)(params))
    assert_equal(readings, jax.tree.map(jnp.asarray, each), 1e-10)
    y = fnn.forward(NET, PARAMS, X)[0]
    value, (grads, _) = loss.value_and_grad(params[1], y, TARGET)
    assert_equal((value, grads), (got[0], got[1][1]))
    assert_equal(jax.grad(lambda own: loss(own, y, TARGET))(params[1]), grads)
    two = head.on("policy") + head.on("value")
    assert isinstance(two.init(jax.random.key(0), y), tuple)


WORDS = fnn.Serial(fnn.Embedding(5, 3), fnn.tanh, fnn.Heads((fnn.LayerNorm(), fnn.Dense(2))))
TIED = fnn.LinearCrossEntropy(5, tied=(0, "embedding"))
SUMS = {
    "a sum": 0.5 * TIED.on(0) + 2 * fnn.squared_error().on(1),
    "behind another head": fnn.LinearCrossEntropy(4).on(1) + 3 * TIED.on(0),
    "alone, weighted": 0.25 * TIED.on(0),
}
INDEX = jnp.array([[0, 1], [4, 2], [1, 1]])


def _tied_value(loss, params, index, target, weight=1.0):
    """Give the same value by plain code: the table is put beside the tied head's own params."""
    of_net, own = params
    y = fnn.output(WORDS, of_net, index)
    owns = list(own) if isinstance(own, tuple) else [own]
    total = jnp.zeros(())
    for term in loss.terms:
        entry, to = y[term.path[0]], target[term.path[0]]
        if not term.loss.has_params:
            total += term.weight * term.loss.value(entry, to)
            continue
        mine = owns.pop(0)
        mine = mine | {"embedding": of_net[0]["embedding"]} if term.loss.reads_net else mine
        total += term.weight * term.loss.value(mine, entry, to)
    return total * weight


@pytest.mark.parametrize("name", SUMS)
def test_a_tied_head_among_the_losses_gets_the_gradients_of_both_uses(name):
    loss = SUMS[name]
    of_net = jax.tree.map(lambda p: p.astype(jnp.float64), fnn.init(WORDS, jax.random.key(0), INDEX))
    own = jax.tree.map(
        lambda p: p.astype(jnp.float64), loss.init(jax.random.key(1), fnn.output(WORDS, of_net, INDEX))
    )
    label = jnp.array([[1, 0], [2, 3], [4, 4]])
    other = label % 4 if name == "behind another head" else jnp.cos(jnp.arange(12.0)).reshape(3, 2, 2)
    params, target = (of_net, own), (label, other)

    @jax.jit
    def run():
        def examples(params):
            return jax.vmap(
                lambda i, a, b: _tied_value(loss.with_reduction("sum"), params, i[None], (a[None], b[None]))
            )(INDEX, *target)

        read = fnn.readers.losses_and_readings(WORDS, loss, fnn.readers.squared_norm)
        return {
            "ours": fnn.value_and_grad(WORDS, loss)(params, INDEX, target),
            "scaled": fnn.value_and_grad(WORDS, loss)(params, INDEX, target, scale=8.0),
            "plain": jax.value_and_grad(lambda p: _tied_value(loss, p, INDEX, target))(params),
            "norms": read(params, INDEX, target),
            "jacobian": jax.jacrev(examples)(params),
            "losses": examples(params),
        }

    got = run()
    assert_equal(got["ours"], got["plain"])
    assert_equal(got["scaled"][1], jax.tree.map(lambda g: 8 * g, got["plain"][1]))
    losses, norms = got["norms"]
    squares = sum(jnp.square(leaf).reshape(3, -1).sum(1) for leaf in jax.tree.leaves(got["jacobian"]))
    assert_equal((losses, fnn.readers.sum_over_params(norms)), (got["losses"], squares), 1e-10)
