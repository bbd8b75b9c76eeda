"""Learn handwritten digits through a backward pass that one can see.

    python -m experiments.training.digits                                   8 x 8 digits, of scikit-learn
    python -m experiments.training.digits --data mnist --data-dir FOLDER    28 x 28 digits, of idx files

A small multilayer perceptron learns to read digits, and no autodiff takes part: `gradients` runs the
network forward, takes the loss with its hand-written derivative, and runs the network backward. Before and
after, these gradients are held against those that `jax.grad` finds for the same network. Then one more
backward pass tells which images pull at the params most, which no sum shows. What was learned is written as
figures.json, learning-curve.png, confusion-matrix.png and weights.png.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import fnn
from experiments.library.comparison import error_table, gradient_errors
from experiments.library.data import DataError, Digits, from_idx, from_scikit_learn, shifted
from experiments.library.figures import confusion_matrix, learning_curve, weight_images
from experiments.library.options import OptionError, Options, check
from experiments.library.results import ResultsError, as_json, machine, writable, write

LOSS = fnn.softmax_cross_entropy()


class NotFiniteError(ArithmeticError):
    """The loss is infinite or not a number; the text says from which step on."""


def gradients(net: fnn.Layer, params: Any, x: Any, t: Any, key: Any = None) -> tuple[Any, Any]:
    """Give the loss and its gradient by every param: the whole of backpropagation, in three lines."""
    y, residuals = fnn.forward(net, params, x, key)
    value, dy = LOSS.value_and_grad(y, t)
    grads, _ = fnn.backward(net, params, residuals, dy)
    return value, grads


def learn(net: fnn.Layer, params: Any, key: Any, digits: Digits, options: Options, console: Console) -> Any:
    """Train: give the params, the loss of each step (epochs, steps), and two accuracies for each epoch."""
    x, t, x_test = jax.device_put(digits[:3])
    steps = len(x) // options.batch
    schedule = optax.cosine_decay_schedule(options.learning_rate, options.epochs * steps)
    optimizer = optax.adamw(schedule, weight_decay=options.weight_decay)

    @jax.jit
    def epoch(state: Any, key: Any, x: Any, t: Any) -> tuple[Any, Any]:
        def step(state: Any, rows_and_keys: Any) -> tuple[Any, Any]:
            (params, memory), (rows, (move, drop)) = state, rows_and_keys
            images = shifted(x[rows], move, digits.shape, options.shift)
            value, grads = gradients(net, params, images, t[rows], drop)
            updates, memory = optimizer.update(grads, memory, params)
            return (optax.apply_updates(params, updates), memory), value

        order, noise = jax.random.split(key)
        rows = jax.random.permutation(order, len(x))[: steps * options.batch].reshape(steps, -1)
        return jax.lax.scan(step, state, (rows, jax.random.split(noise, (steps, 2))))

    state, losses, accuracies = (params, optimizer.init(params)), np.zeros((options.epochs, steps)), []
    console.print("[bold]epoch      loss   read right:   seen   held out[/]")
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("learning", total=options.epochs)
        for i in range(options.epochs):
            state, losses[i] = epoch(state, jax.random.fold_in(key, i), x, t)
            check_finite(losses[i], i, options)
            readings = [
                (answers(net, state[0], x), digits.t),
                (answers(net, state[0], x_test), digits.t_test),
            ]
            accuracies.append([np.mean(np.asarray(read) == true) for read, true in readings])
            progress.advance(bar)
            if (10 * (i + 1)) // options.epochs > (10 * i) // options.epochs:  # ten lines, evenly spaced
                progress.print(
                    "{:5}  {:8.4f}  {:17.2%}  {:9.2%}".format(i + 1, losses[i].mean(), *accuracies[i])
                )
    return state[0], losses, np.array(accuracies)


@partial(jax.jit, static_argnums=0)
def answers(net: fnn.Layer, params: Any, x: Any) -> Any:
    """Give the digit that the network reads in each image, int (n,)."""
    return fnn.apply(net, params, x).argmax(-1)


@partial(jax.jit, static_argnums=0)
def pulls(net: fnn.Layer, params: Any, x: Any, t: Any) -> Any:
    """Give the norm of each image's own gradient, float (n,), from one backward pass over all of them."""
    read = fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm)
    _, squares = read(params, x, t)
    return jnp.sqrt(fnn.readers.sum_over_params(squares))


