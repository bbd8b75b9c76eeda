"""Scores of training examples: influence on a test loss, TracIn, GraNd and EL2N.

All are inner products and norms of example gradients, each of the example's own loss (see
`losses_and_readings`), read from the factors without a gradient of each example.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import Layer, Params, forward
from fnn.errors import InputError, describe
from fnn.losses.objective import LossLike, Objective, as_objective, value_and_grad
from fnn.reader import as_factors
from fnn.readers.coupling import check_uncoupled
from fnn.readers.examples import inner_product, squared_norm
from fnn.readers.pairs import gram
from fnn.readers.seeding import losses_and_readings, row_losses
from fnn.readings import sum_over_params


def influence(net: Layer, loss: LossLike, inverse: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function `(params, x, target, x_test, target_test) -> scores`: the influence on a test loss.

    score_i = g_i^T (F + damping I)^-1 g, where g is the gradient of the test loss and g_i that of example i's
    own loss. To first order, the score is the fall of the test loss for each unit of weight that example i
    gets in the mean of the training losses beyond its own; leaving the example out raises the test loss by
    score_i / n. Helpful examples have scores above zero, harmful ones below.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`; the test loss is reduced as it says.
        inverse: a function that multiplies a tree like the params by (F + damping I)^-1, F the curvature of
            the mean training loss: `lambda v: fnn.curvature.kronecker_solve(blocks, v, damping)` for
            Kronecker factors, `fnn.curvature.conjugate_gradients(...)` for the GGN or the Hessian. The scores
            depend much on the damping, as the F of a network is singular.

    Args of the function:
        params: the params of `net`, and of the loss where it has some.
        x: n training examples, (n, ..., k).
        target: their targets.
        x_test: the test examples, (m, ..., k).
        target_test: their targets.

    Returns of the function:
        scores (n,), in float32 or wider.

    Cost: a gradient of the test loss, one `inverse`, and a pass over the training examples, 2ntkj flops a
    layer.
    Source: Koh, Liang 2017, whose score has the other sign; for its meaning Bae et al. 2022.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> x, target = jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1))
    >>> inverse = fnn.curvature.conjugate_gradients(
    ...     lambda v: fnn.curvature.ggn_product(net, loss)(params, x, target, v), damping=0.5
    ... )
    >>> scores = influence(net, loss, inverse)(params, x, target, x[:1], target[:1])
    >>> [round(score, 3) for score in scores.tolist()]
    [0.333, 1.333]
    """
    loss = as_objective("influence", loss, net)
    if not callable(inverse):
        fix = "lambda v: fnn.curvature.kronecker_solve(inverse, v, damping=1e-2)"
        raise InputError("influence", "a function that multiplies by an inverse", describe(inverse), fix)
    products = losses_and_readings(net, loss, inner_product)

    def run(params: Params, x: Any, target: Any, x_test: Any, target_test: Any) -> Any:
        _, gradient = value_and_grad(net, loss, noise=False)(params, x_test, target_test)
        return sum_over_params(products(params, x, target, trees=(inverse(gradient),))[1])

    return run


def tracin(net: Layer, loss: LossLike) -> Callable[..., Any]:
    """Return a function `(checkpoints, x, target, x_test, target_test) -> scores`: TracIn.

    scores[i, j] = sum over checkpoints of rate g_i . g_j: to first order, by how much gradient descent on
    training example i lowers the loss of test example j. Sum over j for the whole test set.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, or a function of your own, as for `fnn.Loss`.

    Args of the function:
        checkpoints: pairs (params, learning rate), one or more.
        x: n training examples, (n, ..., k).
        target: their targets.
        x_test: m test examples, (m, ..., k).
        target_test: their targets.

    Returns of the function:
        scores (n, m), in float32 or wider.

    Raises:
        InputError: where there is no checkpoint, or a layer couples examples.

    Cost: two passes a checkpoint and their Gram matrix, 2nm(k + j) flops a layer.
    Source: Pruthi et al. 2020.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> x, target = jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1))
    >>> print(tracin(net, loss)([(params, 0.5)], x, target, x[:1], target[:1]))
    [[0.5]
     [2. ]]
    """
    loss = as_objective("tracin", loss, net)
    factors_of, pairs_of = losses_and_readings(net, loss, as_factors), losses_and_readings(net, loss, gram)

    def run(
        checkpoints: Sequence[tuple[Params, Any]], x: Any, target: Any, x_test: Any, target_test: Any
    ) -> Any:
        if not checkpoints:
            fix = "[(params, learning_rate)]"
            raise InputError("tracin", "one or more pairs (params, learning rate)", repr(checkpoints), fix)
        total = []
        for params, rate in checkpoints:
            _, factors = factors_of(params, x_test, target_test)
            total.append(rate * sum_over_params(pairs_of(params, x, target, trees=(factors,))[1], axes=2))
        return sum(total[1:], total[0])

    return run


def grand(net: Layer, loss: LossLike) -> Callable[..., Any]:
    """Return a function `(params, x, target) -> scores`: GraNd, the norm of each example's gradient.

    Args:
        net: the network, any layer.
        loss: one of `fnn.losses`, or a function of your own, as for `fnn.Loss`.

    Args of the function:
        params: the params of `net`. Average the scores over several initializations.
        x: the examples (n, ..., k).
        target: their targets.

    Returns of the function:
        scores (n,), in float32 or wider.

    Raises:
        InputError: where a layer or the loss couples examples.

    Cost: one pass, 2n(k + j) flops a layer; no gradient is made.
    Source: Paul, Ganguli, Dziugaite 2021.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> print(grand(net, loss)(params, jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1))))
    [1. 4.]
    """
    loss = as_objective("grand", loss, net)
    squares = losses_and_readings(net, loss, squared_norm)
    return lambda params, x, target: jnp.sqrt(sum_over_params(squares(params, x, target)[1]))


def el2n(net: Layer, loss: Objective) -> Callable[..., Any]:
    """Return a function `(params, x, target) -> scores`: EL2N, the norm of the loss's gradient by the output.

    For the cross-entropy this is |p - e_label|. The norm of an example is taken over all its tokens.

    Args:
        net: the network, any layer.
        loss: a loss without params.

    Args of the function:
        params, x, target: as for `grand`.

    Returns of the function:
        scores (n,), in the dtype of the output.

    Raises:
        InputError: where a layer or the loss couples examples.

    Cost: a forward pass.
    Source: Paul, Ganguli, Dziugaite 2021.

    >>> import fnn
    >>> net, loss, params = fnn.Dense(1, bias=False), fnn.half_squared_error(), {"kernel": jnp.ones((1, 1))}
    >>> print(el2n(net, loss)(params, jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1))))
    [1. 2.]
    """
    loss = as_objective("el2n", loss, net)

    def run(params: Params, x: Any, target: Any) -> Any:
        check_uncoupled("el2n", net, params, x)
        _, dy = row_losses(loss, forward(net, params, x)[0], target)
        squares = [jnp.square(d).sum(tuple(range(1, d.ndim))) for d in jax.tree.leaves(dy)]
        return jnp.sqrt(sum(squares[1:], squares[0]))

    return run
