"""The loop of a training run: a plain loop over batches, and what one wants around it."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.errors import InputError
from fnn.train.batches import Batches, placed, prefetched
from fnn.train.checkpoint import Checkpoints
from fnn.train.logs import Line, Log
from fnn.train.run import Run
from fnn.train.signals import Stopping
from fnn.train.step import Step


class Fit(NamedTuple):
    """How a run ended.

    Args:
        state: the last state.
        reason: why it ended: "steps", "batches", "patience" or "hook".
        evaluations: of each evaluation a dict of numbers, with the "step".

    >>> Fit(None, "steps", []).reason
    'steps'
    """

    state: Any
    reason: str
    evaluations: list[dict[str, Any]]


def fit(
    step: Callable[[Any, Any], tuple[Any, dict[str, Any]]],
    state: Any,
    batches: Iterable[Any],
    *,
    steps: int | None = None,
    evaluate: Callable[[Any], dict[str, Any]] | None = None,
    evaluate_every: int = 1000,
    best: str | None = None,
    patience: int | None = None,
    hooks: Sequence[Callable[[Any, dict[str, Any]], bool | None]] = (),
    logs: Sequence[Log] = (),
    log_every: int = 100,
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    sharding: Any = None,
    prefetch: int = 2,
    profile: tuple[str, int, int] | None = None,
) -> Fit:
    """Run steps over batches: with evaluations, logs, checkpoints, and an end.

    The loop never waits for the devices but for what it has to know: metrics are read when they are there, at
    most eight steps later. With checkpoints, SIGTERM and SIGINT end the run after the step under way: it is
    saved, and the process leaves with status 143 or 130; a run that is resumed continues as if it had never
    stopped, bit for bit on the same devices.

    Args:
        step: `step(state, batch)` returns the new state and a dict of metrics: one of `make_step`, or yours.
        state: the state to begin with, a `State` or yours; its buffers are reused.
        batches: any iterable of batches. With `get_state` and `set_state` (`Batches`, grain's) it resumes
            where it stood; any other is begun anew, and as many batches are left out as were taken.
        steps: the number of steps in all, those before `resume` included; None for as many as there are
            batches.
        evaluate: `evaluate(state)` returns a dict of numbers, every `evaluate_every` steps and at the end.
        evaluate_every: the number of steps between evaluations.
        best: the number of an evaluation to watch, lower is better; "-accuracy" where higher is better. None
            for "loss", where an evaluation has one.
        patience: the number of evaluations without a better one after which the run ends, or None.
        hooks: functions `hook(state, metrics)`, called after each step with arrays that may not be there yet;
            the run ends where one returns True. The state is valid until the next step.
        logs: functions of a record, a dict: `json_lines`, `tensorboard`, or yours.
        log_every: the number of steps between records.
        progress: whether to show a line on the terminal.
        checkpoints: where to save the run, or None.
        resume: whether to go on from the last checkpoint, if there is one.
        sharding: how batches lie on the devices, such as `NamedSharding(mesh, P("data"))`, or a tree of
            these; None for the default device.
        prefetch: the number of batches that are on the devices ahead of the step.
        profile: `(folder, first, last)`, steps of which JAX's profiler keeps a trace; None for none.

    Returns:
        a `Fit`.

    Raises:
        InputError: where an argument does not fit; where the folder holds a run, and `resume` is False.
        NotFiniteError: where a loss or gradient is not finite and the step stops there: it names step, layer
            and example. The state before it is saved.

    >>> import fnn, jax.numpy as jnp, optax
    >>> x, label = np.ones((64, 4), np.float32), np.zeros(64, np.int32)
    >>> step = fnn.train.make_step(fnn.mlp([4, 8, 3]), fnn.softmax_cross_entropy(), optax.adam(1e-2))
    >>> done = fit(step, step.init(jax.random.key(0), x), fnn.train.Batches((x, label), 16), steps=10)
    >>> int(done.state.step), done.reason
    (10, 'steps')
    """
    _check(steps, evaluate_every, log_every, prefetch, profile)
    _check_together(step, batches, evaluate, patience, checkpoints, resume, sharding)
    best = "loss" if best is None and patience is not None else best
    line = Line(steps, progress)
    run = Run(step, state, checkpoints, logs, log_every, best, line.show)
    iterator, taken = run.begin(batches, resume)
    with ExitStack() as stack:
        stack.enter_context(line.begun(run.done))
        stopping = stack.enter_context(Stopping(checkpoints is not None))
        reason = "steps" if steps is not None and run.done >= steps else "batches"
        wanted = iter(()) if reason == "steps" else iterator
        for batch, before, after in prefetched(wanted, partial(placed, sharding=sharding), prefetch, taken):
            if profile is not None and run.done + 1 == profile[1]:
                jax.profiler.start_trace(profile[0])
                stack.callback(_end_trace)
            metrics = run.take(batch, before, after)
            if profile is not None and run.done == profile[2]:
                jax.block_until_ready(run.state)
                _end_trace()
            ended = any([hook(run.state, metrics) for hook in hooks])
            if evaluate is not None and run.done % evaluate_every == 0:
                run.evaluate(evaluate)
            if checkpoints is not None and checkpoints.due(run.done):
                run.save()
            if stopping.reached(run.done):
                run.save()
                stack.close()
                assert checkpoints is not None
                checkpoints.wait()
                stopping.leave()
            if ended or (patience is not None and run.since >= patience) or run.done == steps:
                reason = "hook" if ended else "steps" if run.done == steps else "patience"
                break
        run.settle()
        if reason == "batches" and steps is not None:
            text = (
                f"the batches ended after step {run.done:,} of {steps:,}: give more of them, or epochs=None"
            )
            warnings.warn(text, UserWarning, stacklevel=2)
        if evaluate is not None and not (run.evaluations and run.evaluations[-1]["step"] == run.done):
            run.evaluate(evaluate)
        run.save()
    if checkpoints is not None:
        checkpoints.wait()
    return Fit(run.state, reason, run.evaluations)


def _end_trace() -> None:
    """End the profiler's trace, if there is one."""
    with suppress(RuntimeError):
        jax.profiler.stop_trace()


def _check_together(
    step: Any, batches: Any, evaluate: Any, patience: Any, checkpoints: Any, resume: bool, sharding: Any
) -> None:
    """Raise where an argument does not go with another."""
    call = "fnn.train.fit(step, state, batches, {})"
    if resume and checkpoints is None:
        fix = call.format("checkpoints=checkpoints, resume=True")
        raise InputError("fit", "checkpoints to resume from", "resume=True without checkpoints", fix)
    if patience is not None and evaluate is None:
        fix = call.format(f"evaluate=evaluate, patience={patience}")
        raise InputError("fit", "an evaluation to watch", f"patience={patience} without evaluate", fix)
    if isinstance(sharding, jax.sharding.PartitionSpec):
        fix = f"NamedSharding(mesh, {sharding!r})"
        raise InputError("fit", "a sharding, of a mesh", repr(sharding), fix)
    private = step.private if isinstance(step, Step) else None
    if private is not None and isinstance(batches, Batches) and batches.probability != private.sampling:
        wanted = (
            f"batches that draw each example with probability {private.sampling}, as the accountant is told"
        )
        fix = f"fnn.train.Batches(data, {batches.size}, sampling={private.sampling})"
        raise InputError("fit", wanted, f"Batches of sampling={batches.sampling}", fix)


def _check(steps: Any, evaluate_every: Any, log_every: Any, prefetch: Any, profile: Any) -> None:
    """Raise where a number is out of its range."""
    call = "fnn.train.fit(step, state, batches, {})"
    for name, value, least in (
        ("steps", 1 if steps is None else steps, 0),
        ("evaluate_every", evaluate_every, 1),
        ("log_every", log_every, 1),
        ("prefetch", prefetch, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError("fit", f"{name} >= {least}", repr(value), call.format(f"{name}={max(least, 1)}"))
    if profile is not None and not 1 <= profile[1] <= profile[2]:
        fix = call.format('profile=("profile", 10, 12)')
        raise InputError("fit", "a profile (folder, first step, last step)", repr(profile), fix)
