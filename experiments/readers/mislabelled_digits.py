"""Find mislabelled digits by their influence on themselves.

    python -m experiments.readers.mislabelled_digits

A tenth of the labels of scikit-learn's digits are replaced by wrong ones, and a network learns from all. The
self-influence of an example, g^T (F + damping I)^-1 g, says how much its own loss would rise without it: a
wrong label has nothing but itself to lean on. F are Kronecker factors with EKFAC's eigenvalues. GraNd and
EL2N, the norms of the gradient by params and by output, and the loss, stand beside it. Written: figures.json,
suspicious.png.
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
from experiments.library.reader_figures import suspicious
from experiments.library.results import as_json, machine, writable, write

LOSS = fnn.softmax_cross_entropy()


@dataclass(frozen=True)
class Options:
    """Find mislabelled digits by their influence on themselves."""

    wrong: float = 0.1
    """The part of the labels that is replaced by wrong ones."""
    hidden: tuple[int, ...] = (64,)
    """Width of each hidden layer, in units."""
    steps: int = 300
    """Steps of Adam on all images at once."""
    learning_rate: float = 3e-3
    """Step size of Adam."""
    damping: float = 1e-3
    """Damping of the curvature."""
    seed: int = 0
    """Seed of the wrong labels and the first params."""
    results: Path = Path("experiments/results")
    """Folder for the results; they go to a folder inside it."""


def learn(net: fnn.Layer, x: Any, t: Any, options: Options) -> Any:
    """Train on all images at once; give the params."""
    params = fnn.init(net, jax.random.key(options.seed), x)
    optimizer = optax.adam(options.learning_rate)

    def step(state: Any, _: Any) -> tuple[Any, None]:
        params, memory = state
        _, gradient = fnn.value_and_grad(net, LOSS)(params, x, t)
        updates, memory = optimizer.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), memory), None

    return jax.jit(lambda state: jax.lax.scan(step, state, None, options.steps)[0])(
        (params, optimizer.init(params))
    )[0]


def scores(net: fnn.Layer, params: Any, x: Any, t: Any, damping: float) -> dict[str, Any]:
    """Give each example's scores, (n,), by their names."""
    factors = fnn.curvature.kronecker_factors(net, LOSS, bias="joint")(params, x, t).factors
    blocks = fnn.curvature.ekfac(net, LOSS)(params, x, t, fnn.curvature.eigen(factors))
    read = fnn.attribution.self_influence(damping)
    losses, readings = fnn.readers.losses_and_readings(net, LOSS, read)(params, x, t, trees=(blocks,))
    return {
        "self-influence": fnn.readers.sum_over_params(readings),
        "GraNd": fnn.attribution.grand(net, LOSS)(params, x, t),
        "EL2N": fnn.attribution.el2n(net, LOSS)(params, x, t),
        "loss": losses,
    }


def area(score: np.ndarray, wrong: np.ndarray) -> float:
    """Give the probability that a wrong example scores above a right one (the area under the ROC curve)."""
    order = np.argsort(np.argsort(score)) + 1.0
    m = wrong.sum()
    return float((order[wrong].sum() - m * (m + 1) / 2) / (m * (len(wrong) - m)))


def main(options: Options) -> None:
    """Spoil, learn, score, write."""
    start, console = time.perf_counter(), Console(highlight=False, soft_wrap=True)
    folder, digits = writable(options.results / "mislabelled-digits"), from_scikit_learn(options.seed)
    random = np.random.default_rng(options.seed)
    wrong = np.zeros(len(digits.t), bool)
    wrong[random.permutation(len(wrong))[: round(options.wrong * len(wrong))]] = True
    given = np.where(wrong, (digits.t + random.integers(1, 10, len(wrong))) % 10, digits.t)
    x, t = jnp.asarray(digits.x), jnp.asarray(given)
    net = fnn.mlp([x.shape[1], *options.hidden, 10])
    params = learn(net, x, t, options)
    by_name = jax.jit(lambda params: scores(net, params, x, t, options.damping))(params)
    areas = {name: area(np.asarray(score), wrong) for name, score in by_name.items()}
    for name, value in areas.items():
        console.print(f"{name:16} area under the curve {value:.4f}")
    order = np.argsort(-np.asarray(by_name["self-influence"]))
    found = np.cumsum(wrong[order]) / wrong.sum()
    top = order[:10]
    figures = {
        "areas under the curve": areas,
        "wrong among the ten most suspicious": int(wrong[top].sum()),
        "wrong among as many as there are": float(found[wrong.sum() - 1]),
        "seconds": round(time.perf_counter() - start, 1),
        **machine(("fnn", "jax", "jaxlib", "optax", "scikit-learn")),
        "network": repr(net),
        "options": asdict(options),
        "wrong labels": int(wrong.sum()),
    }
    picture = suspicious(digits.x[top].reshape(-1, *digits.shape), given[top], digits.t[top], found)
    files = {"figures.json": as_json(figures), "suspicious.png": picture}
    replaced = write(folder, files)
    console.print(f"[bold green]{int(wrong[top].sum())} of the ten most suspicious[/] are mislabelled.")
    console.print(f"It took {figures['seconds']} seconds. Written to {folder}: {', '.join(files)}{replaced}.")


if __name__ == "__main__":
    answer.run(main, None, options=Options)
