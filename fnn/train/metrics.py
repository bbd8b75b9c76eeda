"""Metrics of a training step, read in the pass that makes its gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fnn.arrays import PyTree, accumulator
from fnn.core import Params
from fnn.errors import InputError, describe
from fnn.reader import Reader
from fnn.readers.examples import squared_norm
from fnn.readings import sum_over_params


class Observed(NamedTuple):
    """What a metric of a step is computed from.

    Args:
        loss: the value of the loss, ().
        params: the params before the update.
        grads: their gradient, without the loss scale, before clipping; the private one of a private step.
        updates: what the optimizer adds to the params.
        readings: what the metric's own reader read, a tree like the params; () where it has none. It is
            divided by no loss scale.
        watched: what the metric's own `watch` returned, with an axis 0 of the microbatches; () without.
        scale: the loss scale, (), 1 where there is none.
        examples: the number of examples of the batch whose weight is not 0, ().

    >>> norm = lambda observed: jnp.abs(observed.grads["bias"]).max()
    >>> float(norm(Observed(0.0, {}, {"bias": jnp.array([1.0, -2.0])}, {})))
    2.0
    """

    loss: Array
    params: Params
    grads: Params
    updates: Params
    readings: Any = ()
    watched: Any = ()
    scale: Any = 1.0
    examples: Any = 1


@dataclass(frozen=True)
class Metric:
    """A metric of a step.

    Args:
        compute: `compute(observed)` returns an array, or a pytree of arrays; `observed` is an `Observed`.
        read: a reader that runs beside the gradient, in the same pass, or None. With microbatches it must
            declare how its readings join ("sum" or "concatenate").
        watch: `watch(activations)` returns what is wanted of the outputs of all layers of the forward, a dict
            as `fnn.describe.activations` returns it; None where they are not wanted.

    >>> import fnn, optax
    >>> largest = Metric(lambda observed: observed.watched.max(), watch=lambda z: z['["output"]'])
    >>> net, loss, x = fnn.mlp([4, 8, 3]), fnn.softmax_cross_entropy(), jnp.ones((8, 4))
    >>> step = fnn.train.make_step(net, loss, optax.sgd(0.1), metrics={"largest": largest})
    >>> state, metrics = step(step.init(jax.random.key(0), x), (x, jnp.zeros(8, jnp.int32)))
    >>> sorted(metrics)
    ['finite', 'largest', 'loss']
    """

    compute: Callable[[Observed], Any]
    read: Reader | None = None
    watch: Callable[[dict[str, PyTree[Array]]], Any] | None = None


MetricLike = Metric | Callable[[Observed], Any]


def as_metrics(metrics: Mapping[str, MetricLike]) -> dict[str, Metric]:
    """Return metrics by name; a function of an `Observed` is made a `Metric`.

    Args:
        metrics: the metrics.

    Raises:
        InputError: where one is none, or has a name that the step uses.
    """
    taken, found = {"loss", "finite", "scale"}, {}
    for name, metric in metrics.items():
        if name in taken or not (isinstance(metric, Metric) or callable(metric)):
            wanted = f"a metric, or a function of an Observed, of a name that is none of {sorted(taken)}"
            fix = 'fnn.train.make_step(net, loss, optimizer, metrics={"norm": fnn.train.gradient_norm()})'
            raise InputError("make_step", wanted, f"{name!r}: {describe(metric)}", fix)
        found[name] = metric if isinstance(metric, Metric) else Metric(metric)
    return found


def gradient_norm() -> Metric:
    """Return the metric of the norm of the whole gradient, ().

    >>> float(gradient_norm().compute(Observed(0.0, {}, {"bias": jnp.array([3.0, 4.0])}, {})))
    5.0
    """
    return Metric(lambda observed: jnp.sqrt(_square(observed.grads)))


def norms_by_layer() -> Metric:
    """Return the metric of the norm of each param's gradient, a dict by the param's path.

    Stacked params of a `Repeat` have one norm for all uses.

    >>> norms_by_layer().compute(Observed(0.0, {}, {"bias": jnp.array([3.0, 4.0])}, {}))
    {"['bias']": Array(5., dtype=float32)}
    """

    def compute(observed: Observed) -> dict[str, Any]:
        found = jax.tree.leaves_with_path(observed.grads)
        return {jax.tree_util.keystr(path): jnp.sqrt(_square(grad)) for path, grad in found}

    return Metric(compute)


def update_ratio() -> Metric:
    """Return the metric of the norm of the update divided by that of the params, (); about 1e-3 is usual.

    >>> observed = Observed(0.0, {"bias": jnp.ones(4)}, {}, {"bias": jnp.full(4, 0.5)})
    >>> float(update_ratio().compute(observed))
    0.5
    """
    return Metric(lambda o: jnp.sqrt(_square(o.updates) / jnp.maximum(_square(o.params), 1e-30)))


def noise_scale() -> Metric:
    """Return the metric of the simple gradient noise scale, (): the batch size beyond which noise is small.

    tr(covariance of the examples' gradients) / |mean gradient|^2, both without bias, from the norms of the
    examples, which are read in the same pass. It is noisy: average numerator and denominator over many steps,
    and divide then. Weights of 0 count an example out. Needs two examples or more.

    Returns of `compute`:
        {"trace": (), "square": (), "scale": ()}: numerator, denominator, and their quotient.

    Source: McCandlish et al. 2018, appendix A.1.

    >>> noise_scale().read is squared_norm
    True
    """

    def compute(observed: Observed) -> dict[str, Any]:
        squares = sum_over_params(observed.readings)  # of the examples' shares of the gradient
        n, scale = (jnp.asarray(value, squares.dtype) for value in (observed.examples, observed.scale))
        mean = n * (squares / jnp.square(scale)).sum()  # of |g_i|^2, where g_i is n times its share
        whole = _square(observed.grads).astype(squares.dtype)
        trace = n / (n - 1) * (mean - whole)
        square = whole - trace / n
        return {"trace": trace, "square": square, "scale": trace / square}

    return Metric(compute, read=squared_norm)


def dead_units() -> Metric:
    """Return the metric of the share of units whose output is zero for the whole batch, a dict by layer.

    Layers with no such unit have 0; those whose outputs cannot be made from what was kept are left out.

    >>> watched = dead_units().watch({"hidden": jnp.array([[0.0, 1.0], [0.0, 0.0]])})
    >>> dead_units().compute(Observed(0.0, {}, {}, {}, watched=jax.tree.map(lambda v: v[None], watched)))
    {'hidden': Array(0.5, dtype=float32)}
    """

    def watch(activations: dict[str, Any]) -> dict[str, Any]:
        floating = {k: v for k, v in activations.items() if isinstance(v, jax.Array) and v.ndim > 1}
        return {place: (leaf != 0).any(tuple(range(leaf.ndim - 1))) for place, leaf in floating.items()}

    def compute(observed: Observed) -> dict[str, Any]:
        return {place: (~alive.any(0)).mean(dtype=jnp.float32) for place, alive in observed.watched.items()}

    return Metric(compute, watch=watch)


def _square(tree: Any) -> Any:
    """Return the squared norm of a tree, in float32 or wider; 0 of a tree without leaves."""
    leaves = [jnp.sum(jnp.square(leaf.astype(accumulator(leaf.dtype)))) for leaf in jax.tree.leaves(tree)]
    with jax.numpy_dtype_promotion("standard"):
        return sum(leaves[1:], leaves[0]) if leaves else jnp.zeros(())
