"""Value and gradient by a pipeline: the same as those of the network, stage by stage on several devices."""

from collections.abc import Callable
from math import gcd
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from fnn.arrays import PyTree, canonical, shapes_of
from fnn.chunks import cut_up
from fnn.core import Layer, Params, forward
from fnn.errors import InputError, describe
from fnn.losses.noise import warn_without_key
from fnn.losses.objective import LossLike, Objective, as_objective
from fnn.pipeline.cut import Cut, Shares, cut
from fnn.pipeline.schedule import Schedule
from fnn.pipeline.slots import Tick, kinds, table
from fnn.pipeline.stage import Stage, put
from fnn.readers.coupling import check_loss_uncoupled, check_uncoupled
from fnn.sharding import placed, shards_of, varying_like


def value_and_grad(
    net: Layer, loss: LossLike, mesh: Mesh, schedule: Schedule, axis: str = "stage", *, noise: bool = True
) -> Callable[..., tuple[Array, PyTree[Any]]]:
    """Return the function `(params, x, target, key=None, weights=None, scale=None) -> (value, grads)`.

    It is that of `fnn.value_and_grad`, by a pipeline: of a chain with a `Repeat` of n layers each device has
    n / stages of them, with their params and gradients, and gets every microbatch in turn. What is before
    the `Repeat` runs on the first stage, a second time in its backward; what is behind it, and the loss, on
    the last. Call the function within `jax.jit`.

    Args:
        net: the network, a chain with one `Repeat`, whose params are not shared, or a `Repeat`.
        loss: a loss of reduction "mean" or "sum", as for `fnn.value_and_grad`.
        mesh: a mesh with the axis; what lies on its other axes is left to the compiler.
        schedule: the schedule, of as many stages as the axis has devices.
        axis: the name of the axis of the stages.
        noise: False where no noise is wanted; else a call without a key warns if a layer draws noise.

    Args of the function:
        params: the params of `net`, placed by `shardings`; a pair of these and the loss's where it has some.
        x: the input (n, ..., k), or a tree of arrays; n is a multiple of the microbatches.
        target: the targets of the loss.
        key: the random key for dropout, or None; noise is that of `make_step` with so many microbatches.
        weights: the weights of the examples or of the rows.
        scale: a number that multiplies the loss's gradient, as for `fnn.value_and_grad`.

    Returns of the function:
        the value, (), and the gradient, a tree like the params that lies as they do. Sums over microbatches
        are made in float32 or wider.

    Raises:
        InputError: where the network cannot be cut so, schedule and mesh do not fit, the loss reads the
            network's params, or, on a call, the batch does not divide or examples are coupled.

    Source: Huang et al. 2019, arXiv 1811.06965; the split of the backward: Qi et al. 2023, arXiv 2401.10241.

    >>> import fnn
    >>> net, loss = fnn.Repeat(fnn.Dense(2), 4), fnn.half_squared_error()
    >>> mesh, x = jax.make_mesh((1,), ("stage",)), jnp.ones((6, 2))
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> of = value_and_grad(net, loss, mesh, fnn.pipeline.zero_bubble(stages=1, microbatches=3))
    >>> value, grads = jax.jit(of)(params, x, jnp.zeros((6, 2)))
    >>> bool(jnp.allclose(value, fnn.value_and_grad(net, loss)(params, x, jnp.zeros((6, 2)))[0]))
    True
    """
    loss = as_objective("pipeline", loss, net)
    _check(loss, mesh, schedule, axis)
    whole = cut(net, loss.with_reduction("sum"), len(schedule.stages))

    def run(
        params: Params, x: Any, target: Any, key: Any = None, weights: Any = None, scale: Any = None
    ) -> tuple[Any, Any]:
        params, x, target, weights = canonical((params, x, target, weights))
        if noise:
            warn_without_key(net, key, "fnn.pipeline.value_and_grad(net, loss, mesh, schedule, noise=False)")
        data = _microbatches(net, loss, schedule.microbatches, params, x, target, key, weights)
        shares = whole.split(params)
        if dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[axis] == AxisType.Explicit:
            own = jax.tree.map(lambda leaf: _cut_along(leaf, mesh, axis), shares.body)
            shares = shares._replace(body=own)
        specs = Shares(PartitionSpec(), PartitionSpec(axis), PartitionSpec(), PartitionSpec())
        mapped = jax.shard_map(
            lambda *args: _on_a_stage(whole, schedule, axis, *args),
            mesh=mesh,
            in_specs=(specs, PartitionSpec(), PartitionSpec()),
            out_specs=(PartitionSpec(), specs),
            axis_names={axis},
        )
        value, grads = mapped(shares, data, scale)
        return value, whole.merge(grads, params)

    return run


