"""The brute force that every reader is measured by: Jacobians of the example losses, by autodiff alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.factors import is_factor
from tests.cases import CASES, VOCABULARY, Case, Example

# Cases without params to read, examples to tell apart, or an output that is one array: what `readable` finds,
# which is asked in a test, as it takes its time.
UNREADABLE = {
    "dense-no-batch", "embedding-one", "layer-norm-plain", "layer-norm-no-batch", "rms-norm-tokens",
    "dropout", "dropout-zero", "gate-gelu", "gate-sigmoid", "gate-relu", "gate-tanh", "empty-chain",
    "mlp-no-batch", "shared-no-batch", "select-pair", "concatenate-tokens", "sum", "each-pair",
    "each-noise", "heads", "heads-of-tree", "repeat-of-each", "shared-each", "skip-of-each",
}  # fmt: skip


def is_unreadable(case: Case) -> bool:
    """Tell whether the case is among those, or an activation by itself."""
    return case.name in UNREADABLE or case.name.startswith("alone-")


def readable(case: Case) -> bool:
    """Tell whether a case has params to read, examples to tell apart, and an output that is one array."""
    x = case.input()
    params = jax.eval_shape(lambda key: fnn.init(case.net, key, x), jax.random.key(0))
    y, _ = jax.eval_shape(lambda params, x: fnn.forward(case.net, params, x), params, x)
    rows = (leaf.shape if leaf.dtype == jnp.int32 else leaf.shape[:-1] for leaf in jax.tree.leaves(x))
    return bool(jax.tree.leaves(params)) and all(rows) and isinstance(y, jax.ShapeDtypeStruct)


# Beside the table's: the same networks where the readers' choices from shapes fall the other way.
WIDE = [
    Case("dense-wide-tokens", fnn.Dense(12), (3, 2, 14)),
    Case("mlp-wide-tokens", fnn.mlp([12, 14, 16], fnn.gelu), (3, 2, 12)),
    Case("shared-wide", fnn.Repeat(fnn.Serial(fnn.Dense(12), fnn.tanh), 2, shared=True), (4, 12)),
    Case("embedding-long", fnn.Embedding(VOCABULARY, 3), (3, 9), integer=True),
]
READABLE = [case for case in [*CASES, *WIDE] if not is_unreadable(case)]
# One of each factor and each way to read it: these run every time, the whole table among the slow tests.
BRIEF = {
    "dense-tokens", "dense-wide-tokens", "embedding-long", "layer-norm", "dense-norm-sine",
    "shared-of-repeat", "repeat-of-shared", "repeat-feed-forward",
}  # fmt: skip
every_case = pytest.mark.parametrize(
    "case",
    [case if case.name in BRIEF else pytest.param(case, marks=pytest.mark.slow) for case in READABLE],
    ids=repr,
)
LOSS = fnn.softmax_cross_entropy()  # a mean, so that a division by n would come to light


@dataclass(frozen=True)
class Drawn:
    """A case with data, soft labels, and the Jacobian of its example losses."""

    case: Example
    target: Any
    losses: Any  # (n,)
    jacobian: Any  # a tree of (n, *param.shape)


def example_losses(case: Example, target: Any, params: Any) -> Any:
    """Give each example's loss, the sum over its tokens: (n,)."""
    y, _ = fnn.forward(case.net, params, case.x, case.key)
    rows = -jnp.sum(target * jax.nn.log_softmax(y), -1)
    return rows.reshape(rows.shape[0], -1).sum(1)


def run(f: Callable[[], Any]) -> Any:
    """Run `f` compiled, with as little optimization as XLA has: a test's program runs once."""
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})()


def data(case: Case, seed: int = 0) -> Example:
    """Draw a case's data with NumPy, which compiles nothing."""
    rng = np.random.default_rng(seed)

    def normal(like: Any) -> Any:
        return jnp.asarray(rng.standard_normal(like.shape) / max(1, like.shape[0]) ** 0.5)

    def input_like(leaf: Any) -> Any:
        indices = leaf.dtype == jnp.int32
        return jnp.asarray(
            rng.integers(0, VOCABULARY, leaf.shape) if indices else rng.standard_normal(leaf.shape)
        )

    x, key = jax.tree.map(input_like, case.input()), jax.random.key(seed)
    params = jax.eval_shape(lambda: fnn.init(case.net, key, case.input()))
    params = jax.tree.map(normal, params)
    y = jax.eval_shape(lambda: fnn.forward(case.net, params, x, key)[0])
    return Example(case.net, params, x, jnp.asarray(rng.standard_normal(y.shape)), key)


def draw(case: Case, seed: int = 0) -> Drawn:
    """Draw a case's data, and differentiate every example's loss by itself."""
    own = data(case, seed)
    target = jnp.asarray(np.random.default_rng(seed).dirichlet(np.ones(own.dy.shape[-1]), own.dy.shape[:-1]))

    def both(params: Any) -> tuple[Any, Any]:
        losses = example_losses(own, target, params)
        return losses, losses

    jacobian, losses = run(lambda: jax.jacrev(both, has_aux=True)(own.params))
    return Drawn(own, target, losses, jacobian)


def ranks(case: Example) -> Any:
    """Give the number of axes of each param that are its own, not a stack's."""

    def factors(params: Any) -> Any:
        _, residuals = fnn.forward(case.net, params, case.x, case.key)
        return fnn.backward(case.net, params, residuals, case.dy, read=fnn.readers.as_factors)[0]

    shapes = jax.eval_shape(factors, case.params)
    return jax.tree.map(lambda f, p: f.rank, shapes, case.params, is_leaf=is_factor)


def flat(jacobian: Any) -> Any:
    """Give the Jacobian as a matrix (n, number of params), in the order of the leaves."""
    leaves = [np.asarray(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(jacobian)]
    return np.concatenate(leaves, axis=1)


def direction(params: Any, seed: int = 7) -> Any:
    """Draw a tree like the params."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape), p.dtype), params)
