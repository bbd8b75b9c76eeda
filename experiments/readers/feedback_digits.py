"""Learn digits while the errors return through other weights than those they came by.

    python -m experiments.readers.feedback_digits

The same network and data, four backward rules: backpropagation, feedback alignment (fixed random weights),
sign symmetry (the weights' signs, random sizes), direct feedback alignment (a fixed random matrix for each
layer). Beside the images misread is the angle, in degrees, between the step of a rule and the gradient there:
below 90 it descends. Written: figures.json and feedback.png.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from rich.console import Console

import fnn
from experiments.library import answer
from experiments.library.data import from_scikit_learn
from experiments.library.reader_figures import curves
from experiments.library.results import as_json, machine, writable, write

LOSS = fnn.softmax_cross_entropy()


@dataclass(frozen=True)
class Options:
    """Learn digits while the errors return through other weights."""

    hidden: tuple[int, ...] = (128, 64)
    """Width of each hidden layer, in units."""
    epochs: int = 60
    """Passes over the images."""
    batch: int = 32
    """Images in a step."""
    learning_rate: float = 0.05
    """Step size of gradient descent, the same for all rules."""
    seed: int = 0
    """Seed of the first params, the feedback, and the order of the images."""
    results: Path = Path("experiments/results")
    """Folder for the results; they go to a folder inside it."""


def rules(net: fnn.Serial, params: Any, x: Any, key: Any) -> dict[str, Callable[..., Any]]:
    """Give the four rules, each `(params, x, t) -> step`."""
    weights, matrices = jax.random.split(key)
    feedback = fnn.init(net, weights, x)
    direct = fnn.feedback.direct_feedback_matrices(net, matrices, params, x)
    align = fnn.feedback.feedback_alignment(net, LOSS)
    return {
        "backpropagation": lambda p, x, t: fnn.value_and_grad(net, LOSS)(p, x, t)[1],
        "feedback alignment": lambda p, x, t: align(p, feedback, x, t)[1],
        "sign symmetry": lambda p, x, t: align(p, fnn.feedback.sign_symmetric(p, feedback), x, t)[1],
        "direct feedback": lambda p, x, t: fnn.feedback.direct_feedback(net, LOSS)(p, direct, x, t)[1],
    }


def hidden_layers(tree: Any) -> Any:
    """Give all but the last layer as a vector: there every rule has the gradient itself."""
    return ravel_pytree(tree[:-1])[0]


def learn(net: fnn.Serial, rule: Callable[..., Any], params: Any, data: Any, options: Options) -> Any:
    """Train by a rule: give the part of the held-out images misread, and the angle, after each epoch."""
    x, t, x_test, t_test = jax.device_put(data)
    steps = len(x) // options.batch

    def epoch(params: Any, key: Any) -> tuple[Any, Any]:
        def step(params: Any, rows: Any) -> tuple[Any, None]:
            change = rule(params, x[rows], t[rows])
            return jax.tree.map(lambda p, g: p - options.learning_rate * g, params, change), None

        order = jax.random.permutation(key, len(x))[: steps * options.batch].reshape(steps, -1)
        params, _ = jax.lax.scan(step, params, order)
        ours = hidden_layers(rule(params, x, t))
        true = hidden_layers(fnn.value_and_grad(net, LOSS)(params, x, t)[1])
        cosine = jnp.vdot(ours, true) / (jnp.linalg.norm(ours) * jnp.linalg.norm(true))
        misread = (fnn.apply(net, params, x_test).argmax(-1) != t_test).mean()
        return params, (misread, jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))))

    keys = jax.random.split(jax.random.key(options.seed + 1), options.epochs)
    return jax.jit(lambda params: jax.lax.scan(epoch, params, keys)[1])(params)


def main(options: Options) -> None:
    """Learn by each rule, write."""
    start, console = time.perf_counter(), Console(highlight=False, soft_wrap=True)
    folder, digits = writable(options.results / "feedback-digits"), from_scikit_learn(options.seed)
    layers = [layer for width in options.hidden for layer in (fnn.Dense(width), fnn.tanh)]
    net = fnn.Serial(*layers, fnn.Dense(10))
    first, key = jax.random.split(jax.random.key(options.seed))
    params = fnn.init(net, first, digits.x)
    passed, misread, angles = np.arange(1, options.epochs + 1), {}, {}
    for name, rule in rules(net, params, digits.x, key).items():
        wrong, angle = map(np.asarray, learn(net, rule, params, digits[:4], options))
        misread[name], angles[name] = (passed, 100 * wrong), (passed, angle)
        console.print(f"{name:20} {wrong[-1]:7.2%} misread   angle to the gradient {angle[-1]:5.1f} degrees")
    figures = {
        "misread of the held-out images (%)": {name: float(line[-1]) for name, (_, line) in misread.items()},
        "angle to the gradient (degrees)": {name: float(line[-1]) for name, (_, line) in angles.items()},
        "seconds": round(time.perf_counter() - start, 1),
        **machine(("fnn", "jax", "jaxlib", "scikit-learn")),
        "network": repr(net),
        "options": asdict(options),
        "misread after each epoch (%)": {name: line.tolist() for name, (_, line) in misread.items()},
        "angle after each epoch (degrees)": {name: line.tolist() for name, (_, line) in angles.items()},
    }
    panels = {
        "Images misread": ("epoch", "held-out images (%)", misread),
        "Angle between step and gradient": ("epoch", "degrees, hidden layers", angles),
    }
    files = {"figures.json": as_json(figures), "feedback.png": curves(panels)}
    replaced = write(folder, files)
    console.print(f"It took {figures['seconds']} seconds. Written to {folder}: {', '.join(files)}{replaced}.")


if __name__ == "__main__":
    answer.run(main, None, options=Options)
