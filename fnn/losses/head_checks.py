"""Checks of the options and the arguments of a head."""

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jaxtyping import Array

from fnn.arrays import as_index, canonical
from fnn.errors import (
    InputError,
    check_array,
    check_floating,
    check_params,
    check_range,
    check_size,
    describe,
)
from fnn.losses.loss import check_reduction
from fnn.losses.objective import by_row

if TYPE_CHECKING:
    from fnn.losses.linear import LinearCrossEntropy

Params = dict[str, Array]


def check_head(head: "LinearCrossEntropy") -> None:
    """Check the options of a head.

    Raises:
        InputError: where one is out of its range.
    """
    who = "LinearCrossEntropy"
    check_size(who, "vocabulary", head.vocabulary, "fnn.LinearCrossEntropy(V)")
    if head.chunk is not None:
        check_size(who, "chunk", head.chunk, "fnn.LinearCrossEntropy(V, chunk=128)")
    check_reduction(who, head.reduction, 'fnn.LinearCrossEntropy(V, reduction="mean")')
    if head.walk not in (None, "rows", "vocabulary"):
        fix = 'fnn.LinearCrossEntropy(V, walk="vocabulary")'
        raise InputError(who, 'a walk over "rows" or "vocabulary", or None', repr(head.walk), fix)
    if not 0 <= head.label_smoothing < 1:
        fix = "fnn.LinearCrossEntropy(V, label_smoothing=0.1)"
        raise InputError(who, "0 <= label_smoothing < 1", repr(head.label_smoothing), fix)
    if not head.z_loss >= 0:
        fix = "fnn.LinearCrossEntropy(V, z_loss=1e-4)"
        raise InputError(who, "z_loss >= 0", repr(head.z_loss), fix)
    if not isinstance(head.tied, tuple):
        fix = 'fnn.LinearCrossEntropy(V, tied=(0, "embedding"))'
        raise InputError(who, "tied, the keys that lead to the table", repr(head.tied), fix)


def check_input(head: object, x: Any) -> None:
    """Check that an input has rows of floating numbers.

    Args:
        head: the head, for the error message.
        x: the input.

    Raises:
        InputError: where it has not.
    """
    check_floating(head, x)
    if not x.shape:
        raise InputError(head, "x of shape (..., k)", describe(x), "x.reshape(1)")


def checked(
    head: "LinearCrossEntropy", params: Params, x: Any, target: Any, weights: Any
) -> tuple[Params, Any, Any, Any]:
    """Return the arguments of a head as JAX arrays, labels in a dtype that holds them and the vocabulary.

    Args:
        head: the head.
        params: its params.
        x: the rows, (..., k).
        target: the labels, (...) integers.
        weights: the weights of the rows or of the examples, or None.

    Raises:
        InputError: where they do not fit, or a label is known to be out of range.
    """
    params, x, target, weights = canonical((params, x, target, weights))
    check_input(head, x)
    k, V = x.shape[-1], head.vocabulary
    shapes = {head.weight: (V, k) if head.tied else (k, V)} | ({"bias": (V,)} if head.bias else {})
    check_params(head, params, shapes)
    check_array(head, target, "target")
    if target.shape != x.shape[:-1] or not jnp.issubdtype(target.dtype, jnp.integer):
        wanted = f"integer target of shape {x.shape[:-1]}"
        fix = f"jnp.zeros({x.shape[:-1]}, jnp.int32)"
        if target.shape == (*x.shape[:-1], V):  # soft or one-hot labels
            fix = "target.argmax(-1)"
        elif target.size == math.prod(x.shape[:-1]):
            fix = f"target.reshape({x.shape[:-1]}).astype(jnp.int32)"
        raise InputError(head, wanted, describe(target), fix)
    if weights is not None:
        check_floating(head, weights, "weights")
        if by_row(weights, target.shape).shape != target.shape:
            wanted = f"weights of shape {target.shape}, one for each row"
            fix = f"jnp.ones({target.shape})"
            raise InputError(head, wanted, describe(weights), fix)
    target = as_index(target)
    inside = jnp.where(head.counting.counted(target), target, 0)
    counted = f"((target >= 0) & (target < {V})).astype(x.dtype)"
    below = f"head(params, x, jnp.clip(target, 0, {V - 1}), {counted})"
    check_range(head, inside, V, "labels", "fnn.LinearCrossEntropy({least})", below)
    return params, x, target, weights
