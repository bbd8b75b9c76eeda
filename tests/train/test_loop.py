"""The loop around a step: what it calls, when it ends, what it leaves behind."""

import json
import os
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn.train import Batches, Checkpoints, NotFiniteError, fit, json_lines
from tests.proof import assert_equal

RANDOM = np.random.default_rng(0)
X, LABEL = RANDOM.standard_normal((64, 4)), RANDOM.integers(0, 3, 64)
NET = fnn.Serial(fnn.Dense(8), fnn.relu, fnn.Dropout(0.25), fnn.Dense(3))
CE = fnn.softmax_cross_entropy()
STEP = fnn.train.make_step(NET, CE, optax.adam(1e-2), average=0.9)


def start(step: fnn.train.Step = STEP) -> fnn.train.State:
    return step.init(jax.random.key(0), X)


def batches(**options: Any) -> Batches:
    return Batches((X, LABEL), 16, **options)


def same(a: Any, b: Any) -> bool:
    """Tell whether two states are the same, bit for bit."""
    pairs = zip(jax.tree.leaves(data(a)), jax.tree.leaves(data(b)), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def data(state: Any) -> Any:
    return state._replace(key=jax.random.key_data(state.key))


def test_it_is_a_plain_loop():
    state = start()
    for _, batch in zip(range(10), batches(), strict=False):
        state, _ = STEP(state, batch)
    done = fit(STEP, start(), batches(), steps=10)
    assert same(done.state, state) and done.reason == "steps" and done.evaluations == []


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_batches_are_taken_in_their_order(prefetch):
    seen = []

    def step(state: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
        seen.append(int(batch))
        return state, {}

    assert fit(step, 0, range(7), prefetch=prefetch).reason == "batches"
    assert seen == list(range(7))


def test_batches_that_end_early_are_told():
    with pytest.warns(UserWarning, match="ended after step 8 of 10"):
        done = fit(STEP, start(), batches(epochs=2), steps=10)
    assert done.reason == "batches" and int(done.state.step) == 8


def test_evaluations_come_every_so_often_and_at_the_end():
    called = []

    def evaluate(state: fnn.train.State) -> dict[str, Any]:
        called.append(int(state.step))
        return {"loss": jnp.float32(1 / len(called)), "more": {"deep": 2}}

    done = fit(STEP, start(), batches(), steps=10, evaluate=evaluate, evaluate_every=4)
    assert called == [4, 8, 10]
    assert done.evaluations[1] == {"step": 8, "loss": 0.5, "more/deep": 2}


@pytest.mark.parametrize("best, values, steps", [("loss", [3, 2, 2, 2.5], 4), ("-loss", [1, 2, 3, 0, 0], 5)])
def test_patience_ends_a_run_that_gets_no_better(best, values, steps):
    values = iter(values)
    done = fit(
        STEP,
        start(),
        batches(),
        evaluate=lambda _: {"loss": next(values)},
        evaluate_every=1,
        patience=2,
        best=best,
    )
    assert done.reason == "patience" and int(done.state.step) == steps


def test_an_evaluation_of_nan_is_no_better():
    values = iter([2.0, np.nan, np.nan])
    done = fit(
        STEP, start(), batches(), evaluate=lambda _: {"loss": next(values)}, evaluate_every=1, patience=2
    )
    assert int(done.state.step) == 3


def test_hooks_see_each_step_and_end_the_run():
    losses = []

    def hook(state: fnn.train.State, metrics: dict[str, Any]) -> bool:
        losses.append(float(metrics["loss"]))
        return int(state.step) == 6

    done = fit(STEP, start(), batches(), steps=10, hooks=[hook, lambda *_: None])
    assert done.reason == "hook" and len(losses) == 6


def test_records_are_lines_of_json(tmp_path):
    path, seen = tmp_path / "new" / "log.jsonl", []
    path.parent.mkdir()
    path.write_text('{"kept": true}\n')
    step = fnn.train.make_step(NET, CE, optax.sgd(0.1), metrics={"norms": fnn.train.norms_by_layer()})
    fit(
        step, start(step), batches(), steps=6, log_every=2, logs=[json_lines(path), seen.append],
        evaluate=lambda _: {"loss": float("nan")}, evaluate_every=3,
    )  # fmt: skip
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"kept": True}
    assert [line["step"] for line in lines[1:]] == [2, 3, 4, 6, 6] == [record["step"] for record in seen]
    assert lines[2] == {"step": 3, "evaluation/loss": "nan"}
    assert {"loss", "finite", "norms/layers[0]/bias"} < {
        key.replace("norms/['layers']", "") for key in lines[1]
    } | {"norms/layers[0]/bias"}
    with pytest.raises(fnn.InputError, match="a file"):
        json_lines(tmp_path)


def test_the_line_on_the_terminal_shows_steps_and_loss(capsys):
    fit(STEP, start(), batches(), steps=4, log_every=1, progress=True)
    shown = capsys.readouterr().out
    assert "4/4" in shown and "loss" in shown and "steps/s" in shown


def test_a_profile_is_written(tmp_path):
    fit(STEP, start(), batches(), steps=4, profile=(str(tmp_path), 2, 3))
    assert list(tmp_path.rglob("*.xplane.pb"))


BAD = X.copy()
BAD[[5, 9]] = np.inf


@pytest.mark.parametrize("ahead", [1, 4])
def test_what_is_not_finite_is_named(ahead, tmp_path):
    data = [(X[:16], LABEL[:16]), (BAD[:16], LABEL[:16])] + ahead * [(X[:16], LABEL[:16])]
    with Checkpoints(tmp_path, NET, X) as checkpoints, pytest.raises(NotFiniteError) as raised:
        fit(STEP, start(), data, checkpoints=checkpoints)
    assert str(raised.value) == "step 2: the batch's [0] of examples 5, 9 is not finite"
    assert raised.value.step == 2
    state, _ = STEP(start(), data[0])
    with Checkpoints(tmp_path, NET, X) as checkpoints:  # the state before that step is saved
        restored = checkpoints.restore(start())
        assert restored is not None and restored.step == 1 and same(restored.state, state)
        assert fit(STEP, start(), data[:3:2], checkpoints=checkpoints, resume=True).state.step == 2


ONES = np.ones(16, np.float32)
INFINITE, ZERO = ONES.copy(), ONES.copy()
INFINITE[3], ZERO[7] = 1e30, 0


def changed(name: str, by: Any) -> Any:
    return lambda params: {**params, "first": {**params["first"], name: by(params["first"][name])}}


FAULTS = {  # a loss, the params, input and target, and what is found
    "param": (CE, changed("bias", lambda b: b.at[0].set(jnp.nan)), X, LABEL, "params['first']['bias']"),
    "layer": (
        CE,
        changed("kernel", lambda w: 1e20 * w),
        1e30 * X,
        LABEL,
        'the output of ["first"] of examples 0',
    ),
    "loss": (lambda y, t: jnp.abs(y[:, 0]) * 1e20 * t, lambda p: p, X, INFINITE, "the loss of example 3"),
    "gradient": (
        lambda y, t: jnp.sqrt(jnp.abs(y[:, 0]) * t),
        lambda p: p,
        X,
        ZERO,
        "the gradient of example 7",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_thing_that_is_not_finite_is_named(name):
    loss, change, x, target, what = FAULTS[name]
    step = fnn.train.make_step(fnn.mlp([4, 8, 3]), loss, optax.sgd(0.1))
    params = jax.tree.map(lambda p: p.astype(jnp.float32), change(start(step).params))
    x = x[:16].astype(np.float32)
    with pytest.raises(NotFiniteError, match="step 1: ") as raised:
        fit(step, step.init(jax.random.key(0), x, params), [(x, target[:16])])
    assert what in str(raised.value)


def test_steps_of_ones_own_stop_at_a_loss_that_is_not_finite():
    def step(state: Any, batch: Any) -> Any:
        return state + 1, {"loss": jnp.log(3.0 - state)}

    with pytest.raises(NotFiniteError, match="step 4: the loss"):
        fit(jax.jit(step), jnp.array(0.0), iter(range(9)))


def test_skipped_steps_go_on():
    step = fnn.train.make_step(NET, CE, optax.adam(1e-2), nonfinite="skip")
    done = fit(step, start(step), [(BAD[:16], LABEL[:16]), (X[:16], LABEL[:16])])
    assert done.state.step == 2 and all(
        jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(done.state.params)
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize("at", [1, 3, 7])
def test_a_run_that_is_resumed_is_the_run_that_never_stopped(tmp_path, resumable, at):
    def data() -> Any:
        own = batches(seed=3)
        return own if resumable else (batch for batch in own)

    whole = fit(STEP, start(), data(), steps=9)

    def kill(state: fnn.train.State, metrics: dict[str, Any]) -> None:
        if int(state.step) == at:
            raise Killed

    with Checkpoints(tmp_path, NET, X, every=2) as checkpoints, pytest.raises(Killed):
        fit(STEP, start(), data(), steps=9, checkpoints=checkpoints, hooks=[kill])
    with Checkpoints(tmp_path, NET, X, every=2) as checkpoints:
        done = fit(STEP, start(), data(), steps=9, checkpoints=checkpoints, resume=True)
        assert same(done.state, whole.state)
        again = fit(STEP, start(), data(), steps=9, checkpoints=checkpoints, resume=True)
        assert again.reason == "steps" and same(again.state, whole.state)
        with pytest.raises(fnn.InputError, match="resume=True"):
            fit(STEP, start(), data(), steps=12, checkpoints=checkpoints)
        more = fit(STEP, start(), data(), steps=12, checkpoints=checkpoints, resume=True)
        assert same(more.state, fit(STEP, start(), data(), steps=12).state)
    net, params = fnn.train.load(tmp_path)
    assert net == NET
    assert_equal(params, more.state.params)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_run_and_leaves_with_its_status(tmp_path, number, status):
    def tell(state: fnn.train.State, metrics: dict[str, Any]) -> None:
        if int(state.step) == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with Checkpoints(tmp_path, NET, X) as checkpoints, pytest.raises(SystemExit) as left:
        fit(STEP, start(), batches(), steps=9, checkpoints=checkpoints, hooks=[tell])
    assert left.value.code == status and signal.getsignal(number) is before
    with Checkpoints(tmp_path, NET, X) as checkpoints:
        done = fit(STEP, start(), batches(), steps=9, checkpoints=checkpoints, resume=True)
    assert same(done.state, fit(STEP, start(), batches(), steps=9).state)


def test_the_best_evaluation_is_kept(tmp_path):
    values = iter([3.0, 1.0, 2.0, 4.0, 5.0])
    options = {"evaluate": lambda _: {"loss": next(values)}, "evaluate_every": 2}
    with Checkpoints(tmp_path, NET, X, every=2, keep=1, best="loss") as checkpoints:
        fit(STEP, start(), batches(), steps=10, checkpoints=checkpoints, **options)
    _, params = fnn.train.load(tmp_path, best=True)
    assert_equal(params, fit(STEP, start(), batches(), steps=4).state.params)


def test_batches_lie_as_the_sharding_says():
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    rows = NamedSharding(mesh, P("data"))
    seen = []

    def step(state: Any, batch: Any) -> Any:
        seen.append(jax.tree.map(lambda leaf: leaf.sharding, batch))
        return state, {}

    fit(step, 0, batches(), steps=2, sharding=rows)
    fit(step, 0, batches(), steps=2, sharding=(rows, NamedSharding(mesh, P())))
    assert seen[0] == (rows, rows) and seen[2] == (rows, NamedSharding(mesh, P()))
    with pytest.raises(fnn.InputError, match="divides over") as raised:
        fit(step, 0, Batches((X, LABEL), 15), sharding=rows)
    assert "Batches(data, 14)" in str(raised.value)


def test_orders_differ_by_epoch_and_seed_and_cover_the_data():
    rows = np.arange(12)
    one, other = Batches(rows, 4, seed=0, epochs=2), Batches(rows, 4, seed=1, epochs=2)
    drawn = np.array(list(one)).reshape(2, 12)
    assert all(sorted(epoch) == list(rows) for epoch in drawn) and (drawn[0] != drawn[1]).any()
    assert (np.array(list(other)).reshape(2, 12) != drawn).any()
    again = Batches(rows, 4, seed=0, epochs=2)
    again.set_state({"position": 4})
    assert np.array_equal(np.array(list(again)).ravel(), drawn[1, 4:]) and len(again) == 3
    assert np.array_equal(np.array(list(Batches(rows, 5, seed=None, epochs=1))).ravel(), rows[:10])


def test_private_batches_draw_each_example_by_itself():
    drawn = Batches((X, LABEL), 40, sampling=0.25)
    x, label, mask = next(drawn)
    assert x.shape == (40, 4) and mask.sum() > 0
    rows = [int(np.flatnonzero((X == row).all(1))[0]) for row in x[mask]]
    assert len(set(rows)) == len(rows) and np.array_equal(LABEL[rows], label[mask])
    sizes = [next(drawn)[2].sum() for _ in range(300)]
    assert abs(np.mean(sizes) - 16) < 4 * np.sqrt(64 * 0.25 * 0.75 / 300)
    assert abs(np.var(sizes) - 12) < 5  # of a binomial distribution
    with pytest.raises(fnn.InputError, match="holds every draw"):
        for _ in range(100):
            next(Batches((X, LABEL), 8, sampling=0.5))


MISTAKES = [
    (dict(steps=-1), "steps >= 0"), (dict(log_every=0), "log_every >= 1"), (dict(evaluate_every=0), "every"),
    (dict(prefetch=-1), "prefetch >= 0"), (dict(profile=("x", 3, 2)), "a profile"),
    (dict(steps=2, evaluate=lambda _: {"accuracy": 1.0}, best="loss"), "an evaluation with 'loss'"),
    (dict(steps=2, evaluate=lambda _: {"accuracy": 1.0}, patience=1), "expected an evaluation with"),
    (dict(steps=2, patience=1), "an evaluation to watch"),
    (dict(steps=2, resume=True), "checkpoints to resume from"),
    (dict(steps=2, sharding=jax.sharding.PartitionSpec("data")), "a sharding, of a mesh"),
]  # fmt: skip


@pytest.mark.parametrize("options, wanted", MISTAKES, ids=[wanted for _, wanted in MISTAKES])
def test_mistakes_are_told(options, wanted):
    with pytest.raises(fnn.InputError, match=wanted):
        fit(STEP, start(), batches(), **options)


@pytest.mark.parametrize("batch", [(X,), X, (X, LABEL, None, None)], ids=["one", "array", "four"])
def test_a_batch_is_a_pair_or_has_weights(batch):
    with pytest.raises(fnn.InputError, match=r"\(x, target\)"):
        fit(STEP, start(), [batch])


def test_an_evaluation_without_a_loss_is_watched_for_nothing():
    done = fit(STEP, start(), batches(), steps=2, evaluate=lambda _: {"accuracy": 0.5}, evaluate_every=1)
    assert [found["accuracy"] for found in done.evaluations] == [0.5, 0.5]


PRIVATE = fnn.train.Private(norm=1.0, noise_multiplier=1.1, batch_size=8, sampling=0.125)


@pytest.mark.parametrize("options", [{}, {"sampling": 0.25}], ids=["shuffled", "drawn otherwise"])
def test_batches_that_the_accountant_is_not_told_of_are_refused(options):
    step = fnn.train.make_step(NET, CE, optax.sgd(0.1), private=PRIVATE)
    with pytest.raises(fnn.InputError, match="probability 0.125, as the accountant is told"):
        fit(step, start(step), batches(**options), steps=1)
    with pytest.raises(fnn.InputError, match=r"\(x, target, mask\)"):
        step(start(step), (X[:16], LABEL[:16]))
    done = fit(step, start(step), batches(sampling=0.125), steps=1)
    assert int(done.state.spent.steps) == 1


def test_a_private_step_of_all_examples_needs_no_mask():
    whole = fnn.train.Private(norm=1.0, noise_multiplier=1.1, batch_size=len(X), sampling=1.0)
    step = fnn.train.make_step(NET, CE, optax.sgd(0.1), private=whole)
    done = fit(step, start(step), Batches((X, LABEL), len(X)), steps=1)
    assert int(done.state.spent.steps) == 1


@pytest.mark.parametrize("kinds", ["array", "list", "both"])
def test_a_run_goes_on_with_batches_of_another_kind(tmp_path, kinds):
    listed = [next(b) for b in [batches(seed=None)] for _ in range(4)]
    alone = fit(STEP, start(), batches(seed=None), steps=4)
    first, then = {"array": (batches(seed=None), listed), "list": (listed, batches(seed=None))}.get(
        kinds, (listed, listed)
    )
    with Checkpoints(tmp_path) as checkpoints:
        fit(STEP, start(), first, steps=2, checkpoints=checkpoints)
    with Checkpoints(tmp_path) as checkpoints:
        done = fit(STEP, start(), then, steps=4, checkpoints=checkpoints, resume=True)
    assert same(done.state, alone.state)


def test_batches_that_go_on_in_another_order_say_so():
    state = batches(seed=1).get_state()
    with pytest.warns(UserWarning, match="seed 0 go on where those of seed 1 stood"):
        batches().set_state(state)
    batches().set_state({"position": 3})  # as they were saved before
