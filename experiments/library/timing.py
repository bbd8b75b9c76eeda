"""Times that can be compared on a busy machine: taken in turn, in one process, and told with their spread."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Quartiles(NamedTuple):
    """A median, and the quarter of the measurements below and above it."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def race(runners: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Run each runner once untimed, then `rounds` times in turn: give its seconds, one for each round."""
    for runner in runners.values():
        jax.block_until_ready(runner())
    seconds = {name: np.zeros(rounds) for name in runners}
    for i in range(rounds):
        for name, runner in runners.items():
            start = time.perf_counter()
            jax.block_until_ready(runner())
            seconds[name][i] = time.perf_counter() - start
    return seconds


def quartiles(values: np.ndarray) -> Quartiles:
    """Give the quartiles of measurements."""
    return Quartiles(*map(float, np.quantile(values, [0.25, 0.5, 0.75])))


def speedup(slow: np.ndarray, fast: np.ndarray) -> Quartiles:
    """Give how many times faster `fast` is: quartiles of the ratios, round by round."""
    return quartiles(slow / fast)
