"""Wrong calls of losses and heads."""

# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn import Dense, LinearCrossEntropy, Loss
from tests.suggestions.row import KEY, Row, X

Y = jnp.ones((4, 3), jnp.float32)
LABEL = jnp.array([0, 1, 2, 0])
CE, SQUARED = fnn.softmax_cross_entropy(), fnn.squared_error()
HEAD = LinearCrossEntropy(3)
OWN = HEAD.init(KEY, X)
TIED = LinearCrossEntropy(5, tied=(0, "embedding"))
WORDS = fnn.Serial(fnn.Embedding(5, 2), fnn.LayerNorm())
INDEX = jnp.array([0, 1, 4, 2])


def loss_of(loss, y=Y, target=None):
    """Take a suggested loss."""
    return loss(y, LABEL if target is None else target)


def target_of(loss, y=Y, *more):
    """Take a suggested target."""
    return lambda target: loss(y, target, *more)


def training(net, loss, x=X, target=LABEL):
    """Train by a suggested loss."""
    params = fnn.init(net, KEY, x)
    if loss.has_params:
        params = params, loss.init(KEY, fnn.output(net, params, x))
    return fnn.value_and_grad(net, loss)(params, x, target)


def wrong_target(loss, target, y=Y):
    """The row of a wrong target."""
    return Row(lambda: loss(y, target), target_of(loss, y), {"target": target, "y": y})


def bare(rule):
    """The row of a rule that returns the wrong thing."""
    return Row(lambda: Loss(rule)(Y, Y), lambda loss: loss(Y, Y))


def tied(head, net=WORDS, x=INDEX):
    params = fnn.init(net, KEY, x)
    return fnn.value_and_grad(net, head)((params, {"bias": jnp.zeros(5, jnp.float32)}), x, INDEX)


# Its table has no factor but the gradients of the examples.
OWN_TABLE = fnn.function.Function(
    lambda p, x: x * jnp.sin(p["embedding"]).sum(0)[None],
    init=lambda key, x: {"embedding": jnp.ones((5, 2), jnp.float32)},
)


def joint(net, loss, read, x=INDEX):
    params = fnn.init(net, KEY, x)
    own = {"bias": jnp.zeros(5, jnp.float32)}
    return fnn.readers.losses_and_readings(net, loss, read)((params, own), x, INDEX)


