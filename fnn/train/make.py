"""`make_step`: a training step out of a network, a loss and an optimizer."""

from collections.abc import Mapping
from typing import Any, get_args

from fnn.core import Layer
from fnn.errors import InputError, describe
from fnn.losses.noise import draws_noise
from fnn.losses.objective import LossLike, as_objective
from fnn.train.gradients import InParts, Pass
from fnn.train.metrics import MetricLike, as_metrics
from fnn.train.private import Private
from fnn.train.scaling import LossScale
from fnn.train.several import is_optimizer
from fnn.train.step import NotFinite, Step
from fnn.train.update import update_in_backward
from fnn.train.updates import AfterGradient, InBackward, PrivateGradient


def make_step(
    net: Layer,
    loss: LossLike,
    optimizer: Any,
    *,
    clip: float | None = None,
    microbatch: int | None = None,
    average: float | None = None,
    loss_scale: LossScale | None = None,
    nonfinite: NotFinite | None = None,
    metrics: Mapping[str, MetricLike] = {},
    private: Private | None = None,
    in_backward: bool = False,
    noise: bool = True,
    donate: bool = True,
) -> Step:
    """Make a training step: `step(state, batch)` returns the new state and the metrics.

    The step is a pure, compiled function; its state, which `step.init` makes, is a pytree, on any mesh that
    its arrays lie on. Mixed precision is the `dtype` of the layers.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, of reduction "mean" or "sum", or a function of your own, as for
            `fnn.Loss`.
        optimizer: an optax optimizer; with `in_backward` one that updates each param by itself.
        clip: the most that the norm of the whole gradient may be, > 0; None for no bound.
        microbatch: the number of examples to process at a time, which bounds the memory; None for all. The
            gradient is that of the whole batch, up to the order of the sum.
        average: the decay, in (0, 1), of an exponential moving average of the params, which `state.average`
            holds; None for none.
        loss_scale: a `LossScale`, for float16; None for no scale.
        nonfinite: what happens at a loss or gradient that is not finite. "stop": nothing changes any more,
            and `state.halted` is True, so that the fault can be found; "skip": the step changes nothing;
            "ignore": nobody looks. None for "stop", but "ignore" where `in_backward` has no `clip`.
        metrics: by name, what to compute beside the loss: a `Metric`, or a function of an `Observed`.
        private: a `Private`, for differentially private steps; None for others.
        in_backward: whether params are updated during the backward pass, as `update_in_backward` does it.
        noise: False for no noise in layers, such as dropout.
        donate: whether a call reuses the buffers of its state, which then cannot be read any more.

    Raises:
        InputError: where an option is out of its range, or does not go with another.

    >>> import fnn, jax, jax.numpy as jnp, optax
    >>> net, loss = fnn.mlp([4, 8, 3]), fnn.softmax_cross_entropy()
    >>> step = make_step(net, loss, optax.adam(1e-2), metrics={"norm": fnn.train.gradient_norm()})
    >>> x, label = jnp.ones((16, 4)), jnp.zeros(16, jnp.int32)
    >>> state = step.init(jax.random.key(0), x)
    >>> for _ in range(3):
    ...     state, metrics = step(state, (x, label))
    >>> sorted(metrics), int(state.step)
    (['finite', 'loss', 'norm'], 3)
    """
    loss = as_objective("make_step", loss, net)
    many = not is_optimizer(optimizer) and not in_backward
    limits = {
        "an optax optimizer": (not many, describe(optimizer), "optax.adam(1e-3)"),
        'a loss of reduction "mean" or "sum"': (
            loss.reduction != "none",
            repr(loss),
            'loss.with_reduction("mean")',
        ),
        "clip > 0": (clip is None or clip > 0, repr(clip), _call("clip=1.0")),
        "average in (0, 1)": (average is None or 0 < average < 1, repr(average), _call("average=0.999")),
    }
    for wanted, (fits, got, fix) in limits.items():
        if not fits:
            raise InputError("make_step", wanted, got, fix)
    if nonfinite is None:
        nonfinite = "ignore" if in_backward and clip is None else "stop"
    if nonfinite not in get_args(NotFinite):
        wanted = f"nonfinite to be one of {get_args(NotFinite)}"
        raise InputError("make_step", wanted, repr(nonfinite), _call('nonfinite="skip"'))
    if loss_scale is not None and nonfinite == "ignore":
        got = "nonfinite='ignore', or in_backward without a clip"
        fix = _call('loss_scale=fnn.train.LossScale(), nonfinite="stop", clip=1.0')
        raise InputError("make_step", "a loss scale that is told what is finite", got, fix)
    named, noisy = as_metrics(metrics), noise and draws_noise(net)
    if in_backward:
        if named or microbatch is not None or private is not None:
            wanted = "in_backward without metrics, microbatch and private, which need the gradient"
            raise InputError("make_step", wanted, "one of these", _call("in_backward=True"))
        skip = nonfinite != "ignore"
        update = update_in_backward(net, loss, optimizer, clip=clip, noise=noisy, skip=skip)
        updates = InBackward(update)
    else:
        readers = tuple(metric.read for metric in named.values() if metric.read is not None)
        watches = tuple(metric.watch for metric in named.values() if metric.watch is not None)
        if private is not None and (readers or watches):
            wanted = "metrics of the gradient and the update alone: what is read of examples is not private"
            fix = _call('private=private, metrics={"norm": fnn.train.gradient_norm()}')
            raise InputError("make_step", wanted, "a metric with `read` or `watch`", fix)
        gradient = Pass(net, loss, readers, watches)
        if private is not None:
            gradient = PrivateGradient(net, loss, private, microbatch)
        elif microbatch is not None:
            gradient = InParts(gradient, microbatch)
        updates = AfterGradient(gradient, optimizer, named, clip)
    return Step(net, loss, updates, average, loss_scale, private, nonfinite, noise, donate)


def _call(options: str) -> str:
    return f"fnn.train.make_step(net, loss, optimizer, {options})"