def shardings(
    net: Layer, params: Params, mesh: Mesh, axis: str = "stage", *, loss: LossLike | None = None
) -> Any:
    """Return where the params of a pipeline lie: those of the `Repeat` in shares, all others everywhere.

    Args:
        net: the network, as for `value_and_grad`.
        params: its params, or their shapes; a pair with those of the loss where that has some.
        mesh: the mesh.
        axis: the name of the axis of the stages.
        loss: the loss, where params of its own are among these.

    Returns:
        a tree like the params of `jax.sharding.NamedSharding`.

    Raises:
        InputError: where the mesh has no such axis, or the network cannot be cut so.

    >>> import fnn
    >>> net, mesh = fnn.Repeat(fnn.Dense(2), 4), jax.make_mesh((1,), ("stage",))
    >>> params = fnn.init(net, jax.random.key(0), jnp.ones((1, 2)))
    >>> shardings(net, params, mesh)["kernel"].spec
    P('stage',)
    """
    objective = as_objective("pipeline", (lambda y, t: y) if loss is None else loss)
    _check_axis(mesh, axis, mesh.shape.get(axis, 2))
    whole = cut(net, objective, mesh.shape[axis])
    shares = whole.split(params)
    everywhere, own = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec(axis)))
    lie = [
        jax.tree.map(lambda _, to=own if name == "body" else everywhere: to, share)
        for name, share in zip(Shares._fields, shares, strict=True)
    ]
    return whole.merge(Shares(*lie), params)


def _on_a_stage(
    whole: Cut, schedule: Schedule, axis: str, params: Shares, data: Any, scale: Any
) -> tuple[Any, Shares]:
    """Run all ticks of one stage, and return the value and its share of the gradient."""
    ticks, sizes = table(schedule)
    count, number = whole.stages, lax.axis_index(axis)
    own, data, scale = varying_like((params, data, scale), number)
    own = own._replace(body=whole.stretched(own.body))
    stage = Stage(whole, own, data, scale, number)
    is_last = number == count - 1

    def step(held: Any, tick: Tick) -> tuple[Any, None]:
        held = stage.run(held, tick, kinds(schedule))
        x = _sent(held.y, axis, [(i, i + 1) for i in range(count - 1)])
        dy = _sent(held.dx, axis, [(i + 1, i) for i in range(count - 1)])
        dy = jax.tree.map(lambda own, sent: jnp.where(is_last, own, sent), held.y, dy)
        after = put(held.after, tick.arrives_after, dy)
        return held._replace(before=put(held.before, tick.arrives_before, x), after=after), None

    rows = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(jnp.asarray(leaf), number, 1, False), ticks)
    held, _ = lax.scan(step, stage.empty(sizes), rows)
    grads = held.grads._replace(body=whole.flat(held.grads.body))
    grads = jax.tree.map(lambda grad, param: grad.astype(param.dtype), grads, params)
    everywhere = [lax.psum(share, axis) for share in (grads.first, grads.last, grads.loss)]
    first, last, of_loss = everywhere
    return lax.psum(held.value, axis), Shares(first, grads.body, last, of_loss)


def _cut_along(leaf: Any, mesh: Mesh, axis: str) -> Any:
    """Return stacked params sharded over the stages, where shardings are types."""
    own = jax.typeof(leaf).sharding
    rest = (None,) * (leaf.ndim - 1) if own.mesh.empty else own.spec[1:]
    return placed(leaf, NamedSharding(mesh, PartitionSpec(axis, *rest)))


def _sent(tree: Any, axis: str, pairs: list[tuple[int, int]]) -> Any:
    return jax.tree.map(lambda leaf: lax.ppermute(leaf, axis, pairs), tree)


def _microbatches(
    net: Layer, loss: Objective, count: int, params: Params, x: Any, target: Any, key: Any, weights: Any
) -> tuple[Any, Any, Any, Any]:
    """Cut the data: input, targets, weights that make a sum of the loss, keys, each (microbatches, ...)."""
    of_net = loss.split(params)[0]
    check_uncoupled("pipeline", net, of_net, x)
    n = jax.tree.leaves(x)[0].shape[0]
    if n % count:
        wanted, fix = (
            f"examples that the {count} microbatches divide",
            f"jnp.ones(({-(-n // count) * count}, 4))",
        )
        raise InputError("pipeline", wanted, f"{n} examples", fix)
    shapes = shapes_of("pipeline", of_net)  # without their shardings: no scan goes along an axis that is cut
    y = jax.eval_shape(lambda params, x: forward(net, params, x)[0], shapes, x)
    if loss.couples_examples is not False:
        check_loss_uncoupled("pipeline", loss, y, target)
    data = x, target, loss.coefficients(y, target, weights)
    shards = gcd(n // count, max(map(shards_of, jax.tree.leaves(data))))
    keys = None if key is None else jax.random.split(key, count)
    return *jax.tree.map(lambda leaf: cut_up(leaf, count, shards), data), keys


def _check(loss: Objective, mesh: Any, schedule: Any, axis: str) -> None:
    if not isinstance(schedule, Schedule):
        fix = "fnn.pipeline.one_f_one_b(stages=2, microbatches=4)"
        raise InputError("pipeline", "a fnn.pipeline.Schedule", describe(schedule), fix)
    _check_axis(mesh, axis, len(schedule.stages))
    if loss.reduction == "none":
        wanted = 'a loss of reduction "mean" or "sum"'
        raise InputError("pipeline", wanted, repr(loss), 'loss.with_reduction("mean")')
    if loss.reads_net:
        wanted = "a loss that does not read the network's params, which lie on another stage"
        raise InputError("pipeline", wanted, repr(loss), "fnn.LinearCrossEntropy(V)")


def _check_axis(mesh: Mesh, axis: str, stages: int) -> None:
    if mesh.shape.get(axis) != stages:
        wanted = f"a mesh with an axis {axis!r} of {stages} devices, one for each stage"
        fix = f"jax.make_mesh(({stages},), ({axis!r},))"
        raise InputError("pipeline", wanted, str(dict(mesh.shape)), fix)