ROWS = {
    # Options.
    "smoothing": Row(lambda: fnn.softmax_cross_entropy(1.5), loss_of),
    "delta": Row(lambda: fnn.huber(delta=-1), lambda loss: loss(Y, Y)),
    "a reduction": Row(lambda: fnn.losses.absolute_error("average"), lambda loss: loss(Y, Y)),
    "a reduction of one's own rule": Row(lambda: Loss(jnp.subtract, reduction="all"), lambda loss: loss(Y, Y), {"rule": lambda y, t: y - t}),
    "a head's reduction": Row(lambda: LinearCrossEntropy(3, reduction="all"), lambda head: training(fnn.relu, head)),
    "a head's vocabulary": Row(lambda: LinearCrossEntropy(-3), lambda head: training(fnn.relu, head)),
    "a head's walk": Row(lambda: LinearCrossEntropy(3, walk="columns"), lambda head: training(fnn.relu, head)),
    "two tied heads": Row(lambda: TIED + TIED, lambda head: training(fnn.relu, head)),
    "a head's chunk": Row(lambda: LinearCrossEntropy(3, chunk=0), lambda head: training(fnn.relu, head)),
    "a head's smoothing": Row(lambda: LinearCrossEntropy(3, label_smoothing=-1), lambda head: training(fnn.relu, head)),
    "z_loss": Row(lambda: LinearCrossEntropy(3, z_loss=-1), lambda head: training(fnn.relu, head)),
    "tied": Row(lambda: LinearCrossEntropy(3, tied="embedding"), tied),
    "tied to nothing": Row(lambda: tied(LinearCrossEntropy(5, tied=(1, "kernel"))), tied),
    "tied to a weight that is not looked up": Row(
        lambda: joint(fnn.Serial(OWN_TABLE, fnn.relu), TIED, fnn.readers.squared_norm, jnp.ones((4, 2), jnp.float32)),
        lambda layer: joint(fnn.Serial(layer), TIED, fnn.readers.squared_norm),
    ),
    # What is no loss.
    "no loss": Row(lambda: fnn.value_and_grad(Dense(3), 3), lambda loss: training(Dense(3), loss)),
    "a loss not yet made": Row(lambda: fnn.value_and_grad(Dense(3), fnn.squared_error), lambda loss: loss(Y, Y)),
    "a loss with params": Row(lambda: fnn.curvature.hessian_product(Dense(3), HEAD), lambda loss: training(Dense(3), loss)),
    # Outputs, targets, weights.
    "integer outputs": Row(lambda: SQUARED(LABEL[:, None], Y), lambda y: SQUARED(y, y), {"y": LABEL[:, None]}),
    "an output of one axis and a target of two": Row(lambda: SQUARED(Y[:, 0], Y[:, :1]), lambda y: SQUARED(y, Y[:, :1]), {"y": Y[:, 0]}),
    "a target of objects": Row(lambda: SQUARED(Y, np.full((4, 3), None)), lambda target: target, {"k": 3}),
    "a target of texts": Row(lambda: fnn.value_and_grad(fnn.relu, SQUARED)((), Y, np.full((4, 3), "a")), lambda target: target, {"k": 3}),
    "an output without an axis": Row(lambda: SQUARED(Y[0, 0], Y[0, 0]), lambda y: SQUARED(y, y), {"y": Y[0, 0]}),
    "classes for numbers": Row(lambda: SQUARED(Y, LABEL), lambda target: SQUARED(Y, target), {"y": Y, "target": LABEL}),
    "no outputs": Row(lambda: CE(Y[:, :0], LABEL), lambda layer: training(layer, SQUARED, X, Y[:, :1])),
    "no outputs to compare": Row(lambda: SQUARED(Y[:, :0], Y[:, :0]), lambda layer: training(layer, SQUARED, X, Y[:, :1])),
    "a target that is no array": Row(lambda: CE(Y, [0, 1, 2, 0]), target_of(CE), {"target": [0, 1, 2, 0]}),
    "labels as numbers": wrong_target(CE, LABEL.astype(float)),
    "labels as a column": wrong_target(CE, LABEL[:, None]),
    "integer one-hot labels": wrong_target(CE, jax.nn.one_hot(LABEL, 3, dtype=int)),
    "labels for other rows": wrong_target(CE, LABEL[:3]),
    "a label below zero": Row(lambda: CE(Y, LABEL - 100), lambda value: value, {"loss": CE, "y": Y, "target": LABEL - 100}),
    "a label too large": Row(lambda: CE(Y, LABEL + 2), lambda layer: training(layer, CE, X, LABEL + 2)),
    "a label beyond sense": Row(lambda: CE(Y, LABEL + 2**40), lambda value: value, {"loss": CE, "y": Y, "target": LABEL + 2**40}),
    "a target of one row": wrong_target(SQUARED, jnp.ones(4, jnp.float32)),
    "a flat target": wrong_target(SQUARED, jnp.ones(12, jnp.float32)),
    "a target of another size": wrong_target(SQUARED, jnp.ones((4, 2), jnp.float32)),
    "weights of outputs": Row(lambda: SQUARED(Y, Y, Y), lambda weights: SQUARED(Y, Y, weights)),
    # Rules.
    "three of a rule": bare(lambda y, t: (y.sum(-1), y, t)),
    "one value": bare(lambda y, t: jnp.mean((y - t) ** 2)),
    "a dy of one row": bare(lambda y, t: (y.sum(-1), y[0])),
    "text": bare(lambda y, t: "loss"),
    "complex numbers": bare(lambda y, t: jax.lax.complex(y.sum(-1), y.sum(-1))),
    # Heads.
    "a head's input without an axis": Row(lambda: HEAD.init(KEY, Y[0, 0]), lambda x: HEAD.init(KEY, x), {"x": Y[0, 0]}),
    "a head's labels as one-hot": Row(lambda: HEAD(OWN, X, jax.nn.one_hot(LABEL, 3)), lambda t: HEAD(OWN, X, t), {"target": jax.nn.one_hot(LABEL, 3)}),
    "a head's labels as a column": Row(lambda: HEAD(OWN, X, LABEL[:, None]), lambda t: HEAD(OWN, X, t), {"target": LABEL[:, None]}),
    "a head's labels for other rows": Row(lambda: HEAD(OWN, X, LABEL[:3]), lambda t: HEAD(OWN, X, t)),
    "a head's weights": Row(lambda: HEAD(OWN, X, LABEL, jnp.ones((4, 2))), lambda w: HEAD(OWN, X, LABEL, w)),
    "a head's label below zero": Row(lambda: HEAD(OWN, X, LABEL - 1), lambda value: value, {"head": HEAD, "params": OWN, "x": X, "target": LABEL - 1}),
    "a head's label too large": Row(lambda: HEAD(OWN, X, LABEL + 1), lambda head: training(fnn.relu, head, X, LABEL + 1)),
    "no pair for a head": Row(lambda: fnn.value_and_grad(fnn.relu, HEAD)((), X, LABEL), lambda params: fnn.value_and_grad(fnn.relu, HEAD)(params, X, LABEL), {"net": fnn.relu, "head": HEAD, "x": X, "y": X}),
    "examples of a head": Row(lambda: fnn.readers.losses_and_readings(fnn.relu, HEAD, fnn.readers.squared_norm)(((), OWN), X[0], LABEL[0]), lambda x: x, {"x": X[0]}),
    # Sums.
    "reductions that differ": Row(lambda: CE + fnn.squared_error("sum"), lambda loss: loss + CE, {"loss": fnn.squared_error("sum")}),
    "times a loss": Row(lambda: CE * SQUARED, lambda loss: loss(Y, Y)),
    "an entry of outputs that is not there": Row(lambda: CE.on("a")(Y, LABEL), lambda y: CE.on("a")(y, {"a": LABEL}), {"y": Y}),
    "no pair for a sum": Row(
        lambda: fnn.value_and_grad(fnn.relu, 0.5 * HEAD + CE)((), X, LABEL),
        lambda params: fnn.value_and_grad(fnn.relu, 0.5 * HEAD + CE)(params, X, LABEL),
        {"net": fnn.relu, "loss": 0.5 * HEAD + CE, "x": X, "y": X},
    ),
    # Numbers that JAX's dtypes do not hold are cut off nowhere in silence.
    "a number of 64 bits": Row(lambda: _without_x64(), lambda _: jax.config.update("jax_enable_x64", True)),
}  # fmt: skip


def _without_x64():
    with jax.enable_x64(False):
        CE(np.ones((4, 3), np.float32), np.array([0, 1, 2, 2**40]))
