"""Updates during the backward pass: every param is updated as soon as its factor exists."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import accumulator, canonical
from fnn.compose.in_place import InPlace, replaced
from fnn.compose.ordering import with_dependency
from fnn.core import Layer, Params
from fnn.errors import InputError
from fnn.factors import Examples, Factor, Outer, Rows, Total, cotangent, is_factor, with_cotangent
from fnn.losses.noise import warn_without_key
from fnn.losses.objective import LossLike, as_objective
from fnn.reader import Reader, gradient
from fnn.readers.examples import squared_norm
from fnn.reading import Reading, Stacked
from fnn.readings import sum_over_params, unzip
from fnn.sharding import varying_axes
from fnn.train.leafwise import check_leafwise, check_state
from fnn.train.several import Own, chosen, distinct, is_optimizer, numbered
from fnn.train.stacks import over_stack, stack_rank, stacked_axes


class Update(NamedTuple):
    """A training step, and the function that makes its state: two pure functions.

    Args:
        init: `(params, x) -> state`.
        step: `(params, state, x, target, key=None, weights=None, scale=None) -> (params, state, value)`.

    >>> import fnn, optax
    >>> fnn.train.update_in_backward(fnn.Dense(1), fnn.squared_error(), optax.sgd(0.1))._fields
    ('init', 'step')
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Any, Any]]


