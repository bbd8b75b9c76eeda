"""The mistakes that choices invite: masks, and the larger of several values."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Fault
from vjpcheck.interpret import Operation


def selection(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return the mistakes of a choice by a mask.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    for i in floating if inputs[0].size > 1 else ():  # one flag for all is no mask
        yield Fault(Kind.MASK_IGNORED, "the mask is not applied", lambda b, i=i: {i: b.dy})
        yield Fault(Kind.MASK_INVERTED, "the mask is inverted", lambda b, i=i: {i: b.dy - b.right[i]})


def largest(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return those of the larger or smaller of two.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    for i in floating:
        yield Fault(
            Kind.MASK_IGNORED,
            "the cotangent also goes where another was larger",
            lambda b, i=i: {i: b.dy + 0 * b.right[i]},
        )
        yield Fault(
            Kind.MASK_INVERTED,
            "the cotangent goes where the value was not taken",
            lambda b, i=i: {i: b.dy - b.right[i]},
        )


def reduced_largest(operation: Operation, inputs: Sequence[Any], floating: Sequence[int]) -> Iterator[Fault]:
    """Return those of the largest or smallest along axes.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs; `floating`, the numbers of those that
    have cotangents.
    """
    axes = operation.equation.params["axes"]
    wide = lambda b: jnp.broadcast_to(jnp.expand_dims(b.dy, axes), b.inputs[0].shape)  # noqa: E731
    yield Fault(Kind.MASK_IGNORED, "every element gets the cotangent of the largest", lambda b: {0: wide(b)})
    largest = lambda b: b.inputs[0] == jnp.expand_dims(b.outputs[0], axes)  # noqa: E731
    smallest = lambda b: b.inputs[0] == b.inputs[0].min(axes, keepdims=True)  # noqa: E731
    if operation.equation.primitive.name == "reduce_max":
        text = "the cotangent goes to the smallest"
        yield Fault(Kind.ANOTHER_VALUE, text, lambda b: {0: jnp.where(smallest(b), wide(b), 0)})
    text = "each of several equal ones gets the whole cotangent"
    yield Fault(Kind.TIES_COUNTED_TWICE, text, lambda b: {0: jnp.where(largest(b), wide(b), 0)})
