"""The mistakes that indexing and running sums invite: what goes to the wrong place."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Back, Fault
from vjpcheck.interpret import Operation


def gather(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of indexing: equal indices, indices that are off, a permutation not undone.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    if 0 not in floating:
        return

    def overwritten(b: Back) -> dict[int, Any]:
        n = int(np.prod(b.inputs[0].shape))
        place = b.operation.run(
            jnp.arange(n, dtype=b.inputs[0].dtype).reshape(b.inputs[0].shape), *b.inputs[1:]
        )[0]
        flat = jnp.zeros(n, b.dy.dtype).at[place.astype(np.int32).ravel()].set(b.dy.ravel())
        return {0: flat.reshape(b.inputs[0].shape)}

    def averaged(b: Back) -> dict[int, Any]:
        return {0: b.right[0] / jnp.maximum(b.pull(jnp.ones_like(b.dy))[0], 1)}

    yield Fault(
        Kind.SCATTER_OVERWRITES, "equal indices overwrite one another where they should add up", overwritten
    )
    yield Fault(Kind.SCATTER_AVERAGES, "equal indices are averaged where they should add up", averaged)
    yield from _shifted(0, inputs[0].ndim)
    if inputs[0].shape == operation.equation.outvars[0].aval.shape:  # pyright: ignore[reportAttributeAccessIssue]
        text = "the cotangent is picked by the indices where it should be put back by them"
        yield Fault(Kind.TRANSPOSE_MISSING, text, lambda b: {0: b.operation.run(b.dy, *b.inputs[1:])[0]})


def _shifted(i: int, ndim: int) -> Iterator[Fault]:
    for axis in range(ndim):
        for by in (1, -1):
            text = f"the indices are off by {by} along axis {axis}"
            yield Fault(
                Kind.ROWS_SHIFTED, text, lambda b, axis=axis, by=by: {i: jnp.roll(b.right[i], by, axis)}
            )
            yield Fault(
                Kind.ROWS_SHIFTED,
                text,
                lambda b, axis=axis, by=by: {i: pushed(b.right[i], by, axis)},
                less=0.1,
            )


def pushed(x: Any, by: int, axis: int) -> Any:
    """Return an array shifted by one place along an axis, with zeros where nothing comes from.

    Args: `x`, the array; `by`, 1 or -1; `axis`, the axis.
    """
    moved = jnp.roll(x, by, axis)
    index = [slice(None)] * x.ndim
    index[axis] = slice(0, 1) if by > 0 else slice(-1, None)
    return moved.at[tuple(index)].set(0)


def scatter(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of adding into rows: what falls on one of them, and which one.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    if 2 not in floating:
        return

    def averaged(b: Back) -> dict[int, Any]:
        count = b.operation.run(jnp.zeros_like(b.inputs[0]), b.inputs[1], jnp.ones_like(b.inputs[2]))[0]
        return {2: b.pull(b.dy / jnp.maximum(count, 1))[2]}

    yield Fault(Kind.SCATTER_AVERAGES, "what falls on one index is averaged where it should add up", averaged)
    for axis in range(inputs[0].ndim):
        for by in (1, -1):
            text = f"the indices are off by {by} along axis {axis}"
            yield Fault(
                Kind.ROWS_SHIFTED, text, lambda b, a=axis, by=by: {2: b.pull(jnp.roll(b.dy, by, a))[2]}
            )


def running(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of running sums, which run backwards on the way back.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    yield Fault(
        Kind.ORDER_REVERSED,
        "it runs forwards where it should run backwards",
        lambda b: {0: b.operation.run(b.dy)[0]},
    )
    yield Fault(Kind.DERIVATIVE_MISSING, f"{operation.name} is left out", lambda b: {0: b.dy}, less=0.1)
    yield Fault(Kind.ROWS_SHIFTED, "each element leaves itself out", lambda b: {0: b.right[0] - b.dy})


def running_product(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of running products: which factors each element is taken to be in.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    yield Fault(
        Kind.DIAGONAL_ONLY,
        "each product is differentiated by its last factor alone",
        lambda b: {0: b.dy * b.outputs[0] / b.inputs[0]},
    )
    yield Fault(
        Kind.ORDER_REVERSED,
        "it runs forwards where it should run backwards",
        lambda b: {0: jnp.cumsum(b.dy * b.outputs[0], operation.equation.params["axis"]) / b.inputs[0]},
        less=0.5,
    )


def selected(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of picking the largest: where along the last axis their cotangents go.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """

    def to_all(b: Back) -> dict[int, Any]:
        return {0: jnp.broadcast_to(b.dy.sum(-1, keepdims=True), b.inputs[0].shape)}

    def to_the_first(b: Back) -> dict[int, Any]:
        return {0: jnp.zeros_like(b.inputs[0]).at[..., : b.dy.shape[-1]].set(b.dy)}

    yield Fault(Kind.MASK_IGNORED, "every element gets the cotangents of the largest", to_all)
    yield Fault(Kind.ORDER_OF_ELEMENTS, "the cotangents go to the first elements, not back", to_the_first)