def update_in_backward(
    net: Layer,
    loss: LossLike,
    optimizer: Any,
    *,
    clip: float | None = None,
    noise: bool = True,
    skip: bool = False,
    reduce: str | tuple[str, ...] | None = None,
) -> Update:
    """Return the functions of a training step that updates every param during the backward pass.

    `step` returns what `value_and_grad`, `optimizer.update` and `optax.apply_updates` return, but every param
    is updated as soon as its factor exists, inside the reverse loop of a `Repeat` too. dx is computed from
    the weight that the forward used. Under `jax.jit(step, donate_argnums=(0, 1))` params and state are
    updated in place:
    memory holds one copy of them, the kept boundaries, and the transients of one layer or one use of a
    `Repeat`.

    With `clip` no update can begin before the norm of the whole gradient is known. Until then the smaller of
    two things is kept of each param: the factor, n (k + j) numbers for n rows, with its norm from the Gram
    form, sum (x x^T) * (dz dz^T); or, for n above kj / (k + j), the gradient, k j numbers. The Gram form
    costs 2n^2 (k + j) flops, less than the gradient, and has a rounding error relative to (sum_i |x_i|
    |dz_i|)^2.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, or a function of your own, as for `fnn.Loss`. Where it has params
            (`fnn.LinearCrossEntropy`), `params` and `state` are pairs.
        optimizer: an optax optimizer that updates each param independently of the others, or a tree like the
            params with such a one in the place of each, or of a subtree, instead of `optax.multi_transform`.
            Each layer of a `Repeat` has a state of its own, so adafactor or lamb see layers, not their stack.
        clip: the most that the norm of the whole gradient may be, as in `optax.clip_by_global_norm`; None for
            no bound.
        noise: False where no noise is wanted; else a call without a key warns if a layer draws noise.
        skip: whether a step whose gradient is not finite leaves params and state as they are; the value is
            then NaN. Needs `clip`, as without it updates are made before the whole gradient is known.
        reduce: within `shard_map`, the axes of the mesh over which gradients are summed before they are used,
            () for none; let the loss be each device's share. Needed only where varying axes are not checked.

    Args of the functions:
        params, x, target, key, weights, scale: as for the function of `value_and_grad`; gradients are divided
            by `scale` before they are clipped and used. `init` accepts shapes for `x`.
        state: what `init` or the last `step` returned: the optimizer's own in the place of each param.

    Returns of `step`:
        the new params, the new state, and the value of the loss.

    Raises:
        InputError: where `clip` is not > 0, or missing beside `skip`, or `optimizer` is none; from `init`,
            where the update of a param is found to depend on the others in two steps on small random trees;
            from `step`, where `reduce` is missing.

    Source: Lv et al. 2023 (LOMO), who use a second backward pass for the norm.

    >>> import fnn, optax
    >>> net, x, label = fnn.mlp([4, 8, 3]), jnp.ones((16, 4)), jnp.zeros(16, jnp.int32)
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> loss = fnn.softmax_cross_entropy()
    >>> init, step = fnn.train.update_in_backward(net, loss, optax.adam(1e-2), clip=1.0)
    >>> params, state, value = jax.jit(step, donate_argnums=(0, 1))(params, init(params, x), x, label)
    """
    from optax import apply_updates  # not when fnn is imported: it is heavy

    loss = as_objective("update_in_backward", loss, net)
    optimizers = distinct(optimizer)
    if clip is not None and not clip > 0:
        fix = "fnn.train.update_in_backward(net, loss, optimizer, clip=1.0)"
        raise InputError("update_in_backward", "clip > 0", repr(clip), fix)
    if skip and clip is None:
        fix = 'fnn.train.update_in_backward(net, loss, optimizer, skip=True, clip=float("inf"))'
        raise InputError("update_in_backward", "a clip, to know the gradient before it is used", "None", fix)

    def init(params: Params, x: Any) -> Any:
        params = canonical(params)
        of_net, of_loss = loss.split(params)
        unstacked = jax.tree.map(lambda _: jnp.zeros(()), of_loss)
        stacked = loss.merge(stacked_axes(net, of_net, x), unstacked)
        layers = jax.tree.map(
            lambda p, axes: jax.ShapeDtypeStruct(p.shape[axes.ndim :], p.dtype), params, stacked
        )
        which = numbered(optimizer, optimizers, params)
        for i, one in enumerate(optimizers):
            check_leafwise("update_in_backward", one, chosen(layers, which, i))

        def own(param: Any, axes: Any, i: int) -> Any:
            state = over_stack(optimizers[i].init, axes.ndim)(param)
            return state if is_optimizer(optimizer) else Own(state, i)

        with jax.numpy_dtype_promotion("standard"):  # optax asks for promotions
            return jax.tree.map(own, params, stacked, which)

    def update(scale: Any, grad: Any, param: Any, state: Any, keep: Any = None) -> tuple[Any, Any]:
        old = param, state
        with jax.numpy_dtype_promotion("standard"):
            grad = grad if scale is None else grad * scale.astype(grad.dtype)
            i, inner = (state.which, state.state) if isinstance(state, Own) else (0, state)
            updates, inner = optimizers[i].update(grad, inner, param)
            state = Own(inner, i) if isinstance(state, Own) else inner
            new = apply_updates(param, updates), state
            return new if keep is None else jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)

    def step(
        params: Params,
        state: Any,
        x: Any,
        target: Any,
        key: Any = None,
        weights: Any = None,
        scale: Any = None,
    ) -> tuple[Any, Any, Any]:
        params, state, x, target, weights = canonical((params, state, x, target, weights))
        if noise:
            warn_without_key(net, key, "fnn.train.update_in_backward(net, loss, optimizer, noise=False)")
        check_state(state, params)
        axes = _axes_to_reduce(reduce, (params, x, target))

        def back(read: Reading) -> tuple[Any, Any]:
            return loss.through(net, params, x, target, key, weights, read, scale)

        rows = jax.tree.map(lambda *row: row, params, state)
        if clip is None:
            undo = None if scale is None else 1 / jnp.asarray(scale, jnp.float32)
            value, rows = back(InPlace(partial(update, undo), params, rows, read=partial(_read, axes)))
        else:
            value, readings = back(
                Stacked(Reader(partial(_smaller, axes), "gradient", plain=False), (params,))
            )
            squares, held = unzip(params, readings)
            norm = jnp.sqrt(sum_over_params(squares, axes=0))
            undo = jnp.ones_like(norm) if scale is None else 1 / jnp.asarray(scale, norm.dtype)
            bound = jnp.asarray(clip, norm.dtype) / (norm * undo)
            by, keep = undo * jnp.where(norm * undo < clip, 1, bound), jnp.isfinite(norm) if skip else None
            rows = after_all(partial(update, by, keep=keep), params, rows, squares, held)
            value = value if keep is None else jnp.where(keep, value, jnp.nan)
        params, state = (jax.tree.map(lambda _, row, k=k: row[k], params, rows) for k in range(2))
        return params, state, value

    def after_all(update: Any, params: Params, rows: Any, squares: Any, held: Any) -> Any:
        turn = jnp.ones(())  # of a leaf: gradients are made one after the other

        def one(held: Any, param: Any, row: tuple[Any, Any], square: Any) -> tuple[Any, Any]:
            nonlocal turn
            if isinstance(held, Factor):
                form = held.form()
                held = with_cotangent(form, cotangent(form) * turn.astype(cotangent(form).dtype))
            row = replaced(update, held, param, row, axes=square.ndim, read=partial(_read, ()))
            turn = with_dependency(turn, row[0])
            return row

        return jax.tree.map(one, held, params, rows, squares, is_leaf=is_factor)

    return Update(init, step)


