"""Feedback alignment and its variants: backward passes through other weights than those of the forward pass.

`fnn.backward` takes the params explicitly, so feedback alignment is a backward pass with other params. All
rules return readings of the factors, so every reader works with them; readers of examples need a loss of
reduction "sum".
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import canonical, shapes_of
from fnn.compose.serial import Serial
from fnn.core import Layer, Params, backward, forward
from fnn.errors import InputError, describe
from fnn.factors import Outer
from fnn.losses.objective import Objective
from fnn.reader import Reader, gradient
from fnn.readers.seeding import check_begins, check_like, without_params
from fnn.readers.seeds import factor_types


def feedback_alignment(
    net: Layer, loss: Objective, read: Reader = gradient
) -> Callable[..., tuple[Any, Any]]:
    """Return `(params, feedback, x, target, key=None, weights=None, trees=()) -> (value, readings)`.

    The forward pass uses `params`. The backward pass uses, for every weight W of a dense layer, the weight B
    of `feedback`: dx = dz B^T. Scales, biases and tables are those of `params`, as activations are recomputed
    with them. With `feedback = params` this is backpropagation.

    Args:
        net: the network, any layer.
        loss: a loss without params.
        read: the reader of the factors.

    Args of the function:
        params: the params of `net`.
        feedback: a tree like the params; for fixed random feedback `fnn.init(net, another_key, x)`.
        x: the input (n, ..., k).
        target: the targets of the loss.
        key: the random key for dropout, or None for no noise.
        weights: weights per example, as the loss takes them.
        trees: further trees that begin like the params, for the leaves of the reader.

    Returns of the function:
        the value of the loss as reduced, and the readings, a tree like the params.

    Raises:
        InputError: where `feedback` is not like the params, or a tree does not begin like them.

    Cost: that of `value_and_grad`.
    Source: Lillicrap et al. 2016.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> feedback_alignment(net, loss)(params, params, jnp.ones((2, 1)), jnp.zeros((2, 1)))
    (Array(0.5, dtype=float32), {'kernel': Array([[1.]], dtype=float32)})
    """
    loss = without_params("feedback_alignment", loss, net)

    def run(
        params: Params,
        feedback: Params,
        x: Any,
        target: Any,
        key: Any = None,
        weights: Any = None,
        trees: tuple[Any, ...] = (),
    ) -> tuple[Any, Any]:
        params, feedback, x, trees = canonical((params, feedback, x, trees))
        check_like("feedback_alignment", feedback, params, "feedback")
        for tree in trees:
            check_begins("feedback_alignment", tree, params)
        types = factor_types(net, params, x)
        mixed = jax.tree.map(lambda of, p, b: b if of is Outer else p, types, params, feedback)
        y, residuals = forward(net, params, x, key)
        value, dy = loss.value_and_grad(y, target, weights)
        return value, backward(net, mixed, residuals, dy, *trees, read=read)[0]

    return run


def sign_symmetric(params: Params, feedback: Params) -> Params:
    """Return feedback weights with the signs of the params: |B| sign(W), for `feedback_alignment`.

    Args:
        params: the params, W.
        feedback: a tree like the params, B, whose magnitudes are used; where these are all equal, the result
            is "uniform sign-concordant feedback".

    Returns:
        a tree like `feedback`.

    Raises:
        InputError: where `feedback` is not like the params.

    Source: Liao, Leibo, Poggio 2016.

    >>> print(sign_symmetric(jnp.array([-3.0, 2.0]), jnp.array([0.5, -0.5])))
    [-0.5  0.5]
    """
    params, feedback = canonical((params, feedback))
    check_like("sign_symmetric", feedback, params, "feedback")
    return jax.tree.map(lambda w, b: jnp.abs(b) * jnp.sign(w).astype(b.dtype), params, feedback)


def direct_feedback(net: Serial, loss: Objective, read: Reader = gradient) -> Callable[..., tuple[Any, Any]]:
    """Return `(params, feedback, x, target, key=None, weights=None, trees=()) -> (value, readings)`.

    The chain is cut before each of its layers that has a weight, except the first. At a cut the cotangent is
    dy B, the output's cotangent times a fixed matrix, instead of the one from the layers above. Between two
    cuts the backward is that of the layers: a `Skip`, a `gated` or a `Repeat` is one piece with its own
    backward.

    Args:
        net: the chain, a `Serial`.
        loss: a loss without params.
        read: the reader of the factors.

    Args of the function:
        feedback: a matrix (outputs, features at the cut) for each cut, by `direct_feedback_matrices`.
        params, x, target, key, weights, trees: as for `feedback_alignment`.

    Returns of the function:
        the value of the loss as reduced, and the readings, a tree like the params.

    Raises:
        InputError: where the matrices do not fit the cuts, `net` is not a `Serial`, or a tree does not begin
            like the params.

    Cost: less than that of backpropagation, and each layer depends on dy alone.
    Source: Nøkland 2016.

    >>> import fnn
    >>> net, x, loss = fnn.Serial(fnn.Dense(4), fnn.Dense(1)), jnp.ones((2, 3)), fnn.half_squared_error()
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> feedback = direct_feedback_matrices(net, jax.random.key(1), params, x)
    >>> value, grads = direct_feedback(net, loss)(params, feedback, x, jnp.zeros((2, 1)))
    >>> grads[0]["kernel"].shape
    (3, 4)
    """
    loss = without_params("direct_feedback", loss, net)

    def run(
        params: Params,
        feedback: Sequence[Any],
        x: Any,
        target: Any,
        key: Any = None,
        weights: Any = None,
        trees: tuple[Any, ...] = (),
    ) -> tuple[Any, Any]:
        params, feedback, x, trees = canonical((params, feedback, x, trees))
        for tree in trees:
            check_begins("direct_feedback", tree, params)
        spans = _spans(net, params, x)
        pieces, y = [], x
        for i, (start, stop) in enumerate(spans):
            piece, own = Serial(*net.layers[start:stop]), net.shares(params)[start:stop]
            y, residuals = forward(piece, own, y, None if key is None else jax.random.fold_in(key, i))
            leaves = tuple(net.shares(tree)[start:stop] for tree in trees)
            pieces.append((piece, own, residuals, leaves, y))
        value, dy = loss.value_and_grad(y, target, weights)
        wanted = [(dy.shape[-1], end.shape[-1]) for *_, end in pieces[:-1]]
        if [jnp.shape(matrix) for matrix in feedback] != wanted:
            fix = "fnn.feedback.direct_feedback_matrices(net, key, params, x)"
            raise InputError("direct_feedback", f"matrices {wanted}", describe(tuple(feedback)), fix)
        readings = []
        for (piece, own, residuals, leaves, end), matrix in zip(pieces, (*feedback, None), strict=True):
            at_end = dy if matrix is None else (dy @ matrix.astype(dy.dtype)).astype(end.dtype)
            readings += backward(piece, own, residuals, at_end, *leaves, read=read)[0]
        return value, net.gathered(readings, params)

    return run


def direct_feedback_matrices(net: Serial, key: Any, params: Params, x: Any) -> tuple[Any, ...]:
    """Draw the matrices of `direct_feedback`, with normal entries of variance 1 / outputs.

    Args:
        net: the chain, a `Serial`.
        key: a random key.
        params: the params of `net`, or their shapes.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.

    Returns:
        a tuple with a matrix (outputs, features at the cut) for each cut, in the dtype of the value there.

    Raises:
        InputError: where `net` is not a `Serial`.

    >>> import fnn
    >>> net, x = fnn.Serial(fnn.Dense(4), fnn.Dense(1)), jnp.ones((2, 3))
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> [matrix.shape for matrix in direct_feedback_matrices(net, jax.random.key(1), params, x)]
    [(1, 4)]
    """
    shapes, y = [], shapes_of("direct_feedback_matrices", x)
    for start, stop in _spans(net, params, x):
        piece = Serial(*net.layers[start:stop])
        y, _ = jax.eval_shape(
            lambda own, x, piece=piece: forward(piece, own, x), net.shares(params)[start:stop], y
        )
        shapes.append(y)
    outputs = shapes[-1].shape[-1]
    keys = jax.random.split(key, len(shapes))
    return tuple(
        jax.random.normal(k, (outputs, shape.shape[-1]), shape.dtype) / outputs**0.5
        for k, shape in zip(keys, shapes[:-1], strict=False)
    )


def _spans(net: Serial, params: Params, x: Any) -> list[tuple[int, int]]:
    """Return (start, stop) of each piece of the chain; `direct_feedback` says where it is cut."""
    if not isinstance(net, Serial):
        raise InputError("direct_feedback", "a chain", repr(net), "fnn.Serial(layer)")
    types = factor_types(net, params, x)
    weighted = [i for i, own in enumerate(net.shares(types)) if Outer in jax.tree.leaves(own)]
    cuts = [0, *weighted[1:], len(net.layers)]
    return list(zip(cuts, cuts[1:], strict=False))
