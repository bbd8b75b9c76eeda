"""Two other ways to run an operation: with rounding errors drawn at random, and with one side taken at kinks.

Rounding errors at random are Monte Carlo arithmetic (D. S. Parker, Monte Carlo Arithmetic, UCLA CSD-970002,
1997): how far they move a gradient is how well the working precision determines it.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vjpcheck.arguments import is_inexact
from vjpcheck.interpret import Operation, Step


def roughen(seed: Any) -> Step:
    """Return a step that perturbs every output, and every cotangent, by up to one rounding of the dtype
    traced.
    """

    def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
        if operation.is_call:
            return operation.run(*inputs)
        key = jax.random.key(seed)
        for i in operation.place:
            key = jax.random.fold_in(key, i)
        keys = iter(jax.random.split(key, len(inputs) + len(operation.equation.outvars)))
        atoms = zip(inputs, operation.equation.invars, strict=True)
        rough = [_rough_cotangent(x, _noise(next(keys), x, v)) if is_inexact(x) else x for x, v in atoms]
        outputs = zip(operation.run(*rough), operation.equation.outvars, strict=True)
        return [
            y + lax.stop_gradient(y * _noise(next(keys), y, v)) if is_inexact(y) else y for y, v in outputs
        ]

    return step


def _noise(key: Any, x: Any, atom: Any) -> Any:
    return float(jnp.finfo(atom.aval.dtype).eps) * jax.random.uniform(key, jnp.shape(x), np.float64, -1, 1)


@jax.custom_vjp
def _rough_cotangent(x: Any, noise: Any) -> Any:
    """Return `x`; its cotangent comes back with a relative error of `noise`."""
    return x


_rough_cotangent.defvjp(
    lambda x, noise: (x, noise),
    lambda noise, dx: ((dx * (1 + noise)).astype(dx.dtype), jnp.zeros_like(noise)),
)


def resolve_ties(side: Any) -> Step:
    """Return a step that takes one side of every kink: of a tie the first operand for side 0, else the other.

    The largest of many is autodiff's for side 0, one of the tied for side 1, every one of them for side 2.
    """

    def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
        name = operation.equation.primitive.name
        if name in ("max", "min"):
            a, b = inputs
            first = jnp.where(a == b, side == 0, (a > b) if name == "max" else (a < b))
            return [jnp.where(first, a, b)] if is_inexact(a) else operation.run(*inputs)
        if name in _COMPARED and is_inexact(inputs[0]):
            open_, closed = _COMPARED[name]
            return [jnp.where(side == 0, open_(*inputs), closed(*inputs))]
        if name == "abs" and is_inexact(inputs[0]) and not jnp.iscomplexobj(inputs[0]):
            (x,) = inputs
            return [jnp.where((x > 0) | ((x == 0) & (side == 0)), x, -x)]
        if name == "clamp":
            low, x, high = inputs
            inside = jnp.where(side == 0, (x >= low) & (x <= high), (x > low) & (x < high))
            return [jnp.where(inside, x, lax.stop_gradient(jnp.clip(x, low, high)))]
        if name == "reduce_max":
            (x,) = inputs
            (y,) = operation.run(x)
            axes = operation.equation.params["axes"]
            every = jnp.where(x == jnp.expand_dims(y, axes), x - lax.stop_gradient(x), 0).sum(axes)
            tied = jnp.where(side == 1, _first_largest(x, axes), lax.stop_gradient(y) + every)
            return [jnp.where(side == 0, y, tied)]
        if name == "reduce_window_max" and is_inexact(inputs[0]):
            window, strides, padding, *dilation = (operation.equation.params[key] for key in _WINDOW)
            if all(d == 1 for d in sum(dilation, ())):
                return [_largest_of_window(side, inputs[0], window, strides, padding)]
        return operation.run(*inputs)

    return step


def _first_largest(x: Any, axes: Sequence[int]) -> Any:
    last = jnp.moveaxis(x, axes, range(-len(axes), 0))
    flat = last.reshape(*last.shape[: x.ndim - len(axes)], -1)
    at = jnp.argmax(lax.stop_gradient(flat), -1, keepdims=True)
    return jnp.take_along_axis(flat, at, -1)[..., 0]


def _largest_of_window(
    side: Any, x: Any, window: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Any:
    """Return the largest of every window: of a tie the first, the last, or for side 2 every one."""
    x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), [(*p, 0) for p in padding])
    steps = [(n - w) // s for n, w, s in zip(x.shape, window, strides, strict=True)]
    parts = []
    for start in product(*map(range, window)):
        stop = [i + n * s + 1 for i, n, s in zip(start, steps, strides, strict=True)]
        parts.append(lax.slice(x, start, stop, strides))
    first = reduce(lambda a, b: jnp.where(b > a, b, a), parts)
    last = reduce(lambda a, b: jnp.where(b >= a, b, a), parts)
    largest = lax.stop_gradient(first)
    every = largest + sum(jnp.where(p == largest, p - lax.stop_gradient(p), 0) for p in parts)
    return jnp.where(side == 0, first, jnp.where(side == 1, last, every))


_WINDOW = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
_COMPARED = {
    "gt": (lax.gt, lax.ge),
    "ge": (lax.gt, lax.ge),
    "lt": (lax.lt, lax.le),
    "le": (lax.lt, lax.le),
}

KINKED = frozenset(
    {
        *_COMPARED,
        "max",
        "min",
        "abs",
        "clamp",
        "reduce_max",
        "reduce_min",
        "reduce_window_max",
        "sort",
        "sign",
        "argmax",
    }
)
