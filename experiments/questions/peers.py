"""Does it learn as well as others do?

    python -m experiments.questions.peers

The same digits, the same first weights, the same batches and the same optimizer (gradient descent with
momentum) in fnn, in scikit-learn's MLPClassifier and, where it is installed, in PyTorch. All compute in
float64, so that whatever differs is the order of sums. The loss curves coincide to rounding over 100 steps:
backpropagation is one function, whoever writes it.
"""

from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from experiments.library.answer import Options, canvas, deliver, heading, run, table
from experiments.library.data import from_scikit_learn
from experiments.library.figures import COOL, SOFT, WARM

RATE, MOMENTUM = 0.1, 0.9
Weights = list[tuple[np.ndarray, np.ndarray]]
Batches = list[tuple[np.ndarray, np.ndarray]]


def by_fnn(weights: Weights, batches: Batches) -> list[float]:
    """Learn with fnn and optax: give the loss before each step."""
    net = fnn.Serial(*fnn.mlp([weights[0][0].shape[0], *(len(b) for _, b in weights)]).layers)
    dense = iter([{"kernel": jnp.asarray(w), "bias": jnp.asarray(b)} for w, b in weights])
    params: Any = tuple(next(dense) if isinstance(layer, fnn.Dense) else () for layer in net.layers)
    optimizer = optax.sgd(RATE, MOMENTUM)
    value_and_grad = fnn.value_and_grad(net, fnn.softmax_cross_entropy())

    @jax.jit
    def step(params: Any, memory: Any, x: Any, t: Any) -> Any:
        value, grads = value_and_grad(params, x, t)
        updates, memory = optimizer.update(grads, memory)
        return optax.apply_updates(params, updates), memory, value

    memory, losses = optimizer.init(params), []
    for x, t in batches:
        params, memory, value = step(params, memory, jnp.asarray(x), jnp.asarray(t))
        losses.append(float(value))
    return losses


def by_scikit_learn(weights: Weights, batches: Batches) -> list[float]:
    """Learn with scikit-learn's MLPClassifier: give the loss before each step."""
    from sklearn.neural_network import MLPClassifier

    hidden = tuple(len(b) for _, b in weights[:-1])
    x, t = batches[0]
    options: dict[str, Any] = {
        "batch_size": len(x),
        "solver": "sgd",
        "alpha": 0,
        "momentum": MOMENTUM,
        "nesterovs_momentum": False,
    }
    net: Any = MLPClassifier(hidden, activation="relu", shuffle=False, learning_rate_init=RATE, **options)
    net.partial_fit(x, t, classes=np.arange(10))  # makes the arrays, and an optimizer that updates them
    for own, (w, b) in zip(zip(net.coefs_, net.intercepts_, strict=True), weights, strict=True):
        own[0][:], own[1][:] = w, b
    for velocity in net._optimizer.velocities:
        velocity[:] = 0
    losses = []
    for x, t in batches:
        net.partial_fit(x, t)
        losses.append(float(net.loss_))
    return losses


def by_torch(weights: Weights, batches: Batches) -> list[float]:
    """Learn with PyTorch: give the loss before each step."""
    import torch  # pyright: ignore[reportMissingImports]

    layers: list[Any] = []
    for i, (w, b) in enumerate(weights):
        layer = torch.nn.Linear(*w.shape, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(w.T.copy()))
            layer.bias.copy_(torch.tensor(b))
        layers += [layer] if i == len(weights) - 1 else [layer, torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers)
    optimizer, losses = torch.optim.SGD(net.parameters(), RATE, MOMENTUM), []
    for x, t in batches:
        value = torch.nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(t, dtype=torch.long))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def main(
    options: Options, steps: int = 100, batch: int = 64, hidden: tuple[int, ...] = (64, 32)
) -> dict[str, Any]:
    """Learn with each, compare the losses, print, draw, write."""
    digits, random = from_scikit_learn(options.seed), np.random.default_rng(options.seed)
    sizes = (64, *hidden, 10)
    weights = [(random.normal(0, np.sqrt(2 / k), (k, j)), random.normal(0, 0.1, j))
               for k, j in zip(sizes[:-1], sizes[1:], strict=True)]  # fmt: skip
    rows = random.integers(0, len(digits.x), (steps * (1 + 4 * options.full), batch))
    batches = [(digits.x[r].astype(np.float64), digits.t[r]) for r in rows]
    with jax.enable_x64(True):
        losses = {"fnn": by_fnn(weights, batches), "scikit-learn": by_scikit_learn(weights, batches)}
    if find_spec("torch"):
        losses["PyTorch"] = by_torch(weights, batches)
    else:
        print("PyTorch is not installed: it is left out.")
    ours = np.array(losses["fnn"])
    apart = {name: np.abs(np.array(values) - ours) / ours for name, values in losses.items() if name != "fnn"}
    shown = [i for i in (0, 1, 10, 50, len(batches) - 1) if i < len(batches)]
    heading(f"The loss before a step: {'-'.join(map(str, sizes))}, batch {batch}, momentum {MOMENTUM}")
    print(table(("step", *(str(i) for i in shown)),
                [(name, *(f"{v[i]:.12f}" for i in shown)) for name, v in losses.items()]))  # fmt: skip
    heading("How far the others are from fnn, relative")
    told = [(n, f"{a[0]:.1e}", f"{a[-1]:.1e}", f"{a.max():.1e}") for n, a in apart.items()]
    print(table(("", "step 0", "last step", "largest"), told))
    worst, names = max(values.max() for values in apart.values()), " and ".join(apart)
    print(
        f"\nOver {len(batches)} steps the losses of fnn, {names} coincide to rounding: {worst:.0e} at most,"
    )
    print(f"where float64 rounds at {np.finfo(float).eps:.0e} and each step builds on the last.")
    found = {
        "largest difference": {name: float(values.max()) for name, values in apart.items()},
        "losses": losses,
    }
    return deliver(options, "peers", found, draw(losses, apart))


def draw(losses: dict[str, list[float]], apart: dict[str, np.ndarray]) -> Any:
    """Draw the loss curves over each other, and how far they are apart."""
    worst = max(values.max() for values in apart.values())
    message = f"The same loss curve as others, to rounding: at most {worst:.0e} apart"
    figure, (left, right) = canvas(message, 2, size=(12, 4.6))
    styles = {"fnn": (SOFT, 7, "-"), "scikit-learn": (COOL, 3, "-"), "PyTorch": (WARM, 1.4, "--")}
    for name, values in losses.items():
        colour, width, style = styles[name]
        left.plot(values, color=colour, linewidth=width, linestyle=style, label=name)
    left.set(xlabel="step", title="loss, drawn over each other")
    left.legend()
    for name, values in apart.items():
        seen = np.where(values > 0, values, np.nan)  # a logarithm has no place for those that are equal
        told = f"{name} (equal at {np.sum(values == 0)} of {len(values)} steps)"
        colour = styles.get(name, styles["scikit-learn"])[0]
        right.plot(seen, color=colour, marker="o", markersize=4, linestyle="", label=told)
    right.axhline(np.finfo(float).eps, color=SOFT, linewidth=1, linestyle=":")
    right.text(0, 2e-17, "dotted: epsilon of float64", color=SOFT)
    right.set(yscale="log", xlabel="step", title="relative difference from fnn's loss", ylim=(1e-17, 1e-12))
    right.legend(loc="upper left")
    return figure


if __name__ == "__main__":
    run(main, __doc__)
