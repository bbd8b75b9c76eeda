"""One function of somebody else's package, with arguments to check it at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """A function by its full name, and how it is called; `surrogate` and `wrt` are handed to the checker."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


def row(name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Row:
    return Row(name, function, args, options)


def normal(*shape: int, seed: int = 0, scale: float = 1.0, at: float = 0.0) -> np.ndarray:
    """Standard normal float32 values, scaled and moved."""
    return (at + scale * np.random.default_rng((seed, *shape)).standard_normal(shape)).astype(np.float32)


def positive(*shape: int, seed: int = 0, low: float = 0.3, high: float = 2.0) -> np.ndarray:
    """Uniform float32 values between two bounds."""
    return np.random.default_rng((seed, *shape)).uniform(low, high, shape).astype(np.float32)


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    """Uniform float32 values well inside of (0, 1)."""
    return positive(*shape, seed=seed, low=0.1, high=0.9)


def integers(below: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).integers(0, below, shape).astype(np.int32)


def definite(n: int, seed: int = 0) -> np.ndarray:
    """A symmetric positive definite matrix, well conditioned."""
    a = np.random.default_rng((seed, n)).standard_normal((n, n))
    return (a @ a.T / n + np.eye(n)).astype(np.float32)
