"""Race KFAC against Adam on a deep autoencoder of digits.

    python -m experiments.readers.kfac_digits

Eight dense layers, 64-48-32-16-8-16-32-48-64 with tanh between, the binary cross-entropy of the pixels as
loss, on all of scikit-learn's digits at once. Each optimizer runs at every rate of a grid: its best counts.
Told are the steps and the seconds (compiling left out) to the lowest loss that both reach. Written:
figures.json and kfac.png.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import fnn
from experiments.library import answer
from experiments.library.data import from_scikit_learn
from experiments.library.reader_figures import curves
from experiments.library.results import as_json, machine, writable, write

LOSS = fnn.binary_cross_entropy()
SIZES = (48, 32, 16, 8, 16, 32, 48)


@dataclass(frozen=True)
class Options:
    """Race KFAC against Adam on a deep autoencoder of digits."""

    kfac_steps: int = 400
    """Steps of KFAC."""
    adam_steps: int = 2000
    """Steps of Adam."""
    kfac_rates: tuple[float, ...] = (0.3, 1.0)
    """Step sizes of KFAC to choose the best of."""
    adam_rates: tuple[float, ...] = (3e-3, 1e-2)
    """Step sizes of Adam to choose the best of."""
    damping: float = 1e-2
    """Damping of KFAC."""
    norm_constraint: float = 1e-3
    """How far KFAC's curvature lets a step change the model."""
    every: int = 5
    """KFAC's eigenbasis is refreshed every so many steps."""
    seed: int = 0
    """Seed of the first params and of the targets that KFAC samples."""
    results: Path = Path("experiments/results")
    """Folder for the results; they go to a folder inside it."""


def by_adam(net: fnn.Layer, x: Any, rate: float) -> tuple[Any, Any]:
    """Give Adam's optimizer, and its step `(state, key) -> (state, loss)`."""
    optimizer = optax.adam(rate)

    def step(state: Any, key: Any) -> tuple[Any, Any]:
        params, memory = state
        value, gradient = fnn.value_and_grad(net, LOSS)(params, x, x)
        updates, memory = optimizer.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), memory), value

    return optimizer, step


def by_kfac(net: fnn.Layer, x: Any, rate: float, options: Options) -> tuple[Any, Any]:
    """Give KFAC's optimizer, and its step."""
    how = {"damping": options.damping, "every": options.every, "norm_constraint": options.norm_constraint}
    optimizer = fnn.curvature.kfac(net, x, rate, **how)
    curved = fnn.curvature.kronecker_factors(net, LOSS, "sampled", bias="joint")

    def step(state: Any, key: Any) -> tuple[Any, Any]:
        params, memory = state
        value, gradient, factors = curved(params, x, x, key)
        updates, memory = optimizer.update(gradient, memory, params, factors=factors)
        return (optax.apply_updates(params, updates), memory), value

    return optimizer, step


def race(optimizer: Any, step: Any, params: Any, steps: int, seed: int) -> tuple[np.ndarray, float]:
    """Give the loss of every step, and the seconds that a step takes once all is compiled."""
    keys = jax.random.split(jax.random.key(seed), steps)
    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[1])
    compiled = run.lower((params, optimizer.init(params)), keys).compile()
    start = time.perf_counter()
    losses = np.asarray(jax.block_until_ready(compiled((params, optimizer.init(params)), keys)))
    return losses, (time.perf_counter() - start) / steps


def main(options: Options) -> None:
    """Race, compare, write."""
    start, console = time.perf_counter(), Console(highlight=False, soft_wrap=True)
    folder, digits = writable(options.results / "kfac-digits"), from_scikit_learn(options.seed)
    x = jnp.asarray(digits.x)
    layers = [layer for width in SIZES for layer in (fnn.Dense(width), fnn.tanh)]
    net = fnn.Serial(*layers, fnn.Dense(64))
    params, runs = fnn.init(net, jax.random.key(options.seed), x), {}
    for rate in options.adam_rates:
        runs["Adam", rate] = race(*by_adam(net, x, rate), params, options.adam_steps, options.seed)
    for rate in options.kfac_rates:
        runs["KFAC", rate] = race(*by_kfac(net, x, rate, options), params, options.kfac_steps, options.seed)
    for (name, rate), (losses, seconds) in runs.items():
        console.print(f"{name}, rate {rate:<6g} last loss {losses[-1]:8.4f}   {1e3 * seconds:7.2f} ms a step")
    best = {
        name: min(
            (run for run in runs if run[0] == name),
            key=lambda run: np.nan_to_num(runs[run][0][-1], nan=np.inf),
        )
        for name in ("KFAC", "Adam")
    }
    goal = max(np.nanmin(runs[run][0]) for run in best.values())  # the lowest that both reach
    reached = {}
    for name, run in best.items():
        losses, seconds = runs[run]
        below = np.flatnonzero(losses <= goal)
        reached[name] = int(below[0]) + 1, float((below[0] + 1) * seconds)
        told = "{} steps, {:.2f} seconds".format(*reached[name])
        console.print(f"loss {goal:.4f} by {name} (rate {run[1]:g}): {told}")
    figures = {
        "loss to reach": float(goal),
        "steps and seconds to it": reached,
        "rates": {name: run[1] for name, run in best.items()},
        "last losses": {f"{name} {rate:g}": float(run[0][-1]) for (name, rate), run in runs.items()},
        "milliseconds a step": {f"{name} {rate:g}": 1e3 * run[1] for (name, rate), run in runs.items()},
        "seconds": round(time.perf_counter() - start, 1),
        **machine(("fnn", "jax", "jaxlib", "optax", "scikit-learn")),
        "network": repr(net),
        "options": asdict(options),
    }
    lines = {name: runs[run] for name, run in best.items()}
    panels = {
        "By step": (
            "step", "loss (nats an image)",
            {name: (np.arange(1, len(losses) + 1), losses) for name, (losses, _) in lines.items()},
        ),
        "By time": (
            "seconds", "loss (nats an image)",
            {name: (np.arange(1, len(losses) + 1) * each, losses) for name, (losses, each) in lines.items()},
        ),
    }  # fmt: skip
    files = {"figures.json": as_json(figures), "kfac.png": curves(panels)}
    replaced = write(folder, files)
    console.print(f"It took {figures['seconds']} seconds. Written to {folder}: {', '.join(files)}{replaced}.")


if __name__ == "__main__":
    answer.run(main, None, options=Options)
