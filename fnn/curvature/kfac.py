"""KFAC as an optax optimizer: gradients times the damped inverse of averaged Kronecker factors."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.core import Layer
from fnn.curvature.eigen import eigen, kronecker_solve
from fnn.curvature.kronecker import kronecker_shapes
from fnn.errors import InputError, check_number, describe, refuted

if TYPE_CHECKING:  # it is heavy, and few ask for it
    import optax


class KfacState(NamedTuple):
    """The state of KFAC between two steps.

    Args:
        count: the number of steps, () int32.
        factors: the running averages of the blocks, not yet corrected for their start from zero.
        blocks: the eigenbasis of the averages, as it was last updated.
    """

    count: Any
    factors: Any
    blocks: Any


def kfac(
    net: Layer,
    x: Any,
    learning_rate: Any,
    *,
    damping: Any = 1e-3,
    decay: Any = 0.95,
    every: int = 10,
    momentum: Any = 0.9,
    norm_constraint: float | None = 1e-2,
    bias: str = "joint",
) -> "optax.GradientTransformationExtraArgs":
    """Build the KFAC optimizer for the params of `net`.

    A step is -learning_rate (F + damping I)^-1 gradient, with momentum added. The averages of the factors are
    corrected for their start from zero.

    Args:
        net: the network, any layer.
        x: a batch (n, ..., k) or its `jax.ShapeDtypeStruct`, as for `fnn.init`.
        learning_rate: a number or an optax schedule. `optax.inject_hyperparams` takes the other numbers too.
        damping: a number > 0, added to the eigenvalues of F.
        decay: the weight of the past in the averages of the factors, 0 <= decay < 1.
        every: the number of steps between two updates of the eigenbasis; the first steps update it as well.
        momentum: the decay of the sum of past steps, 0 <= momentum < 1.
        norm_constraint: the most that learning_rate^2 p^T F p, the change of the model that F predicts, may
            be: a larger step is made smaller. None for no bound.
        bias: "joint" or "separate", as for `kronecker_factors`.

    Returns:
        an optimizer whose `update(gradient, state, params, factors=factors)` takes the factors of the batch,
        by `kronecker_factors(net, loss, "sampled", bias=bias)`.

    Raises:
        InputError: where a number is out of its range, or, on an update, the factors are not those of `net`.

    Cost: a step 4kj(k + j) flops a layer for the product, and 9(k^3 + j^3) / every for the eigenbasis.
    Source: Martens, Grosse 2015; norm constraint: Ba, Grosse, Martens 2017.

    >>> import fnn, optax
    >>> net, x, label = fnn.mlp([4, 8, 3]), jnp.ones((16, 4)), jnp.zeros(16, jnp.int32)
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> optimizer = fnn.curvature.kfac(net, x, 0.1)
    >>> curved = fnn.curvature.kronecker_factors(net, fnn.softmax_cross_entropy(), "sampled", bias="joint")
    >>> value, gradient, factors = curved(params, x, label, jax.random.key(1))
    >>> updates, state = optimizer.update(gradient, optimizer.init(params), params, factors=factors)
    >>> params = optax.apply_updates(params, updates)
    """
    import optax

    for wanted, value, condition, right in (
        ("damping > 0", damping, lambda damping: damping > 0, "damping=1e-3"),
        ("0 <= decay < 1", decay, lambda decay: 0 <= decay < 1, "decay=0.95"),
        ("every >= 1", every, lambda every: every >= 1, "every=10"),
        ("0 <= momentum < 1", momentum, lambda momentum: 0 <= momentum < 1, "momentum=0.9"),
    ):
        check_number("kfac", wanted, value, condition, f"fnn.curvature.kfac(net, x, 0.1, {right})")
    return optax.chain(
        scale_by_kfac(net, x, damping=damping, decay=decay, every=every, bias=bias,
                      norm_constraint=norm_constraint, learning_rate=learning_rate),
        optax.identity() if refuted(lambda momentum: momentum != 0, momentum) else optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )  # fmt: skip


def scale_by_kfac(
    net: Layer,
    x: Any,
    *,
    damping: Any = 1e-3,
    decay: Any = 0.95,
    every: int = 10,
    bias: str = "joint",
    norm_constraint: float | None = None,
    learning_rate: Any = 1.0,
) -> "optax.GradientTransformationExtraArgs":
    """Build the preconditioner of KFAC alone, to chain with other optax transformations.

    Args:
        net: the network, any layer.
        x: a batch (n, ..., k) or its `jax.ShapeDtypeStruct`.
        damping: a number > 0, added to the eigenvalues of F.
        decay: the weight of the past in the averages of the factors, 0 <= decay < 1.
        every: the number of steps between two updates of the eigenbasis.
        bias: "joint" or "separate", as for `kronecker_factors`.
        norm_constraint: as for `kfac`; None for no bound.
        learning_rate: a number or schedule for the norm constraint alone; the result is not multiplied by it.

    Returns:
        a transformation whose `update` takes `factors`, as that of `kfac` does.

    Raises:
        InputError: on an update, where the factors are not those of `net`.

    >>> import fnn, optax
    >>> net, x, params = fnn.Dense(1, bias=False), jnp.ones((2, 1)), {"kernel": jnp.ones((1, 1))}
    >>> optimizer = optax.chain(scale_by_kfac(net, x), optax.scale(-0.1))
    >>> int(optimizer.init(params)[0].count)
    0
    """
    import optax

    def start(params: Any) -> KfacState:
        shapes = kronecker_shapes(net, params, x, bias)
        factors = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return KfacState(jnp.zeros((), jnp.int32), factors, eigen(factors))

    def update(updates: Any, state: Any, params: Any = None, *, factors: Any = None, **others: Any):
        if jax.tree.structure(factors) != jax.tree.structure(state.factors):
            fix = f'fnn.curvature.kronecker_factors(net, loss, "sampled", bias={bias!r})'
            got = describe(jax.tree.structure(factors))
            raise InputError("kfac", "factors like those of the net", got, fix)
        count = state.count + 1
        kept = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.factors, factors)

        def refreshed() -> Any:
            return eigen(jax.tree.map(lambda leaf: leaf / (1 - decay ** count.astype(leaf.dtype)), kept))

        due = (state.count % every == 0) | (state.count < 3)
        blocks = jax.lax.cond(due, refreshed, lambda: state.blocks)
        steps = kronecker_solve(blocks, updates, damping)
        if norm_constraint is not None:
            rate: Any = learning_rate(state.count) if callable(learning_rate) else learning_rate
            rate = jnp.asarray(rate).astype(jnp.float32)  # a schedule may give another dtype
            pairs = zip(jax.tree.leaves(steps), jax.tree.leaves(updates), strict=True)
            size = sum(jnp.vdot(step.astype(jnp.float32), g.astype(jnp.float32)) for step, g in pairs)
            scale = jnp.minimum(1, jnp.sqrt(norm_constraint / jnp.maximum(size * rate**2, 1e-30)))
            steps = jax.tree.map(lambda step: step * scale.astype(step.dtype), steps)
        return steps, KfacState(count, kept, blocks)

    return optax.GradientTransformationExtraArgs(start, update)
