"""The usual networks, built from a few numbers."""

from collections.abc import Sequence
from itertools import groupby, pairwise
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
    scan_from: int = 4,
) -> Serial:
    """Build a multilayer perceptron: dense layers with activations between them and a linear output.

    `sizes` are the widths, the input's first: `mlp([784, 512, 10])` has one hidden layer. `activation` is
    one for all hidden layers, or a sequence with one for each. `dropout` is the rate after each
    activation, `dtype` what the layers compute in, `kernel_init` the weights' initializer (the default is
    He's, for relu; the output layer's is LeCun's). Where `scan_from` or more equal (activation, dense)
    pairs follow each other, they become one `Repeat`, so that depth costs no compile time.

    >>> mlp([64, 32, 10])
    Serial(Dense(32, inputs=64), relu, Dense(10, inputs=32))
    """
    sizes = list(sizes)
    if len(sizes) < 2:
        raise InputError("mlp", "two or more sizes", repr(sizes), "fnn.mlp([inputs, hidden, outputs])")
    for size in sizes:
        check_size("mlp", "each size", size)
    hidden = len(sizes) - 2
    activations = list(activation) if isinstance(activation, Sequence) else [activation] * hidden
    if len(activations) != hidden:
        wanted = f"one activation, or one for each of {hidden} hidden layers"
        raise InputError("mlp", wanted, repr(activations), f"fnn.mlp({sizes}, fnn.relu)")

    def dense(inputs: int, features: int, init: Initializer) -> Dense:
        return Dense(features, bias=bias, inputs=inputs, dtype=dtype, kernel_init=init)

    def block(activation: Layer, inputs: int, features: int, init: Initializer) -> Serial:
        noise = (Dropout(dropout),) if dropout else ()
        return Serial(activation, *noise, dense(inputs, features, init))

    inits = [kernel_init] * hidden + [lecun_normal()]
    blocks = [
        block(activation, k, j, init)
        for activation, (k, j), init in zip(activations, pairwise(sizes[1:]), inits[1:], strict=True)
    ]
    # The pairs are (activation, dense), not (dense, activation): the boundary between two of them is then
    # the pre-activation, and no boundary is kept on both sides of a scan's edge.
    layers: list[Layer] = [dense(sizes[0], sizes[1], inits[0])]
    for same, group in groupby(blocks):
        n = len(list(group))
        square = same.layers[-1].inputs == same.layers[-1].features  # pyright: ignore
        layers += [Repeat(same, n)] if square and n >= scan_from else [same] * n
    return Serial(*layers)


def gated(features: int, activation: Activation = silu, *, bias: bool = False, dtype: Any = None) -> Serial:
    """Build a gated linear unit, f(x W_gate) * (x W_up): (..., k) -> (..., features).

    Gate and up are packed in one weight (k, 2 * features) and one product: SwiGLU for silu, GEGLU for
    gelu, GLU for sigmoid. A chain of a dense layer and a `Gate`, so that only the packed pre-activation is
    kept. Source: Shazeer 2020.

    >>> gated(8)
    Serial(Dense(16, bias=False), Gate())
    """
    check_size("gated", "features", features)
    return Serial(Dense(2 * features, bias=bias, dtype=dtype), Gate(activation))
