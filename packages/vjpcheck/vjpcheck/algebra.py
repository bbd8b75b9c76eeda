"""What every backward pass obeys, whatever its function: it is linear in the cotangent and gives the same
again.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpcheck.report import Finding, Verdict

SCALE = 1024.0  # a power of two: scaling by it rounds nothing
COTANGENTS = 5


def stack(shapes: Sequence[Any], rng: np.random.Generator) -> list[np.ndarray]:
    """Draw two cotangents for each output, and stack them with what `combine` makes of them.

    Args:
        shapes: the shape and dtype of each output, as `jax.ShapeDtypeStruct`s.
        rng: the generator to draw from.

    Returns:
        for each output an array (5, ...) of its dtype.
    """
    return [combine(*(np.asarray(_draw(s, rng)).astype(s.dtype) for _ in range(2))) for s in shapes]


def combine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Stack two cotangents with their sum, the first scaled, and zero.

    Args:
        first: a cotangent of one output, of any shape.
        second: another of the same shape and dtype.

    Returns:
        (5, ...), of the same dtype.
    """
    scaled = (first * np.asarray(_scale(first.dtype), first.dtype)).astype(first.dtype)
    return np.stack([first, second, first + second, scaled, np.zeros_like(first)])


def _draw(s: Any, rng: np.random.Generator) -> np.ndarray:
    values = rng.standard_normal(s.shape)
    return (
        values + 1j * rng.standard_normal(s.shape) if jnp.issubdtype(s.dtype, jnp.complexfloating) else values
    )


def _scale(dtype: Any) -> float:
    return SCALE if float(jnp.finfo(dtype).max) > 1e10 else 16.0


def linearity(
    names: Sequence[str], grads: Sequence[np.ndarray], dtypes: Sequence[Any], tolerances: Sequence[float]
) -> list[Finding]:
    """Test B(0) = 0, B(a + b) = B(a) + B(b) and B(s a) = s B(a) on gradients stacked as in `stack`.

    Args:
        names: the names of the leaves.
        grads: the gradients of each leaf for the five cotangents, (5, ...).
        dtypes: the dtypes of the leaves, which set what rounding may change.
        tolerances: for each leaf the absolute error that is allowed in addition; where it is not finite the
            leaf is left out.

    Returns:
        a `Finding` for each law that a leaf breaks.
    """
    findings = []
    scale = min(_scale(d) for d in dtypes)
    for name, g, dtype, tolerance in zip(names, grads, dtypes, tolerances, strict=True):
        if not np.all(np.isfinite(g)) or not np.isfinite(tolerance):
            continue  # said elsewhere
        info = jnp.finfo(dtype)
        first, second, both, scaled, zero = g
        size = np.max(np.abs(g[:2]), initial=0.0)
        room = 64 * float(info.eps) * size + 2 * tolerance + 8 * float(info.tiny)
        if np.max(np.abs(zero), initial=0.0) > 8 * float(info.tiny):
            text = f"a zero cotangent gives {name} a gradient of up to {np.max(np.abs(zero)):.2g}"
            findings.append(Finding("zero in, zero out", Verdict.FAIL, text, name))
        if np.max(np.abs(scaled / scale - first), initial=0.0) > room:
            text = f"a cotangent {scale:g} times as large does not scale the gradient of {name} by that"
            findings.append(Finding("linearity", Verdict.FAIL, text, name))
        elif np.max(np.abs(both - first - second), initial=0.0) > 2 * room:
            text = f"the gradients of {name} for two cotangents do not add up to that for their sum"
            findings.append(Finding("linearity", Verdict.FAIL, text, name))
    return findings
