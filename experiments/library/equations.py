"""The backward pass of a network of three layers, line by line, and five lines as they are often written."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp

import fnn

State = SimpleNamespace  # all that the passes have computed, by the names of the derivation
Rule = Callable[[State], Any]


class Line(NamedTuple):
    """A line of the backward pass, as it should be, and for five of them as it is often written."""

    name: str
    right: str
    rule: Rule
    letter: str = ""
    wrong: str = ""
    wrong_rule: Rule | None = None


def slope(activation: fnn.activations.Activation, z: Any, dy: Any) -> Any:
    """Give dy * f'(z), by the activation's own backward."""
    return fnn.backward(activation, (), fnn.forward(activation, (), z)[1], dy)[1]


LINES = [
    Line("dA3", "-(Y/A3 - (1-Y)/(1-A3))", lambda s: -(s.Y / s.A3 - (1 - s.Y) / (1 - s.A3)),
         "a", "-(Y/A3 - (1-Y)/A3)", lambda s: -(s.Y / s.A3 - (1 - s.Y) / s.A3)),
    Line("dZ3", "dA3 * sigmoid'(Z3)", lambda s: slope(fnn.sigmoid, s.Z3, s.dA3),
         "b", "sigmoid(dA3)", lambda s: fnn.sigmoid(s.dA3)),
    Line("dW3", "dZ3 A2^T / m", lambda s: s.dZ3 @ s.A2.T / s.m,
         "c", "dZ3 dA3^T / m", lambda s: s.dZ3 @ s.dA3.T / s.m),
    Line("db3", "sum(dZ3) / m", lambda s: s.dZ3.sum(1, keepdims=True) / s.m),
    Line("dA2", "W3^T dZ3", lambda s: s.W3.T @ s.dZ3),
    Line("dZ2", "dA2 * relu'(Z2)", lambda s: slope(fnn.relu, s.Z2, s.dA2),
         "d", "relu(dA2)", lambda s: fnn.relu(s.dA2)),
    Line("dW2", "dZ2 A1^T / m", lambda s: s.dZ2 @ s.A1.T / s.m),
    Line("db2", "sum(dZ2) / m", lambda s: s.dZ2.sum(1, keepdims=True) / s.m),
    Line("dA1", "W2^T dZ2", lambda s: s.W2.T @ s.dZ2,
         "e", "dZ2 dA2^T / m", lambda s: s.dZ2 @ s.dA2.T / s.m),
    Line("dZ1", "dA1 * relu'(Z1)", lambda s: slope(fnn.relu, s.Z1, s.dA1)),
    Line("dW1", "dZ1 X^T / m", lambda s: s.dZ1 @ s.X.T / s.m),
    Line("db1", "sum(dZ1) / m", lambda s: s.dZ1.sum(1, keepdims=True) / s.m),
]  # fmt: skip
WRONG = {line.letter: line for line in LINES if line.letter}
PARAMS = ("W1", "b1", "W2", "b2", "W3", "b3")


def forward_pass(params: tuple[Any, ...], X: Any, Y: Any) -> tuple[Any, State]:
    """Give the loss, and everything on the way to it."""
    s = State(X=X, Y=Y, m=X.shape[1], **dict(zip(PARAMS, params, strict=True)))
    s.Z1 = s.W1 @ s.X + s.b1
    s.A1 = fnn.relu(s.Z1)
    s.Z2 = s.W2 @ s.A1 + s.b2
    s.A2 = fnn.relu(s.Z2)
    s.Z3 = s.W3 @ s.A2 + s.b3
    s.A3 = fnn.sigmoid(s.Z3)
    return -(Y * jnp.log(s.A3) + (1 - Y) * jnp.log(1 - s.A3)).sum() / s.m, s


def backward_pass(s: State, letter: str = "") -> tuple[Any, ...]:
    """Run the derivation line by line, the one with this letter as it is often written."""
    for line in LINES:
        wrong = line.wrong_rule if letter and line.letter == letter else None
        setattr(s, line.name, (wrong or line.rule)(s))
    return tuple(getattr(s, f"d{name}") for name in PARAMS)