def _smaller(axes: tuple[str, ...], factor: Factor, param: Any) -> tuple[Any, Any]:
    """Read |gradient|^2, and the factor or the gradient, whichever holds fewer numbers; the sum over shards
    if many.
    """
    if stack_rank(factor, param):
        return jax.vmap(partial(_smaller, axes))(factor, param)
    whole = not axes and not varying_axes(*jax.tree.leaves(factor)) - varying_axes(param)
    if (
        whole
        and isinstance(factor, Factor)
        and sum(leaf.size for leaf in jax.tree.leaves(factor)) <= param.size
    ):
        form = factor.form()
        if not isinstance(form, Examples):
            with jax.default_matmul_precision("highest"):  # the Gram form cancels
                return jnp.maximum(squared_norm(_as_one_example(form), param)[0], 0), factor
    grad = _read(axes, factor, param)
    return jnp.sum(jnp.square(grad.astype(accumulator(grad.dtype)))), grad


def _read(axes: tuple[str, ...], factor: Factor | Any, param: Any, *leaves: Any) -> Any:
    """Return the gradient, summed over the axes of a mesh."""
    grad = gradient(factor, param)
    return lax.psum(grad, axes) if axes else grad


def _axes_to_reduce(reduce: str | tuple[str, ...] | None, data: Any) -> tuple[str, ...]:
    """Return the axes over which gradients are added up here; where varying axes are checked that is done by
    then.
    """
    leaves = jax.tree.leaves(data)
    manual = {name for leaf in leaves for name in jax.typeof(leaf).sharding.mesh.manual_axes}
    if varying_axes(*leaves) or not manual:
        return ()
    if reduce is None:
        wanted = f"the axes to add gradients up over, of {sorted(manual)}, as none is seen to vary"
        fix = f"fnn.train.update_in_backward(net, loss, optimizer, reduce={tuple(sorted(manual))})"
        raise InputError("update_in_backward", wanted, "reduce=None", fix)
    axes = (reduce,) if isinstance(reduce, str) else tuple(reduce)
    if not manual.issuperset(axes):
        fix = f"fnn.train.update_in_backward(net, loss, optimizer, reduce={tuple(sorted(manual))})"
        raise InputError("update_in_backward", f"axes of {sorted(manual)}", f"reduce={reduce!r}", fix)
    return axes


def _as_one_example(form: Outer | Total | Rows) -> Factor:
    """Return the form with all its rows as the tokens of one example: its gradient is the whole gradient."""
    batch = form.dz.ndim - 1
    return jax.tree.map(lambda leaf: leaf.reshape(1, -1, *leaf.shape[batch:]), form)
