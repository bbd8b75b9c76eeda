"""Which training examples did it: influence on a test loss, TracIn, GraNd and EL2N.

All are inner products and norms of example gradients, each of the example's own loss (see
`losses_and_readings`), read without making a gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import Layer, Params, forward
from fnn.errors import InputError
from fnn.losses.objective import Objective, as_objective, value_and_grad
from fnn.reader import as_factors, sum_over_params
from fnn.readers.coupling import check_uncoupled
from fnn.readers.examples import inner_product, squared_norm
from fnn.readers.pairs import gram
from fnn.readers.seeding import losses_and_readings, row_losses


def influence(net: Layer, loss: Any, inverse: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function `(params, x, target, x_test, target_test) -> scores`, (n,), one for each example of
    x.

    score_i = g_i^T (F + damping I)^-1 g, where g is the gradient of the test loss as `loss` reduces it:
    by so much does the test loss fall, to first order, per unit of weight that example i gets beyond its
    own in the mean of the training losses; leaving it out raises the test loss by score_i / n. Helpful
    examples are above zero, harmful ones below.

    `inverse` takes a tree like the params and gives (F + damping I)^-1 times it, F the curvature of the mean
    training loss: `lambda v: fnn.curvature.kronecker_solve(blocks, v, damping)` for Kronecker factors,
    `fnn.curvature.conjugate_gradients`
    for the GGN or the Hessian itself. The damping decides much: for a network F is singular. Cost: a gradient
    for the test loss, `inverse` once, and one pass over the training examples, 2ntkj flops a layer.
    Source: Koh, Liang 2017 (whose score has the other sign); Bae et al. 2022 for what it means.
    """
    loss = as_objective("influence", loss)
    products = losses_and_readings(net, loss, inner_product)

    def run(params: Params, x: Any, target: Any, x_test: Any, target_test: Any) -> Any:
        _, gradient = value_and_grad(net, loss, noise=False)(params, x_test, target_test)
        return sum_over_params(products(params, x, target, trees=(inverse(gradient),))[1])

    return run


def tracin(net: Layer, loss: Any) -> Callable[..., Any]:
    """Return a function `(checkpoints, x, target, x_test, target_test) -> scores`, (n, m).

    `checkpoints` are pairs (params, learning rate); scores[i, j] = sum over them of rate g_i . g_j, what
    steps of gradient descent on example i take off the loss of test example j, to first order. Sum over
    j for the whole test set. Cost: two passes a checkpoint and their Gram matrix, 2nm(k + j) flops a layer.
    Source: Pruthi et al. 2020.
    """
    loss = as_objective("tracin", loss)
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


def grand(net: Layer, loss: Any) -> Callable[..., Any]:
    """Return a function `(params, x, target) -> scores`, (n,): the norm of each example's gradient.

    To be averaged over several initializations. Cost: one pass, 2n(k + j) flops a layer, no gradient.
    Source: Paul, Ganguli, Dziugaite 2021.
    """
    loss = as_objective("grand", loss)
    squares = losses_and_readings(net, loss, squared_norm)
    return lambda params, x, target: jnp.sqrt(sum_over_params(squares(params, x, target)[1]))


def el2n(net: Layer, loss: Objective) -> Callable[..., Any]:
    """Return a function `(params, x, target) -> scores`, (n,): the norm of each example's output gradient.

    For the cross-entropy |p - e_label|. Over the tokens of an example too. Cost: a forward pass.
    Source: Paul, Ganguli, Dziugaite 2021.
    """
    loss = as_objective("el2n", loss)

    def run(params: Params, x: Any, target: Any) -> Any:
        check_uncoupled("el2n", net, params, x)
        _, dy = row_losses(loss, forward(net, params, x)[0], target)
        squares = [jnp.square(d).sum(tuple(range(1, d.ndim))) for d in jax.tree.leaves(dy)]
        return jnp.sqrt(sum(squares[1:], squares[0]))

    return run
