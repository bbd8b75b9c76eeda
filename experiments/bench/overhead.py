"""What a gradient costs before it is run, and when it is run without `jit`: fnn beside plain JAX.

    python -m experiments.bench.overhead --depths 4 16 64

For a chain of dense layers: the equations of the traced gradient (each program that is called from several
places once, and every time), the time to trace it, to lower it and to compile it; and the time of eager
calls. Times are medians of rounds in which the two take turns, as ratios to plain JAX's, with the quartiles
of the ratio of each round.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import fnn
from experiments.bench.step import PLAIN, plain
from experiments.library.timing import quartiles, race, speedup


@dataclass(frozen=True)
class Options:
    """What to measure."""

    depths: tuple[int, ...] = (4, 16, 64)  # hidden layers
    activations: tuple[str, ...] = ("relu", "gelu", "silu")
    width: int = 64
    batch: int = 32
    rounds: int = 5


def equations(program: Any, known: set[int] | None = None) -> int:
    """Count the equations of a program and of those within it; of each once where `known` is given."""
    if known is not None:
        if id(program) in known:
            return 0
        known.add(id(program))
    inner = sum(equations(p, known) for equation in program.eqns for p in _within(equation))
    return len(program.eqns) + inner


def _within(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            found = getattr(one, "jaxpr", one)
            if hasattr(found, "eqns"):
                yield found


def both(name: str, scan: bool, depth: int, options: Options) -> tuple[Callable, Callable, tuple, Callable]:
    """Give fnn's gradient function, plain JAX's, their arguments, and fnn's network as a function."""
    net = fnn.mlp([options.width] * (depth + 1) + [10], getattr(fnn, name), scan=scan)
    x = jax.random.normal(jax.random.key(0), (options.batch, options.width))
    labels, loss = jnp.arange(options.batch) % 10, fnn.softmax_cross_entropy()
    params = fnn.init(net, jax.random.key(1), x)

    def value(params: Any, x: Any, labels: Any) -> Any:
        y = jax.nn.log_softmax(plain(PLAIN[name], params, x))
        return -jnp.take_along_axis(y, labels[:, None], 1).mean()

    ours = fnn.value_and_grad(net, loss)
    return ours, jax.value_and_grad(value), (params, x, labels), lambda p, x: fnn.forward(net, p, x)[0]


def stages(f: Callable, args: tuple) -> list[float]:
    """Time tracing, lowering and compiling from the beginning, in seconds."""
    jax.clear_caches()
    times = [time.perf_counter()]
    traced = jax.jit(f).trace(*args)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    lowered.compile()
    times.append(time.perf_counter())
    return list(np.diff(times))


def compiling(options: Options) -> None:
    """Print a line for each activation, depth and form."""
    print(
        f"{'':22}{'equations, each once':>22}{'all':>14}{'trace':>22}{'lower':>22}{'compile':>22}{'sum':>22}"
    )
    for name in options.activations:
        for depth in options.depths:
            for scan in (False, True):
                ours, theirs, args, _ = both(name, scan, depth, options)
                programs = [jax.make_jaxpr(f)(*args).jaxpr for f in (ours, theirs)]
                once = [equations(p, set()) for p in programs]
                each = [equations(p) for p in programs]
                stages(theirs, args)  # what is imported at first use
                rounds = np.array([[stages(f, args) for f in (ours, theirs)] for _ in range(options.rounds)])
                rounds = np.concatenate([rounds, rounds.sum(2, keepdims=True)], 2)
                ratios = [str(quartiles(rounds[:, 0, i] / rounds[:, 1, i])) for i in range(4)]
                label = f"{name} {depth} {'scanned' if scan else 'unrolled'}"
                counts = f"{once[0]:>9} / {once[1]:<6}{each[0] / each[1]:>12.2f}"
                print(f"{label:26}{counts}" + "".join(f"{ratio:>22}" for ratio in ratios), flush=True)


def eager(options: Options) -> None:
    """Print a line for each activation: forward and gradient without `jit`."""
    print(f"\n{'eager, 16 layers':22}{'forward':>24}{'gradient':>24}")
    for name in options.activations:
        ours, theirs, args, network = both(name, False, 16, options)
        forward = partial(plain, PLAIN[name])
        cells = []
        for own, other, given in ((network, forward, args[:2]), (ours, theirs, args)):
            runners = {"fnn": partial(own, *given), "plain": partial(other, *given)}
            times = race(runners, 4 * options.rounds)
            cells.append(str(speedup(times["fnn"], times["plain"])))
        print(f"{name:22}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def main(options: Options) -> None:
    """Print both tables."""
    print(
        f"width {options.width}, batch {options.batch}, jax {jax.__version__}, {jax.devices()[0].device_kind}"
    )
    print("fnn / plain JAX: median (quartiles)")
    compiling(options)
    eager(options)


if __name__ == "__main__":
    main(tyro.cli(Options))
