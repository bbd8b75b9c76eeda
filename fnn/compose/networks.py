"""The usual networks, built from a few numbers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from fnn.activations.table import Activation, relu, silu
from fnn.compose.repeat import Repeat
from fnn.compose.serial import Serial
from fnn.core import Layer
from fnn.errors import InputError, check_size
from fnn.initializers import he_normal, lecun_normal
from fnn.layers.dense import Dense, Initializer
from fnn.layers.dropout import Dropout
from fnn.layers.gated import Gate


def mlp(
    sizes: Sequence[int],
    activation: Layer | Sequence[Layer] = relu,
    *,
    bias: bool = True,
    dropout: float = 0.0,
    dtype: Any = None,
    kernel_init: Initializer = he_normal(),  # noqa: B008, a value
    scan: bool = False,
) -> Serial:
    """Build a multilayer perceptron: dense layers with activations between them and a linear output.

    params: `{"first": ..., "hidden": (..., ...), "output": ...}`, where "hidden" has `{"dense": ...}` for
    each hidden layer after the first: depth, activations and dropout change neither the names nor the initial
    values of the others. With `scan=True` "hidden" is `fnn.stack` of the same params.

    Args:
        sizes: the numbers of features, the input's first: `[784, 512, 10]` has one hidden layer.
        activation: one activation for all hidden layers, or a sequence with one for each.
        bias: whether the dense layers have biases.
        dropout: the rate of dropout after each activation, 0 <= dropout < 1.
        dtype: the dtype in which the layers compute; None for the input's.
        kernel_init: the initializer of the weights: He's for relu, as the default. The output layer's is
            LeCun's.
        scan: whether the hidden layers, which must be alike, are one `Repeat`, whose compile time does not
            grow with the depth.

    Raises:
        InputError: where there are fewer than two sizes, the activations are not as many as the hidden
            layers, or those are not alike and `scan` is True.

    >>> mlp([64, 32, 10])
    Serial(first=Dense(32, inputs=64), activation=relu, output=Dense(10, inputs=32))
    """
    sizes = list(sizes)
    if len(sizes) < 2:
        raise InputError("mlp", "two or more sizes", repr(sizes), "fnn.mlp([inputs, hidden, outputs])")
    for size in sizes:
        check_size("mlp", "each size", size, "fnn.mlp([inputs, hidden, outputs])")
    hidden = len(sizes) - 2
    if isinstance(activation, str):
        raise InputError("mlp", "an activation, a layer", repr(activation), f"fnn.mlp({sizes}, fnn.relu)")
    activations = list(activation) if isinstance(activation, Sequence) else [activation] * hidden
    if len(activations) != hidden:
        wanted = f"one activation, or one for each of {hidden} hidden layers"
        raise InputError("mlp", wanted, repr(activations), f"fnn.mlp({sizes}, fnn.relu)")

    def dense(inputs: int, features: int, init: Initializer) -> Dense:
        return Dense(features, bias=bias, inputs=inputs, dtype=dtype, kernel_init=init)

    def activated(activation: Layer) -> dict[str, Any]:
        return {"activation": activation} | ({"dropout": Dropout(dropout)} if dropout else {})

    output = dense(sizes[-2], sizes[-1], lecun_normal())
    if not hidden:
        return Serial(output=output)
    # A block is an activation and then a dense layer, not a dense layer and its activation: the boundary
    # between two of them is then the pre-activation, and none is kept on both sides of a scan's edge.
    blocks = [
        Serial(**activated(before), dense=dense(k, j, kernel_init))
        for before, (k, j) in zip(activations[:-1], pairwise(sizes[1:-1]), strict=True)
    ]
    if scan and (len(set(sizes[1:-1])) > 1 or len(set(blocks)) > 1):
        wanted, got = "hidden layers that are alike, to scan over", f"{sizes}, {activations}"
        raise InputError("mlp", wanted, got, f"fnn.mlp({sizes}, activations, scan=False)")
    inner = {"hidden": Repeat(blocks[0], len(blocks)) if scan else Serial(*blocks)} if blocks else {}
    first = dense(sizes[0], sizes[1], kernel_init)
    return Serial(first=first, **inner, **activated(activations[-1]), output=output)


def gated(
    features: int, activation: Activation = silu, *, bias: bool = False, dtype: Any = None, blocks: int = 1
) -> Serial:
    """Build a gated linear unit, f(x W_gate) * (x W_up): (..., k) -> (..., features).

    Gate and up are one weight (k, 2 * features) and one product: SwiGLU for silu, GEGLU for gelu, GLU for
    sigmoid. It is a chain of a dense layer and a `Gate`, which keeps only the pre-activation of both.
    Source: Shazeer 2020.

    Args:
        features: the number of outputs, an integer >= 1.
        activation: the activation f.
        bias: whether the dense layer has a bias.
        dtype: the dtype in which the dense layer computes; None for the input's.
        blocks: how many blocks, each of a part of the gate and the same part of the value, the weight's
            columns are made of, a divisor of `features`; see `fnn.Gate`. With as many as the devices that the
            columns are sharded over, as by the preset "tensor", no activation moves between the two halves.

    Raises:
        InputError: where `features` is no integer >= 1, or `blocks` does not divide it.

    >>> gated(8)
    Serial(Dense(16, bias=False), Gate())
    """
    check_size("gated", "features", features, "fnn.gated(j)")
    check_size("gated", "blocks", blocks, f"fnn.gated({features})")
    if features % blocks:
        wanted = f"blocks to divide the {features} features"
        raise InputError("gated", wanted, repr(blocks), f"fnn.gated({features})")
    return Serial(Dense(2 * features, bias=bias, dtype=dtype), Gate(activation, blocks))
