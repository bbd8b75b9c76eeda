"""The loop with what others made: data by grain, TensorBoard, which reads its events; both are optional."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import fnn

RANDOM = np.random.default_rng(0)
X, LABEL = RANDOM.standard_normal((64, 4)).astype(np.float32), RANDOM.integers(0, 3, 64).astype(np.int32)


def step_and_state() -> tuple[fnn.train.Step, fnn.train.State]:
    step = fnn.train.make_step(fnn.mlp([4, 8, 3]), fnn.softmax_cross_entropy(), optax.adam(1e-2))
    return step, step.init(jax.random.key(0), X)


def of_grain() -> Any:
    grain = pytest.importorskip("grain")
    rows = grain.MapDataset.source(list(zip(X, LABEL, strict=True))).shuffle(seed=0).repeat()
    return iter(rows.batch(16).to_iter_dataset())


def test_a_run_by_grain_goes_on_where_it_stopped(tmp_path):
    step, state = step_and_state()
    whole = fnn.train.fit(step, state, of_grain(), steps=6)
    net = step.net
    for steps in (4, 6):
        step, state = step_and_state()
        with fnn.train.Checkpoints(tmp_path, net, X, every=2) as checkpoints:
            done = fnn.train.fit(step, state, of_grain(), steps=steps, checkpoints=checkpoints, resume=True)
    assert int(done.state.step) == 6
    for a, b in zip(jax.tree.leaves(done.state.params), jax.tree.leaves(whole.state.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tensorboard_reads_what_a_run_logs(tmp_path):
    pytest.importorskip("tensorboardX")
    read = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    step, state = step_and_state()
    batches = fnn.train.Batches((X, LABEL), 16)
    lines: list[dict[str, Any]] = []
    logs = [fnn.train.tensorboard(Path(tmp_path)), lines.append]
    fnn.train.fit(step, state, batches, steps=4, logs=logs, log_every=1)
    events = read.EventAccumulator(str(tmp_path))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert len(found) == 4
    assert found == pytest.approx({line["step"]: line["loss"] for line in lines if "loss" in line})
