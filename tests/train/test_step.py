"""Training steps against those that one writes by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.proof import assert_equal

RANDOM = np.random.default_rng(0)
X = jnp.asarray(RANDOM.standard_normal((8, 5)))
LABEL = jnp.asarray(RANDOM.integers(0, 3, 8))
WEIGHTS = jnp.asarray(RANDOM.random(8)).at[2].set(0)
NET = fnn.mlp([5, 6, 3], fnn.gelu)
CE = fnn.softmax_cross_entropy()
KEY = jax.random.key(0)
ADAM = optax.adam(1e-2)


def taken(step: fnn.train.Step, *batches: Any, params: Any = None) -> tuple[fnn.train.State, list[Any]]:
    state, metrics = step.init(KEY, X, params), []
    for batch in batches:
        state, found = step(state, batch)
        metrics.append(found)
    return state, metrics


def by_hand(net: Any, loss: Any, optimizer: Any, params: Any, *batches: Any) -> tuple[Any, list[Any]]:
    state, values = optimizer.init(params), []
    for x, target, *weights in batches:
        value, grads = fnn.value_and_grad(net, loss)(params, x, target, None, *weights)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        values.append(value)
    return params, values


BATCHES = [(X, LABEL), (2 * X, LABEL[::-1]), (X[::-1], LABEL, WEIGHTS)]


def test_a_step_is_that_of_value_and_grad_and_the_optimizer():
    step = fnn.train.make_step(NET, CE, ADAM)
    params = step.init(KEY, X).params
    state, metrics = taken(step, *BATCHES)
    wanted, values = by_hand(NET, CE, ADAM, params, *BATCHES)
    assert_equal((state.params, [m["loss"] for m in metrics]), (wanted, values))
    assert int(state.step) == 3 and all(m["finite"] for m in metrics)
    assert (state.average, state.scale, state.spent) == ((), (), ())


def test_params_of_the_callers_are_copied_and_the_state_is_donated():
    step, params = fnn.train.make_step(NET, CE, ADAM, average=0.9), fnn.init(NET, KEY, X)
    state = step.init(KEY, X, params)
    step(state, BATCHES[0])
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.average)))
    kept = fnn.train.make_step(NET, CE, ADAM, donate=False)
    state = kept.init(KEY, X, params)
    assert_equal(kept(state, BATCHES[0])[0].params, kept(state, BATCHES[0])[0].params)


def test_a_step_is_plain_code_within_others():
    step = fnn.train.make_step(NET, CE, ADAM)
    stacked = jax.tree.map(lambda *leaf: jnp.stack(leaf), *BATCHES[:2])
    state, metrics = jax.jit(lambda state: jax.lax.scan(step.plain, state, stacked))(step.init(KEY, X))
    wanted, _ = taken(step, *BATCHES[:2])
    assert_equal(state.params, wanted.params)
    assert metrics["loss"].shape == (2,)


HEAD = fnn.LinearCrossEntropy(3, ignore=0)
LOSSES = {
    "mean": (CE, LABEL),
    "sum": (fnn.softmax_cross_entropy(reduction="sum"), LABEL),
    "head": (HEAD, LABEL),
    "sum of losses": (fnn.huber() + 0.5 * fnn.squared_error(), X[:, :3]),
    "rule": (lambda y, target: jnp.square(y - target).sum(-1), X[:, :3]),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_microbatches_add_up_to_the_whole_batch(name, size, weights):
    loss, target = LOSSES[name]
    batch = (X, target) if weights is None else (X, target, weights)
    sgd = optax.sgd(1.0)
    whole, of_whole = taken(fnn.train.make_step(NET, loss, sgd), batch)
    parts, of_parts = taken(fnn.train.make_step(NET, loss, sgd, microbatch=size), batch)
    assert_equal((parts.params, of_parts[0]["loss"]), (whole.params, of_whole[0]["loss"]))


BLOCKS = fnn.Serial(fnn.Dense(4), fnn.Repeat(fnn.Serial(fnn.Dense(4), fnn.relu), 3), fnn.Dense(3))
SQUARES = fnn.readers.reader("sum", like="param")(
    lambda factor, param: jnp.square(fnn.readers.example_gradient(factor, param)).sum(0)
)
MEAN = fnn.train.Metric(lambda o: o.readings, read=SQUARES)


@pytest.mark.parametrize("size", [None, 2])
def test_readers_run_beside_the_gradient(size):
    norms = fnn.train.Metric(lambda o: fnn.readers.sum_over_params(o.readings), read=fnn.readers.squared_norm)
    each = fnn.train.Metric(lambda o: o.readings, read=fnn.readers.example_gradient)
    step = fnn.train.make_step(
        BLOCKS, fnn.softmax_cross_entropy(reduction="sum"), ADAM, microbatch=size,
        metrics={"norms": norms, "each": each, "moment": MEAN, "norm": fnn.train.gradient_norm()},
    )  # fmt: skip
    params = step.init(KEY, X).params
    _, [found] = taken(step, (X, LABEL))
    read = fnn.readers.zip_readers(fnn.readers.squared_norm, fnn.readers.example_gradient, SQUARES)
    _, readings = fnn.readers.losses_and_readings(BLOCKS, CE, read)(params, X, LABEL)
    squares, gradients, moments = fnn.readers.unzip(params, readings)
    assert_equal(found["norms"], fnn.readers.sum_over_params(squares))
    assert_equal(found["each"], gradients)
    assert_equal(found["moment"], moments)
    _, grads = fnn.value_and_grad(BLOCKS, fnn.softmax_cross_entropy(reduction="sum"))(params, X, LABEL)
    assert_equal(found["norm"], optax.tree.norm(grads))


def gradients_of_examples(params: Any) -> Any:
    return jax.vmap(lambda x, t: jax.grad(lambda p: CE(fnn.apply(NET, p, x[None]), t[None]))(params))(
        X, LABEL
    )


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("scale", [None, fnn.train.LossScale(64.0)], ids=["plain", "scaled"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_noise_scale_is_that_of_the_examples_gradients(size, scale, reduction):
    step = fnn.train.make_step(
        NET, CE.with_reduction(reduction), ADAM, metrics={"noise": fnn.train.noise_scale()},
        microbatch=size, loss_scale=scale,
    )  # fmt: skip
    params = step.init(KEY, X).params
    keep = jnp.arange(8) != 3  # a weight of zero counts an example out
    _, [found] = taken(step, (X, LABEL, keep.astype(X.dtype)))
    each = gradients_of_examples(params)
    flat = jnp.concatenate([leaf.reshape(8, -1) for leaf in jax.tree.leaves(each)], 1)[
        jnp.array([0, 1, 2, 4, 5, 6, 7])
    ]
    flat = flat * (7 if reduction == "sum" else 1)
    trace = jnp.var(flat, axis=0, ddof=1).sum()
    square = jnp.sum(flat.mean(0) ** 2) - trace / 7
    assert_equal(found["noise"], {"trace": trace, "square": square, "scale": trace / square})


@pytest.mark.parametrize("size", [None, 2])
def test_dead_units_are_those_that_are_zero_for_the_whole_batch(size):
    net = fnn.mlp([5, 6, 3])
    params = fnn.init(net, KEY, X)
    params["first"]["bias"] = params["first"]["bias"].at[:2].set(-1e3)
    params["first"]["bias"] = params["first"]["bias"].at[2].set(1e3)
    step = fnn.train.make_step(net, CE, ADAM, microbatch=size, metrics={"dead": fnn.train.dead_units()})
    _, [found] = taken(step, (X, LABEL), params=params)
    hidden = jax.nn.relu(X @ params["first"]["kernel"] + params["first"]["bias"][None])
    assert_equal(found["dead"]['["activation"]'], (hidden == 0).all(0).mean(dtype=jnp.float32))
    assert found["dead"]['["output"]'] == 0


def test_watches_of_a_tied_head_see_the_network():
    net, head = (
        fnn.Serial(fnn.Embedding(7, 4), fnn.Dense(4)),
        fnn.LinearCrossEntropy(7, tied=(0, "embedding")),
    )
    index = jnp.asarray(RANDOM.integers(0, 7, (8, 3)))
    seen = fnn.train.Metric(lambda o: o.watched[0], watch=lambda z: z[".layers[1]"])
    step = fnn.train.make_step(net, head, ADAM, metrics={"seen": seen})
    state = step.init(KEY, index)
    wanted = fnn.output(net, state.params[0], index)
    _, found = step(state, (index, index))
    assert_equal(found["seen"], wanted)


def test_layers_and_updates_have_norms():
    metrics = {"layers": fnn.train.norms_by_layer(), "ratio": fnn.train.update_ratio()}
    step = fnn.train.make_step(NET, CE, optax.sgd(0.5), metrics=metrics)
    params = step.init(KEY, X).params
    _, [found] = taken(step, (X, LABEL))
    _, grads = fnn.value_and_grad(NET, CE)(params, X, LABEL)
    wanted = {jax.tree_util.keystr(path): jnp.linalg.norm(g) for path, g in jax.tree.leaves_with_path(grads)}
    assert_equal(found["layers"], wanted)
    assert_equal(found["ratio"], 0.5 * optax.tree.norm(grads) / optax.tree.norm(params))


@pytest.mark.parametrize("in_backward", [False, True])
def test_the_norm_of_the_gradient_is_bounded(in_backward):
    step = fnn.train.make_step(NET, CE, optax.sgd(1.0), clip=0.05, in_backward=in_backward)
    params = step.init(KEY, X).params
    state, _ = taken(step, *BATCHES[:2])
    wanted, _ = by_hand(
        NET, CE, optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(1.0)), params, *BATCHES[:2]
    )
    assert_equal(state.params, wanted)


def test_updates_during_the_backward_are_the_same():
    step = fnn.train.make_step(BLOCKS, CE, ADAM, in_backward=True, average=0.5)
    params = step.init(KEY, X).params
    state, metrics = taken(step, *BATCHES)
    wanted, values = by_hand(BLOCKS, CE, ADAM, params, *BATCHES)
    assert_equal((state.params, [m["loss"] for m in metrics]), (wanted, values))
    once, _ = by_hand(BLOCKS, CE, ADAM, params, BATCHES[0])
    first, _ = taken(step, BATCHES[0])
    assert_equal(first.average, jax.tree.map(lambda a, b: (a + b) / 2, params, once))


def test_the_average_follows_the_params():
    step = fnn.train.make_step(NET, CE, ADAM, average=0.75)
    average = step.init(KEY, X).params
    for i in range(3):
        params = taken(step, *BATCHES[: i + 1])[0].params
        average = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, average, params)
    assert_equal(taken(step, *BATCHES)[0].average, average)


BAD = (X.at[3, 1].set(jnp.nan), LABEL)


@pytest.mark.parametrize("options", [{}, {"in_backward": True, "clip": 1.0}, {"microbatch": 2}], ids=str)
@pytest.mark.parametrize("nonfinite", ["stop", "skip", "ignore"])
def test_what_is_not_finite_changes_nothing(options, nonfinite):
    step = fnn.train.make_step(NET, CE, ADAM, average=0.5, nonfinite=nonfinite, **options)
    before, _ = taken(step, BATCHES[0])
    after, metrics = taken(step, BATCHES[0], BAD)
    if nonfinite == "ignore":
        assert any(jnp.isnan(leaf).any() for leaf in jax.tree.leaves(after.params))
        return
    assert_equal(
        (after.params, after.optimizer, after.average), (before.params, before.optimizer, before.average)
    )
    assert [bool(m["finite"]) for m in metrics] == [True, False]
    later, _ = taken(step, BATCHES[0], BAD, BATCHES[1])
    if nonfinite == "stop":
        assert bool(after.halted) and int(after.step) == 1 and int(later.step) == 1
        assert_equal(later.params, before.params)
    else:
        assert not after.halted and int(later.step) == 3
        assert_equal(later.params, taken(step, BATCHES[0], BATCHES[1])[0].params)


def test_a_loss_scale_falls_where_the_gradient_overflows_and_rises_later():
    net = fnn.mlp([5, 6, 3], fnn.gelu, dtype=jnp.float16)
    scaling = fnn.train.LossScale(2.0**20, every=2)
    step = fnn.train.make_step(
        net, fnn.softmax_cross_entropy(reduction="sum"), optax.sgd(1e-3), loss_scale=scaling
    )
    x = (100 * X).astype(jnp.float32)
    state, scales = step.init(KEY, x), []
    for _ in range(12):
        state, metrics = step(state, (x, LABEL))
        scales.append(float(metrics["scale"]))
    assert scales[0] == 2.0**20 and min(scales) < 2.0**18  # it fell, without a stop
    falling = scales.index(min(scales))
    assert scales[: falling + 1] == [2.0 ** (20 - i) for i in range(falling + 1)]
    assert not state.halted and int(state.step) == 12
    assert scales[falling + 2] == 2 * scales[falling]
    _, [found] = taken(step, (x.at[0].set(jnp.nan), LABEL))
    assert not found["finite"]


def test_a_loss_scale_stops_at_a_loss_that_is_not_finite_and_at_the_least():
    step = fnn.train.make_step(NET, CE, ADAM, loss_scale=fnn.train.LossScale(2.0, least=1.0))
    state, _ = taken(step, BAD)
    assert bool(state.halted)

    def rule(y, target):  # finite, and its derivative is not
        return jnp.sqrt(jnp.abs(y - y)).sum(-1)

    step = fnn.train.make_step(NET, rule, ADAM, loss_scale=fnn.train.LossScale(4.0, least=1.0))
    state, metrics = taken(step, *3 * [(X, LABEL)])
    assert [float(m["scale"]) for m in metrics] == [4, 2, 1] and bool(state.halted)


def test_a_scaled_step_is_the_plain_one():
    plain, _ = taken(fnn.train.make_step(NET, CE, ADAM, clip=0.1), *BATCHES)
    kinds: list[dict[str, Any]] = [{}, {"microbatch": 4}, {"in_backward": True}]
    for options in kinds:
        step = fnn.train.make_step(NET, CE, ADAM, clip=0.1, loss_scale=fnn.train.LossScale(8.0), **options)
        assert_equal(taken(step, *BATCHES)[0].params, plain.params)


@pytest.mark.parametrize("size", [None, 4])
def test_private_steps_are_those_of_private_gradient(size):
    private = fnn.train.Private(norm=0.5, noise_multiplier=1.5, batch_size=4, sampling=0.25)
    step = fnn.train.make_step(NET, CE, optax.sgd(1.0), private=private, microbatch=size)
    start, mask = step.init(KEY, X), jnp.arange(8) < 5
    params, key = start.params, jax.random.fold_in(start.key, 0)
    gradient, info = fnn.privacy.private_gradient(NET, CE, 0.5, 1.5, 4)(params, X, LABEL, key, mask)
    wanted = jax.tree.map(jnp.subtract, params, gradient)
    state, metrics = step(start, (X, LABEL, mask))
    assert_equal(state.params, wanted)
    assert_equal(metrics["loss"], info.losses[:5].mean())
    spent = state.spent
    assert int(spent.steps) == 1
    assert spent.epsilon(1e-5) == pytest.approx(fnn.privacy.privacy_spent(1.5, 0.25, 1, 1e-5), rel=1e-6)
    other = fnn.train.Private(norm=0.5, noise_multiplier=1.0, batch_size=4, sampling=0.125)
    louder = other.after(spent)  # a run that goes on with less noise
    assert (float(louder.noise_multiplier), float(louder.sampling), int(louder.steps)) == (1.0, 0.25, 2)


def test_dropout_draws_anew_in_every_step_and_the_same_in_every_run():
    net = fnn.Serial(fnn.Dense(6), fnn.Dropout(0.5), fnn.Dense(3))
    step = fnn.train.make_step(net, CE, optax.sgd(0.0))
    _, first = taken(step, *3 * [(X, LABEL)])
    _, again = taken(step, *3 * [(X, LABEL)])
    losses = [float(m["loss"]) for m in first]
    assert losses == [float(m["loss"]) for m in again] and len(set(losses)) == 3
    _, quiet = taken(fnn.train.make_step(net, CE, optax.sgd(0.0), noise=False), *2 * [(X, LABEL)])
    assert quiet[0]["loss"] == quiet[1]["loss"]


class Coupled(fnn.Leaf):
    """A layer that centres over the batch."""

    couples_examples = True

    def init(self, key, x):
        return ()

    def forward(self, params, x, key):
        return x - x.mean(0, keepdims=True), ()

    def backward(self, params, x, y, extras, dy):
        return (), dy - dy.mean(0, keepdims=True)


COUPLING = {"microbatch": {"microbatch": 2}, "norms": {"metrics": {"noise": fnn.train.noise_scale()}}}


@pytest.mark.parametrize("name", COUPLING)
def test_examples_that_are_coupled_are_not_taken_apart(name):
    net = fnn.Serial(fnn.Dense(6), Coupled(), fnn.Dense(3))
    taken(fnn.train.make_step(net, CE, ADAM), (X, LABEL))
    with pytest.raises(fnn.InputError, match="couple"):
        taken(fnn.train.make_step(net, CE, ADAM, **COUPLING[name]), (X, LABEL))
