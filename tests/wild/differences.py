"""Central differences in float64: the table's own word on who is right, with nothing of `vjpcheck` in it.

Along random unit directions of all arguments together, weighted by one random cotangent, with three steps,
combined by Richardson's rule; what they disagree by is how far the differences can be trusted. At a kink any
slope between those of its two sides is right.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DIRECTIONS = 5
STEPS = (4e-4, 2e-4, 1e-4)
RIGHT, WRONG, UNSURE = "right", "wrong", "unsure"
SCALES = {"": 1.0, "inputs x 0.001": 1e-3, "inputs x 30": 30.0, "inputs x 1000": 1e3}


def gradient_of(
    function: Callable[..., Any], args: Sequence[Any], wrt: Any = None, probe: str = "", seed: int = 0
) -> str:
    """Whether the gradient that JAX gives is the slope of the function: right, wrong or unsure.

    The gradient is that of the working precision as well as that of float64: both must be the slope.
    """
    leaves, tree = jax.tree.flatten(tuple(args))
    owners = [i for i, a in enumerate(args) for _ in jax.tree.leaves(a)]
    wanted = range(len(args)) if wrt is None else (wrt,) if isinstance(wrt, int) else wrt
    active = [i for i, x in enumerate(leaves) if owners[i] in wanted and _is_floating(x)]
    if probe not in SCALES:
        return UNSURE
    moved = [np.asarray(x) * SCALES[probe] if i in active else x for i, x in enumerate(leaves)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        wide = [np.asarray(x, np.float64) if _is_floating(x) else x for x in moved]
        return _compared(function, tree, wide, active, np.random.default_rng(seed))


def same(function: Callable[..., Any], declared: Callable[..., Any], args: Sequence[Any]) -> str:
    """Whether JAX gives a function the gradient of the one that it is declared to have: right or wrong."""
    ys, pullback = jax.vjp(function, *args)
    dy = jax.tree.map(lambda y: jnp.cos(jnp.arange(y.size).reshape(y.shape)).astype(y.dtype), ys)
    both = zip(*map(jax.tree.leaves, (pullback(dy), jax.vjp(declared, *args)[1](dy))), strict=True)
    close = all(np.allclose(np.asarray(a), np.asarray(b), 1e-4, 1e-6) for a, b in both)
    return RIGHT if close else WRONG


def _is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def _compared(
    function: Callable[..., Any], tree: Any, leaves: list[Any], active: list[int], rng: np.random.Generator
) -> str:
    def outputs(*some: Any) -> list[Any]:
        full = list(leaves)
        for i, x in zip(active, some, strict=True):
            full[i] = x
        ys = jax.tree.leaves(function(*jax.tree.unflatten(tree, full)))
        return [jnp.asarray(y, jnp.float64) for y in ys if jnp.issubdtype(jnp.result_type(y), jnp.floating)]

    at = [leaves[i] for i in active]
    ys, pullback = jax.vjp(outputs, *at)
    dys = [rng.standard_normal(y.shape) for y in ys]
    gradients = [np.asarray(g, np.float64) for g in pullback([jnp.asarray(d) for d in dys])]
    run = jax.jit(outputs)

    def value(xs: list[Any]) -> float:
        return sum(float(np.sum(d * np.asarray(y))) for d, y in zip(dys, run(*xs), strict=True))

    verdicts = [
        _along(value, at, gradients, [rng.standard_normal(x.shape) for x in at]) for _ in range(DIRECTIONS)
    ]
    if WRONG in verdicts:
        return WRONG
    return UNSURE if UNSURE in verdicts else RIGHT


def _along(
    value: Callable[[list[Any]], float], at: list[Any], gradients: list[np.ndarray], v: list[np.ndarray]
) -> str:
    size = np.sqrt(sum(float(np.sum(d * d)) for d in v))
    v = [d / size * max(1e-3, float(np.max(np.abs(x), initial=0.0))) for d, x in zip(v, at, strict=True)]
    claimed = sum(float(np.vdot(g, d)) for g, d in zip(gradients, v, strict=True))
    middle, slopes, corners = value(at), [], []
    for h in STEPS:
        up, down = (value([x + s * h * d for x, d in zip(at, v, strict=True)]) for s in (1, -1))
        slopes.append((up - down) / (2 * h))
        corners.append(sorted(((up - middle) / h, (middle - down) / h)))
    measured = (4 * slopes[2] - slopes[1]) / 3
    reach = sum(float(np.linalg.norm(g) * np.linalg.norm(d)) for g, d in zip(gradients, v, strict=True))
    doubt = max(abs(a - b) for a in slopes for b in slopes) + 1e-7 * (reach + abs(measured))
    if not np.isfinite(claimed) or not np.isfinite(measured):
        return (
            RIGHT if np.isnan(claimed) and np.isnan(measured) else WRONG if np.isfinite(measured) else UNSURE
        )
    if abs(claimed - measured) <= 3 * doubt + 1e-5 * abs(measured):
        return RIGHT if doubt <= 1e-2 * max(abs(measured), reach) else UNSURE
    (low, high), before = corners[-1], corners[0]
    if high - low > max(1e-6 * reach, 0.7 * (before[1] - before[0])):  # it does not close: a kink
        return RIGHT if low <= claimed <= high else UNSURE
    return WRONG if abs(claimed - measured) > 30 * doubt else UNSURE
