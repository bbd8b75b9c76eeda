"""The mistakes that each kind of operation invites in its derivative rule."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.diagnose.backward import Back, Fault, is_square
from vjpcheck.diagnose.choices import largest, reduced_largest, selection
from vjpcheck.diagnose.movement import gather, running, running_product, scatter, selected
from vjpcheck.diagnose.parts import exchanged
from vjpcheck.diagnose.solves import conjugated, factored, solved, transformed
from vjpcheck.diagnose.windows import shifted_pad, windows
from vjpcheck.interpret import Operation


def faults(operation: Operation, inputs: Sequence[Any]) -> Iterator[Fault]:
    """Return the mistakes that one operation invites, given its (abstract) inputs.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs.
    """
    equation = operation.equation
    floating = [
        i for i, x in enumerate(inputs) if is_inexact(x) and not isinstance(equation.invars[i], Literal)
    ]
    if not floating or not is_inexact(equation.outvars[0].aval):
        return
    for same in _places(equation.invars, floating):  # of x * x both: one alone is no path that one forgets
        operand = f"operand {same[0]} of {operation.name}" if len(same) < len(floating) else operation.name
        text = f"the path through {operand} is left out"
        yield Fault("term dropped", text, 3.0, lambda b, same=same: {i: 0 * b.right[i] for i in same})
    if len(equation.outvars) == 1 or equation.primitive.name in ("top_k", "lu"):
        for kind in _BY_KIND.get(equation.primitive.name, ()):
            yield from kind(operation, inputs, floating)
        yield from _stretched(operation, inputs, floating)
        yield from exchanged(operation)


def _places(variables: Sequence[Any], chosen: Sequence[int]) -> list[list[int]]:
    """Return, for each variable among the chosen, the places where it stands."""
    found: dict[Any, list[int]] = {}
    for i in chosen:
        found.setdefault(variables[i], []).append(i)
    return list(found.values())


def _stretched(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the faults of an elementwise operation that repeats a smaller operand along an axis."""
    shape = operation.equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    if operation.equation.primitive.name not in ("add", "sub", "mul", "div", "max", "min"):
        return
    for i in floating:
        for axis, n in enumerate(shape):
            if len(inputs[i].shape) == len(shape) and inputs[i].shape[axis] == 1 < n:
                yield from _one_slice(i, axis, n)
                yield from _taken_as_one(i, n)


def _taken_as_one(i: int, n: int) -> Iterator[Fault]:
    text = "the sum of the cotangent is taken to be 1"
    yield Fault("cotangent ignored", text, 3.2, lambda b: {i: b.pull(jnp.ones_like(b.dy))[i] / n})


def _one_slice(i: int, axis: int, n: int) -> Iterator[Fault]:
    for which, at in (("first", 0), ("last", -1)):
        text = f"only the {which} of {n} slices along axis {axis} is used, not their sum"
        yield Fault(
            "broadcast not summed", text, 2.0, lambda b, at=at: {i: b.pull(_only_slice(b.dy, axis, at))[i]}
        )


