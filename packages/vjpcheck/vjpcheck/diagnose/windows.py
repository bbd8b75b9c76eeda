"""The mistakes that windows invite: where they begin, how far apart they lie, what falls on two of them."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Back, Fault
from vjpcheck.diagnose.movement import pushed
from vjpcheck.interpret import Operation, run_as

MOST = 256  # windows that are laid one over another
_STRIDES = {"slice": "strides"}  # where it is not window_strides


def windows(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of a slice, a convolution or a sum over windows.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    if 0 not in floating:
        return
    together = [floating] if len(floating) == 1 else [floating, *([i] for i in floating)]
    for some, (words, rule) in product(together, [*_moved(operation), *_unspread(operation)]):
        name = Kind.WINDOWS_SHIFTED if words.startswith("the window") else Kind.STRIDES_IGNORED
        whose = "" if len(some) == len(floating) else f", for operand {some[0]}"
        yield Fault(name, words + whose, lambda b, some=some, r=rule: {i: r(b)[i] for i in some})
    text = "where windows overlap the last overwrites the others, where all should add up"
    if operation.equation.primitive.name == "slice":
        kept = _not_covered_later(operation)
        if not kept.all():
            yield Fault(Kind.SCATTER_OVERWRITES, text, lambda b: {0: b.right[0] * kept})
    elif _overlap(operation):
        yield Fault(Kind.SCATTER_OVERWRITES, text, lambda b: {0: _laid_over(b)})


def shifted_pad(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of padding: the cotangent is cut out one place off.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    if 0 not in floating:
        return
    for axis, (low, high, _) in enumerate(operation.equation.params["padding_config"]):
        for by in (1, -1) if low > 0 or high > 0 else ():
            text = f"the window is off by {by} along axis {axis}"
            rule = lambda b, by=by, a=axis: {0: b.pull(jnp.roll(b.dy, by, a))[0]}  # noqa: E731
            yield Fault(Kind.WINDOWS_SHIFTED, text, rule)


def _spatial(operation: Operation) -> list[tuple[int, int]]:
    """Return the axes of the input that windows move along, each with that of the output."""
    params = operation.equation.params
    if "dimension_numbers" in params:
        numbers = params["dimension_numbers"]
        return list(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True))
    if "window_dimensions" in params:
        return [(a, a) for a, n in enumerate(params["window_dimensions"]) if n > 1]
    value, out = (v.aval for v in (operation.equation.invars[0], operation.equation.outvars[0]))
    sizes = zip(value.shape, out.shape, strict=True)  # pyright: ignore[reportAttributeAccessIssue]
    return [(a, a) for a, (n, m) in enumerate(sizes) if n != m]


def _moved(operation: Operation) -> Iterator[tuple[str, Any]]:
    params, name = operation.equation.params, operation.equation.primitive.name
    for k, (axis, _) in enumerate(_spatial(operation)):
        for by in (1, -1):
            text = f"the window is off by {by} along axis {axis}"
            if name == "slice":
                yield text, lambda b, by=by, a=axis: [jnp.roll(b.right[0], by, a)]
                yield text + " and cut off", lambda b, by=by, a=axis: [pushed(b.right[0], by, a)]
            elif name == "conv_general_dilated":
                padding = list(params["padding"])
                padding[k] = padding[k][0] - by, padding[k][1] + by
                yield text, lambda b, p=tuple(padding): _through(b, b.dy, padding=p)
            else:
                yield text, lambda b, by=by, a=axis: [pushed(b.right[0], by, a)]
                yield text + " and around", lambda b, by=by, a=axis: [jnp.roll(b.right[0], by, a)]


def _strides(operation: Operation) -> tuple[str, tuple[int, ...]]:
    key = _STRIDES.get(operation.equation.primitive.name, "window_strides")
    return key, tuple(operation.equation.params[key] or ())


def _unspread(operation: Operation) -> Iterator[tuple[str, Any]]:
    """Return what comes of a cotangent that is not spread by the strides: side by side, or repeated."""
    key, strides = _strides(operation)
    if all(s == 1 for s in strides):
        return
    ones = {key: (1,) * len(strides)}
    axes = [a for _, a in _spatial(operation)] if "dimension_numbers" in operation.equation.params else None
    by = dict(zip(axes or range(len(strides)), strides, strict=True))

    def rule(b: Back, repeated: bool) -> Sequence[Any]:
        shape = jax.eval_shape(lambda *xs: run_as(operation.equation, xs, **ones)[0], *b.inputs).shape
        dy = b.dy
        for axis, s in by.items() if repeated else ():
            dy = jax.lax.slice_in_dim(
                jnp.repeat(dy, s, axis), 0, min(shape[axis], s * dy.shape[axis]), axis=axis
            )
        inside = tuple(slice(0, n) for n in dy.shape)
        return _through(b, jnp.zeros(shape, dy.dtype).at[inside].set(dy), **ones)

    yield "the strides are ignored: the cotangents are put side by side", lambda b: rule(b, False)
    yield "the strides are ignored: each cotangent is repeated", lambda b: rule(b, True)


def _through(b: Back, dy: Any, **changed: Any) -> Sequence[Any]:
    """Pull a cotangent back through the same operation with other parameters."""
    return b.pull(dy, lambda *xs: run_as(b.operation.equation, xs, **changed))


def _not_covered_later(operation: Operation) -> np.ndarray:
    """Return where no later slice of the same value reaches."""
    own = operation.equation
    value: Any = own.invars[0].aval
    free, later = np.ones(value.shape, bool), False
    for q in operation.program.eqns:
        if later and q.primitive.name == "slice" and q.invars[0] is own.invars[0]:
            starts, limits, strides = (q.params[k] for k in ("start_indices", "limit_indices", "strides"))
            steps = strides or (1,) * len(starts)
            free[tuple(slice(*s) for s in zip(starts, limits, steps, strict=True))] = False
        later = later or q is own
    inside = tuple(map(slice, own.params["start_indices"], own.params["limit_indices"]))
    return free if not free[inside].all() and free[inside].any() else np.ones_like(free)


def _overlap(operation: Operation) -> bool:
    if operation.equation.primitive.name == "reduce_window_max":
        return False
    axes, out = _spatial(operation), operation.equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    _, strides = _strides(operation)
    if "dimension_numbers" in operation.equation.params:
        spec = operation.equation.params["dimension_numbers"].rhs_spec[2:]
        sizes = [operation.equation.invars[1].aval.shape[a] for a in spec]  # pyright: ignore[reportAttributeAccessIssue]
    else:
        sizes = [operation.equation.params["window_dimensions"][a] for a, _ in axes]
        strides = [strides[a] for a, _ in axes]
    count = int(np.prod([out[a] for _, a in axes]))
    return 1 < count <= MOST and any(n > s for n, s in zip(sizes, strides, strict=True))


def _laid_over(b: Back) -> Any:
    """Lay what each window gives over what is there, in their order."""
    axes, ones = [a for _, a in _spatial(b.operation)], [jnp.ones_like(b.dy)]
    kernel = {"at1": jnp.ones_like(b.inputs[1])} if len(b.inputs) > 1 else {}
    sizes = [b.dy.shape[a] for a in axes]

    def lay(dx: Any, at: Any) -> tuple[Any, None]:
        here = jnp.ones(b.dy.shape, bool)
        for axis, i in zip(axes, jnp.unravel_index(at, sizes), strict=True):
            shape = [-1 if a == axis else 1 for a in range(b.dy.ndim)]
            here = here & (jnp.arange(b.dy.shape[axis]) == i).reshape(shape)
        covered = b.pull(jnp.where(here, ones[0], 0), **kernel)[0] != 0
        return jnp.where(covered, b.pull(jnp.where(here, b.dy, 0))[0], dx), None

    return jax.lax.scan(lay, jnp.zeros_like(b.inputs[0]), jnp.arange(int(np.prod(sizes))))[0]
