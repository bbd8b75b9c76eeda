"""Learn digits with residuals in fewer bits: bytes, errors of the gradient, and what it does to the accuracy.

    python -m experiments.training.stored_digits                        8 x 8 digits, carried by scikit-learn
    python -m experiments.training.stored_digits --data-dir FOLDER      MNIST's idx files

A dense layer's input and an activation's derivative, all that the backward pass of these networks reads, are
stored by `fnn.memory.stored` in bfloat16 or in 8, 4, 2 bits and rounded stochastically; what two values are
enough for is stored in one bit. The gradient's error and angle are those of one batch against the exact
gradient, before learning; the accuracies are of equal runs, same first params and batches, over three seeds.
Written: figures.json and stored-digits.png.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from rich.console import Console

import fnn
from experiments.library import answer
from experiments.library.data import from_idx, from_scikit_learn
from experiments.library.figures import COOL, INK, SOFT, WARM, png
from experiments.library.reader_figures import plain_logarithms
from experiments.library.results import as_json, machine, writable, write

LOSS = fnn.softmax_cross_entropy()
CODECS = {
    "exact": None,
    "bfloat16": fnn.memory.Rounded(),
    **{f"{b} bits": fnn.memory.Bits(b) for b in (8, 4, 2, 1)},
}


@dataclass(frozen=True)
class Options:
    """Learn digits with residuals in fewer bits."""

    data_dir: Path | None = None
    """Folder with MNIST's four idx files; without it, scikit-learn's digits."""
    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer, in units."""
    activation: str = "gelu"
    """The activation: relu, gelu, silu or tanh."""
    epochs: int = 10
    """Passes over the images."""
    batch: int = 128
    """Images in a step."""
    learning_rate: float = 1e-3
    """Step size of Adam, falling to zero along a cosine."""
    seeds: int = 3
    """Runs of each, of different first params, order and rounding."""
    results: Path = Path("experiments/results")
    """Folder for the results; they go to a folder inside it."""


def learn(net: Any, key: Any, data: tuple, options: Options) -> Any:
    """Train from a seed: give the losses of the epochs and the accuracy on the images held out."""
    x, t, x_test, t_test = data
    steps = len(x) // options.batch
    optimizer = optax.adam(optax.cosine_decay_schedule(options.learning_rate, options.epochs * steps))
    gradients, first = fnn.value_and_grad(net, LOSS), jax.random.fold_in(key, 0)
    params = fnn.init(net, first, x)

    def epoch(state: Any, key: Any) -> tuple[Any, Any]:
        def step(state: Any, rows_and_key: Any) -> tuple[Any, Any]:
            (params, memory), (rows, noise) = state, rows_and_key
            value, grads = gradients(params, x[rows], t[rows], noise)
            updates, memory = optimizer.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        order, noise = jax.random.split(key)
        rows = jax.random.permutation(order, len(x))[: steps * options.batch].reshape(steps, -1)
        state, values = jax.lax.scan(step, state, (rows, jax.random.split(noise, steps)))
        return state, values.mean()

    keys = jax.random.split(jax.random.fold_in(key, 1), options.epochs)
    (params, _), losses = jax.lax.scan(epoch, (params, optimizer.init(params)), keys)
    return losses, (fnn.apply(net, params, x_test).argmax(-1) == t_test).mean()


def errors(net: Any, exact: Any, x: Any, t: Any) -> tuple[float, float]:
    """Give the relative error of one gradient and its angle to the exact one, in degrees."""
    params = fnn.init(exact, jax.random.key(0), x)
    vectors = [
        ravel_pytree(fnn.value_and_grad(n, LOSS)(params, x, t, jax.random.key(1))[1])[0] for n in (net, exact)
    ]
    got, wanted = (np.asarray(v, np.float64) for v in vectors)
    cosine = got @ wanted / np.linalg.norm(got) / np.linalg.norm(wanted)
    error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    return float(error), float(np.degrees(np.arccos(min(1.0, cosine))))


def picture(rows: dict[str, dict[str, Any]]) -> bytes:
    """Draw the losses of each, and the images misread over the bytes kept."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, row), colour in zip(rows.items(), (INK, SOFT, COOL, "#6a994e", WARM, "#7b2d8b"), strict=True):
        losses = np.mean(row["losses"], 0)
        left.plot(np.arange(1, len(losses) + 1), losses, color=colour, linewidth=1.6, label=name)
        wrong = 100 * (1 - np.asarray(row["accuracies"]))
        right.plot([row["bytes"] / 2**20] * len(wrong), wrong, "o", color=colour, ms=5)
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="Mean loss of an epoch")
    plain_logarithms(left)
    left.legend(frameon=False)
    right.set(xlabel="MiB of residuals in a step", ylabel="misread images (%)", title="Held out, each seed")
    right.set(xlim=(0, None), ylim=(0, None))
    return png(figure)


def main(options: Options) -> None:
    """Measure, learn, write."""
    start, console = time.perf_counter(), Console(highlight=False, soft_wrap=True)
    folder = writable(options.results / "stored-digits")
    digits = from_idx(options.data_dir) if options.data_dir else from_scikit_learn(0)
    data = jax.device_put(digits[:4])
    exact = fnn.mlp([data[0].shape[1], *options.hidden, 10], getattr(fnn, options.activation))
    batch, labels = data[0][: options.batch], data[1][: options.batch]
    console.print(f"{exact}, batch {options.batch}, {options.epochs} epochs, {options.seeds} seeds")
    console.print(
        "[bold]residuals     bytes   of exact   gradient: error    angle     held out, read right[/]"
    )
    rows = {}
    for name, codec in CODECS.items():
        net = exact if codec is None else fnn.memory.stored(exact, codec)
        size = fnn.memory.report(net, None, batch).residuals
        error, angle = errors(net, exact, batch, labels)
        run = jax.jit(lambda key, net=net: learn(net, key, data, options))
        found = [run(jax.random.key(seed)) for seed in range(options.seeds)]
        rows[name] = {
            "bytes": size,
            "relative error of the gradient": error,
            "angle in degrees": angle,
            "accuracies": [float(accuracy) for _, accuracy in found],
            "losses": [np.asarray(losses).tolist() for losses, _ in found],
        }
        right = np.asarray(rows[name]["accuracies"])
        share = size / rows["exact"]["bytes"]
        shown = f"{right.mean():.2%} ({right.min():.2%} - {right.max():.2%})"
        console.print(f"{name:10}{size:9,}{share:11.3f}{error:18.1%}{angle:8.1f}°     {shown}")
    figures = {
        **rows,
        "seconds": round(time.perf_counter() - start, 1),
        **machine(("fnn", "jax", "jaxlib", "optax")),
        "network": repr(exact),
        "options": asdict(options),
    }
    files = {"figures.json": as_json(figures), "stored-digits.png": picture(rows)}
    replaced = write(folder, files)
    console.print(f"It took {figures['seconds']} seconds. Written to {folder}: {', '.join(files)}{replaced}.")


if __name__ == "__main__":
    answer.run(main, None, options=Options)