def _product(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    a, b = inputs[:2]
    constant = next((i for i in (0, 1) if i not in floating or inputs[i].size == 1), None)
    for i in floating:
        other = 1 - i
        name = "constant left out" if constant == other else "derivative missing"
        yield Fault(name, "the other factor is left out", 2.9, lambda b, i=i: {i: b.dy + 0 * b.right[i]})
        if constant == other:
            yield Fault(
                "constant applied twice", "the constant factor is applied twice", 4.2,
                lambda b, i=i, o=other: {i: b.right[i] * b.inputs[o]},
            )  # fmt: skip
        if constant != other:
            text = "it divides where it should multiply"
            rule = lambda b, i=i, o=other: {i: _pulled_through(b, i, 1 / b.inputs[o])}  # noqa: E731
            yield Fault("another formula", text, 4.4, rule)
        if len(floating) == 2 and a.shape == b.shape:
            yield Fault(
                "another value", "each factor is multiplied by itself, not by the other", 3.2,
                lambda b, i=i: {i: b.dy * b.inputs[i]},
            )  # fmt: skip


def _pulled_through(b: Back, i: int, other: Any) -> Any:
    return b.pull(b.dy, **{f"at{1 - i}": other})[i]


def _quotient(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    constant = 1 not in floating or inputs[1].size == 1
    if 0 in floating:
        name = "constant left out" if constant else "derivative missing"
        yield Fault(name, "the division is left out", 2.9, lambda b: {0: b.dy})
        name = "constant applied twice" if constant else "another formula"
        yield Fault(name, "the division is done twice", 4.2, lambda b: {0: b.right[0] / b.inputs[1]})
        yield Fault(
            "another formula", "it multiplies where it should divide", 4.4, lambda b: {0: b.dy * b.inputs[1]}
        )
    if 1 in floating:
        formula = "the denominator is not squared"
        yield Fault("another formula", formula, 4.0, lambda b: {1: b.right[1] * b.inputs[1]})
    if floating == [0, 1] or list(floating) == [0, 1]:
        yield Fault(
            "diagonal only", "only the diagonal of the Jacobian is used", 2.8,
            lambda b: {0: b.right[0] * (1 - b.outputs[0]), 1: 0 * b.right[1]},
        )  # fmt: skip


def _matrix_product(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    out = operation.equation.outvars[0].aval
    for i in floating:
        other = 1 - i
        if is_square(out):
            yield Fault(
                "transpose missing", "the cotangent is not transposed", 2.1,
                lambda b, i=i: {i: b.pull(jnp.swapaxes(b.dy, -1, -2))[i]},
            )  # fmt: skip
        if is_square(inputs[i]):
            yield Fault(
                "transpose missing", "the result is not transposed", 2.2,
                lambda b, i=i: {i: jnp.swapaxes(b.right[i], -1, -2)},
            )  # fmt: skip
        if inputs[i].shape == out.shape:  # pyright: ignore[reportAttributeAccessIssue]
            yield Fault(
                "derivative missing",
                f"the product with operand {other} is left out",
                2.9,
                lambda b, i=i: {i: b.dy},
            )
        if len(floating) == 2:
            yield Fault(
                "weights updated early", f"operand {other} was updated before the cotangent passed it", 2.3,
                lambda b, i=i, o=other: {i: b.right[i] + b.pull(b.dy, **{f"at{o}": b.right[o]})[i]},
            )  # fmt: skip


def _convolution(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    spec = operation.equation.params["dimension_numbers"].rhs_spec
    spatial = tuple(spec[2:])
    if 0 in floating:
        yield Fault(
            "order reversed", "the kernel is not flipped", 2.0,
            lambda b: {0: b.pull(b.dy, at1=jnp.flip(b.inputs[1], spatial))[0]},
        )  # fmt: skip
        if inputs[1].shape[spec[0]] == inputs[1].shape[spec[1]]:
            yield Fault(
                "transpose missing", "the kernel's channels are not exchanged", 2.0,
                lambda b: {0: b.pull(b.dy, at1=jnp.swapaxes(b.inputs[1], spec[0], spec[1]))[0]},
            )  # fmt: skip
            yield Fault(
                "transpose missing", "the kernel is neither flipped nor are its channels exchanged", 2.2,
                lambda b: {0: b.pull(b.dy, at1=jnp.flip(b.inputs[1].swapaxes(spec[0], spec[1]), spatial))[0]},
            )  # fmt: skip


def _broadcast(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    shape, kept = operation.equation.params["shape"], operation.equation.params["broadcast_dimensions"]
    source = dict(zip(kept, inputs[0].shape, strict=True))
    spread = [a for a, n in enumerate(shape) if n > 1 and source.get(a, 1) == 1]
    for axis in spread:
        yield from _one_slice(0, axis, shape[axis])
    if len(spread) == 1:
        yield from _taken_as_one(0, shape[spread[0]])


def _only_slice(x: Any, axis: int, at: int) -> Any:
    index = [slice(None)] * x.ndim
    index[axis] = at % x.shape[axis]
    return jnp.zeros_like(x).at[tuple(index)].set(x[tuple(index)])


def _transposition(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return other orders of the axes, whose shape a reshape may hide."""
    order, shape = tuple(operation.equation.params["permutation"]), inputs[0].shape
    undone = tuple(np.argsort(order))
    others = {order: "as on the way forward, not back", tuple(range(len(order))): "not at all"}
    for a, b in combinations(range(len(order)), 2):
        swapped = list(undone)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        others.setdefault(tuple(swapped), f"with axes {a} and {b} exchanged")
    for axes, words in others.items():
        if axes != undone:
            rule = lambda b, axes=axes: {0: b.dy.transpose(axes).reshape(shape)}  # noqa: E731
            yield Fault("transpose missing", f"the axes are put back {words}", 2.4, rule)


def _power(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Powers and roots: derivatives with a power too few or too many."""
    for by, what in ((1, "its output"), (2, "the square of its output"), (-1, "its inverse")):
        text = f"the derivative has a factor of {what} too many"
        yield Fault("another formula", text, 4.1, lambda b, by=by: {0: b.right[0] * b.outputs[0] ** by})
        text = f"the derivative lacks a factor of {what}"
        yield Fault("another formula", text, 4.1, lambda b, by=by: {0: b.right[0] / b.outputs[0] ** by})


_BY_KIND: dict[str, tuple[Callable[..., Iterator[Fault]], ...]] = {
    "mul": (_product, conjugated),
    "div": (_quotient,),
    "dot_general": (_matrix_product, conjugated),
    "conv_general_dilated": (_convolution, windows),
    "broadcast_in_dim": (_broadcast,),
    "select_n": (selection,),
    "max": (largest,),
    "min": (largest,),
    "reduce_max": (reduced_largest,),
    "reduce_min": (reduced_largest,),
    "transpose": (_transposition,),
    "gather": (gather,),
    "scatter-add": (scatter,),
    "scatter_add": (scatter,),
    "cumsum": (running,),
    "cumprod": (running_product,),
    "top_k": (selected,),
    "slice": (windows,),
    "pad": (shifted_pad,),
    "reduce_window_sum": (windows,),
    "reduce_window_max": (windows,),
    "custom_linear_solve": (solved,),
    "triangular_solve": (solved,),
    "lu": (factored,),
    "fft": (transformed,),
    **dict.fromkeys(("sqrt", "rsqrt", "integer_pow", "square"), (_power,)),
}
