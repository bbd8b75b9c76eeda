"""The mistakes that each kind of operation invites in its derivative rule."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.catalogue import Kind
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
        yield Fault(Kind.TERM_DROPPED, text, lambda b, same=same: {i: 0 * b.right[i] for i in same})
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
    yield Fault(Kind.COTANGENT_IGNORED, text, lambda b: {i: b.pull(jnp.ones_like(b.dy))[i] / n}, less=2.2)


def _one_slice(i: int, axis: int, n: int) -> Iterator[Fault]:
    for which, at in (("first", 0), ("last", -1)):
        text = f"only the {which} of {n} slices along axis {axis} is used, not their sum"
        yield Fault(
            Kind.BROADCAST_NOT_SUMMED, text, lambda b, at=at: {i: b.pull(_only_slice(b.dy, axis, at))[i]}
        )


def _product(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    a, b = inputs[:2]
    constant = next((i for i in (0, 1) if i not in floating or inputs[i].size == 1), None)
    for i in floating:
        other = 1 - i
        name = Kind.CONSTANT_LEFT_OUT if constant == other else Kind.DERIVATIVE_MISSING
        yield Fault(
            name,
            "the other factor is left out",
            lambda b, i=i: {i: b.dy + 0 * b.right[i]},
            less=2.9 - name.cost,
        )
        if constant == other:
            yield Fault(
                Kind.CONSTANT_APPLIED_TWICE, "the constant factor is applied twice",
                lambda b, i=i, o=other: {i: b.right[i] * b.inputs[o]}, less=1.3,
            )  # fmt: skip
        if constant != other:
            text = "it divides where it should multiply"
            rule = lambda b, i=i, o=other: {i: _pulled_through(b, i, 1 / b.inputs[o])}  # noqa: E731
            yield Fault(Kind.ANOTHER_FORMULA, text, rule, less=1.1)
        if len(floating) == 2 and a.shape == b.shape:
            yield Fault(
                Kind.ANOTHER_VALUE, "each factor is multiplied by itself, not by the other",
                lambda b, i=i: {i: b.dy * b.inputs[i]}, less=0.6,
            )  # fmt: skip


def _pulled_through(b: Back, i: int, other: Any) -> Any:
    return b.pull(b.dy, **{f"at{1 - i}": other})[i]


def _quotient(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    constant = 1 not in floating or inputs[1].size == 1
    if 0 in floating:
        name = Kind.CONSTANT_LEFT_OUT if constant else Kind.DERIVATIVE_MISSING
        yield Fault(name, "the division is left out", lambda b: {0: b.dy}, less=2.9 - name.cost)
        name, text = (
            Kind.CONSTANT_APPLIED_TWICE if constant else Kind.ANOTHER_FORMULA,
            "the division is done twice",
        )
        yield Fault(name, text, lambda b: {0: b.right[0] / b.inputs[1]}, less=4.2 - name.cost)
        text = "it multiplies where it should divide"
        yield Fault(Kind.ANOTHER_FORMULA, text, lambda b: {0: b.dy * b.inputs[1]}, less=1.1)
    if 1 in floating:
        text = "the denominator is not squared"
        yield Fault(Kind.ANOTHER_FORMULA, text, lambda b: {1: b.right[1] * b.inputs[1]}, less=0.7)
    if list(floating) == [0, 1]:
        text = "only the diagonal of the Jacobian is used"
        rule = lambda b: {0: b.right[0] * (1 - b.outputs[0]), 1: 0 * b.right[1]}  # noqa: E731
        yield Fault(Kind.DIAGONAL_ONLY, text, rule, less=0.3)


def _matrix_product(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    out = operation.equation.outvars[0].aval
    for i in floating:
        other = 1 - i
        if is_square(out):
            rule = lambda b, i=i: {i: b.pull(jnp.swapaxes(b.dy, -1, -2))[i]}  # noqa: E731
            yield Fault(Kind.TRANSPOSE_MISSING, "the cotangent is not transposed", rule, less=0.1)
        if is_square(inputs[i]):
            rule = lambda b, i=i: {i: jnp.swapaxes(b.right[i], -1, -2)}  # noqa: E731
            yield Fault(Kind.TRANSPOSE_MISSING, "the result is not transposed", rule, less=0.2)
        if inputs[i].shape == out.shape:  # pyright: ignore[reportAttributeAccessIssue]
            text = f"the product with operand {other} is left out"
            yield Fault(Kind.DERIVATIVE_MISSING, text, lambda b, i=i: {i: b.dy}, less=0.5)
        if len(floating) == 2:
            text = f"operand {other} was updated before the cotangent passed it"
            rule = lambda b, i=i, o=other: {  # noqa: E731
                i: b.right[i] + b.pull(b.dy, **{f"at{o}": b.right[o]})[i]
            }
            yield Fault(Kind.WEIGHTS_UPDATED_EARLY, text, rule)


def _convolution(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    spec = operation.equation.params["dimension_numbers"].rhs_spec
    out, into, spatial = spec[0], spec[1], tuple(spec[2:])
    if 0 not in floating:
        return

    def by(change: Callable[[Any], Any]) -> Callable[[Back], dict[int, Any]]:
        return lambda b: {0: b.pull(b.dy, at1=change(b.inputs[1]))[0]}

    yield Fault(Kind.ORDER_REVERSED, "the kernel is not flipped", by(lambda w: jnp.flip(w, spatial)))
    if inputs[1].shape[out] == inputs[1].shape[into]:
        text, swapped = "the kernel's channels are not exchanged", lambda w: jnp.swapaxes(w, out, into)
        yield Fault(Kind.TRANSPOSE_MISSING, text, by(swapped))
        text = "the kernel is neither flipped nor are its channels exchanged"
        yield Fault(Kind.TRANSPOSE_MISSING, text, by(lambda w: jnp.flip(swapped(w), spatial)), less=0.2)


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
            yield Fault(Kind.TRANSPOSE_MISSING, f"the axes are put back {words}", rule, less=0.4)


def _power(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Powers and roots: derivatives with a power too few or too many."""
    for by, what in ((1, "its output"), (2, "the square of its output"), (-1, "its inverse")):
        text = f"the derivative has a factor of {what} too many"
        yield Fault(
            Kind.ANOTHER_FORMULA, text, lambda b, by=by: {0: b.right[0] * b.outputs[0] ** by}, less=0.8
        )
        text = f"the derivative lacks a factor of {what}"
        yield Fault(
            Kind.ANOTHER_FORMULA, text, lambda b, by=by: {0: b.right[0] / b.outputs[0] ** by}, less=0.8
        )


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