def hardest(net: fnn.Layer, params: Any, digits: Digits, count: int = 5) -> Table:
    """Show the images held out whose gradients are the largest."""
    norms = np.asarray(pulls(net, params, digits.x_test, digits.t_test))
    read = np.asarray(answers(net, params, digits.x_test))
    table = Table(
        title=f"Of {len(norms):,} images held out, those whose own gradients are the largest (median "
        f"{np.median(norms):.2g}), by one backward pass",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 3, 0, 0),
    )
    for name in ("image", "digit", "read as", "norm of its gradient"):
        table.add_column(name, justify="right")
    for i in np.argsort(-norms)[:count]:
        table.add_row(str(i), str(digits.t_test[i]), str(read[i]), f"{norms[i]:.3g}")
    return table


def check_finite(losses: np.ndarray, epoch: int, options: Options) -> None:
    """Raise NotFiniteError at the first loss of the epoch that is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        step = epoch * len(losses) + bad[0] + 1
        where = f"step {step:,} (epoch {epoch + 1}, --learning-rate {options.learning_rate:g})"
        raise NotFiniteError(
            f"the loss is {losses[bad[0]]} at {where}: try a smaller rate. No results were written."
        )


def main(options: Options) -> None:
    """Load, compare, learn, compare, write."""
    start, console = time.perf_counter(), Console(highlight=False, soft_wrap=True)
    check(options)
    folder = writable(options.results / options.data)
    digits = from_scikit_learn(options.seed) if options.data_dir is None else from_idx(options.data_dir)
    if options.batch > len(digits.x):
        raise OptionError(f"--batch: expected at most the {len(digits.x):,} images, got {options.batch:,}")
    net = fnn.mlp([digits.x.shape[1], *options.hidden, 10], dropout=options.dropout)
    first, key = jax.random.split(jax.random.key(options.seed))
    untrained = fnn.init(net, first, digits.x)
    size = " x ".join(map(str, digits.shape))
    console.print(
        f"{len(digits.x):,} images of {size} pixels to learn from, {len(digits.x_test):,} held out."
    )
    console.print(
        f"The network, for a batch of {options.batch}:\n\n{fnn.summary(net, digits.x[: options.batch])}\n"
    )

    def plain(params: Any, x: Any, t: Any) -> Any:  # what jax.grad differentiates
        y, _ = fnn.forward(net, params, x)
        return optax.losses.softmax_cross_entropy_with_integer_labels(y, t).mean()

    def compare(when: str, params: Any) -> Any:
        few = digits.x[:256], digits.t[:256]
        errors = gradient_errors(lambda *args: gradients(net, *args)[1], plain, params, *few)
        console.print(error_table(f"Errors of the gradients, {when}", errors), "")
        return errors

    before = compare("before learning", untrained)
    params, losses, accuracies = learn(net, untrained, key, digits, options, console)
    after = compare("after learning", params)
    console.print(hardest(net, params, digits), "")
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (digits.t_test, answers(net, params, digits.x_test)), 1)
    figures = {
        "accuracy": dict(zip(("seen", "held out"), accuracies[-1], strict=True)),
        "gradient errors": {"before learning": before, "after learning": after},
        "seconds": round(time.perf_counter() - start, 1),
        **machine(("fnn", "jax", "jaxlib", "numpy", "optax")),
        "network": repr(net),
        "options": asdict(options),
        "loss of each epoch": losses.mean(1).tolist(),
        "accuracy after each epoch": accuracies.tolist(),
        "confusion": confusion.tolist(),
    }
    first = "first" if options.hidden else "output"
    files = {
        "figures.json": as_json(figures),
        "learning-curve.png": learning_curve(losses, accuracies),
        "confusion-matrix.png": confusion_matrix(confusion),
        "weights.png": weight_images(untrained[first]["kernel"], params[first]["kernel"], digits.shape),
    }
    replaced = write(folder, files)
    console.print(f"[bold green]{accuracies[-1, 1]:.2%}[/] of the held-out images are read right.")
    console.print(f"It took {figures['seconds']} seconds. Written to {folder}: {', '.join(files)}{replaced}.")


def run(arguments: Sequence[str] | None = None) -> None:
    """Run with the command line's options; what goes wrong is told in a line, with exit status 1."""
    try:
        main(tyro.cli(Options, args=arguments))
    except (OptionError, DataError, ResultsError, NotFiniteError, fnn.InputError) as error:
        sys.exit(f"digits.py: {error}")
    except KeyboardInterrupt:
        sys.exit("digits.py: stopped. No results were written.")


if __name__ == "__main__":
    run()
