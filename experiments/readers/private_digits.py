"""Learn MNIST with differential privacy (DP-SGD), one backward pass for norms and clipped sum.

    python -m experiments.readers.private_digits --data-dir FOLDER      with fnn's extras: privacy,
    experiments

A step draws every image with probability q, clips each one's gradient to a norm, adds noise, and takes a
step of momentum. The noise is the least that keeps `--epsilon` at `--delta` over all steps by dp-accounting's
accountant of privacy loss distributions, for neighbours by one image added or removed. Nothing else looks at
the images that are learned from. Written: figures.json and private-digits.png.
"""

import math
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
from experiments.library.data import from_idx
from experiments.library.reader_figures import private_curve
from experiments.library.results import as_json, machine, writable, write


@dataclass(frozen=True)
class Options:
    """Learn MNIST with differential privacy."""

    data_dir: Path
    """Folder with MNIST's four idx files, gzipped or not."""
    epsilon: float = 3.0
    """The privacy to keep."""
    delta: float = 1e-5
    """The probability with which it may fail."""
    hidden: tuple[int, ...] = (128,)
    """Width of each hidden layer, in units."""
    batch: int = 2048
    """Images in a step, in the mean."""
    steps: int = 800
    """Steps of training."""
    norm: float = 1.0
    """The norm to which each image's gradient is clipped."""
    learning_rate: float = 1.0
    """Step size, falling to zero along a cosine; momentum 0.9."""
    seed: int = 0
    """Seed of the first params, the draws and the noise."""
    results: Path = Path("experiments/results")
    """Folder for the results; they go to a folder inside it."""


def capacity(batch: int) -> int:
    """Give the places of a batch: the mean number of images and 8 deviations (more: below 1e-14 a step)."""
    return batch + math.ceil(8 * batch**0.5)


def learn(net: fnn.Layer, data: tuple, sigma: float, options: Options, console: Console) -> Any:
    """Train: give the params and (step, accuracy on the images held out) every twentieth of the way."""
    x, t, x_test, t_test = jax.device_put(data)
    first, key = jax.random.split(jax.random.key(options.seed))
    params = fnn.init(net, first, x)
    schedule = optax.cosine_decay_schedule(options.learning_rate, options.steps)
    optimizer = optax.sgd(schedule, momentum=0.9)
    loss, places = fnn.softmax_cross_entropy(), capacity(options.batch)
    private = fnn.privacy.private_gradient(net, loss, options.norm, sigma, options.batch)

    @jax.jit
    def advance(state: Any, keys: Any) -> Any:
        def step(state: Any, key: Any) -> tuple[Any, Any]:
            (params, memory), (draw, own) = state, jax.random.split(key)
            drawn = jax.random.uniform(draw, (len(x),)) < options.batch / len(x)
            rows = jnp.nonzero(drawn, size=places, fill_value=0)[0]
            gradient, info = private(params, x[rows], t[rows], own, jnp.arange(places) < drawn.sum())
            updates, memory = optimizer.update(gradient, memory, params)
            return (optax.apply_updates(params, updates), memory), jnp.all(info.finite)

        return jax.lax.scan(step, state, keys)

    state, curve, part = (params, optimizer.init(params)), [], max(1, options.steps // 20)
    keys = jax.random.split(key, options.steps)
    for start in range(0, options.steps, part):
        state, _ = advance(state, keys[start : start + part])
        right = float((fnn.apply(net, state[0], x_test).argmax(-1) == t_test).mean())
        curve.append((min(start + part, options.steps), right))
        console.print(f"step {curve[-1][0]:5}   held out {right:.2%}")
    return state[0], curve


def main(options: Options) -> None:
    """Account, learn, write."""
    start, console = time.perf_counter(), Console(highlight=False, soft_wrap=True)
    folder, digits = writable(options.results / "private-digits"), from_idx(options.data_dir)
    sampling = options.batch / len(digits.x)
    sigma = fnn.privacy.noise_for(options.epsilon, sampling, options.steps, options.delta)
    console.print(f"noise multiplier {sigma:.3f} for {options.steps} steps of q = {sampling:.4f}")
    net = fnn.mlp([digits.x.shape[1], *options.hidden, 10], fnn.tanh)
    _, curve = learn(net, digits[:4], sigma, options, console)
    spent = {
        steps: fnn.privacy.privacy_spent(sigma, sampling, steps, options.delta)
        for steps, _ in [*curve[3::4], curve[-1]]
    }
    figures = {
        "accuracy held out": curve[-1][1],
        "epsilon": spent[options.steps],
        "delta": options.delta,
        "accountant": "dp-accounting, PLDAccountant; Poisson sampling, one image added or removed",
        "noise multiplier": sigma,
        "seconds": round(time.perf_counter() - start, 1),
        **machine(("fnn", "jax", "jaxlib", "optax", "dp-accounting")),
        "network": repr(net),
        "options": asdict(options),
        "accuracy by step": curve,
        "epsilon by step": list(spent.items()),
    }
    files = {
        "figures.json": as_json(figures),
        "private-digits.png": private_curve(np.array(curve), np.array(list(spent.items()))),
    }
    replaced = write(folder, files)
    console.print(
        f"[bold green]{curve[-1][1]:.2%}[/] of the held-out images are read right, at epsilon = "
        f"{spent[options.steps]:.3f}, delta = {options.delta:g}."
    )
    console.print(f"It took {figures['seconds']} seconds. Written to {folder}: {', '.join(files)}{replaced}.")


if __name__ == "__main__":
    answer.run(main, None, options=Options)
