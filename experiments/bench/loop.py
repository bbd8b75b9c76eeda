"""Steps a second of `fnn.train.fit`, beside the bare compiled step and other libraries' usual loops.

    python -m experiments.bench.loop --rounds 9

784-512-512-10, relu, adam, batch 128: each loop runs `steps` steps over the same batches, which lie in the
machine's memory; the loops take turns in one process. "bare" calls fnn's compiled step on batches that are
on the device already, and does nothing else; fed by the host, it takes what `fit` takes. PyTorch, where it
is installed, runs in processes of its own, in turn with a process of the bare step. Ratios above 1 are
faster than the bare step.
"""

import importlib.util
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import fnn
from experiments.library.results import machine
from experiments.library.timing import quartiles, race, speedup

SIZES = 784, 512, 512, 10
KEY = jax.random.key(0)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    steps: int = 300
    batch: int = 128
    rounds: int = 9
    only: str = ""  # the seconds of one loop alone, as JSON: "bare" or "torch"


def data(options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Draw as many batches as are taken."""
    random, n = np.random.default_rng(0), options.steps * options.batch
    return random.standard_normal((n, SIZES[0]), np.float32), random.integers(0, SIZES[-1], n).astype(
        np.int32
    )


def loops(options: Options) -> dict[str, Callable[[], Any]]:
    """Return the loops, each a function that runs all steps and returns what to wait for."""
    x, label = data(options)
    net, loss = fnn.mlp(list(SIZES)), fnn.softmax_cross_entropy()
    step = fnn.train.make_step(net, loss, optax.adam(1e-3), donate=False)
    placed = [jax.device_put(batch) for batch in batches(x, label, options)]
    start = step.init(KEY, x)
    log = fnn.train.json_lines(Path(tempfile.mkdtemp()) / "log.jsonl")

    def bare() -> Any:
        state = start
        for batch in placed:
            state, _ = step(state, batch)
        return state.params

    def fed() -> Any:
        state = start
        for batch in batches(x, label, options):
            state, _ = step(state, batch)
        return state.params

    def fit(**more: Any) -> Any:
        return fnn.train.fit(
            step, start, batches(x, label, options), steps=options.steps, **more
        ).state.params

    return {
        "bare": bare,
        "bare, fed by the host": fed,
        "fit": fit,
        "fit, with records": lambda: fit(logs=[log], log_every=10),
        "jax.grad and optax": by_hand(net, placed, start.params),
        **({"Flax NNX": by_flax(placed)} if importlib.util.find_spec("flax") else {}),
    }


def batches(x: Any, label: Any, options: Options) -> fnn.train.Batches:
    """Return the batches in the order of the data."""
    return fnn.train.Batches((x, label), options.batch, seed=None, epochs=1)


def by_hand(net: fnn.Layer, placed: list[Any], params: Any) -> Callable[[], Any]:
    """Return the loop that a user of JAX writes: no check of what is finite, no key, no counts."""
    optimizer = optax.adam(1e-3)

    def loss(params: Any, x: Any, label: Any) -> Any:
        x = jax.nn.relu(x @ params["first"]["kernel"] + params["first"]["bias"])
        for own in params["hidden"]:
            x = jax.nn.relu(x @ own["dense"]["kernel"] + own["dense"]["bias"])
        y = x @ params["output"]["kernel"] + params["output"]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(y, label).mean()

    @jax.jit
    def step(params: Any, state: Any, x: Any, label: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, label)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    def run() -> Any:
        own, state = params, optimizer.init(params)
        for x, label in placed:
            own, state, _ = step(own, state, x, label)
        return own

    return run


def by_flax(placed: list[Any]) -> Callable[[], Any]:
    """Return the loop of Flax NNX's documentation."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(SIZES)])

        def __call__(self, x: Any) -> Any:
            for layer in self.layers[:-1]:
                x = nnx.relu(layer(x))
            return self.layers[-1](x)

    @nnx.jit
    def step(net: Any, optimizer: Any, x: Any, label: Any) -> Any:
        def loss(net: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(net(x), label).mean()

        value, grads = nnx.value_and_grad(loss)(net)
        optimizer.update(net, grads)
        return value

    net = Net()
    optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)

    def run() -> Any:
        value = jnp.zeros(())
        for x, label in placed:
            value = step(net, optimizer, x, label)
        return value

    return run


def by_torch(options: Options) -> Callable[[], Any]:
    """Return PyTorch's usual loop."""
    import torch  # pyright: ignore[reportMissingImports]

    modules = []
    for a, b in itertools.pairwise(SIZES):
        modules += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    net = torch.nn.Sequential(*modules[:-1])
    optimizer, loss = torch.optim.Adam(net.parameters(), 1e-3), torch.nn.CrossEntropyLoss()
    placed = [(torch.from_numpy(x), torch.from_numpy(t).long()) for x, t in batches(*data(options), options)]

    def run() -> Any:
        for x, label in placed:
            optimizer.zero_grad()
            loss(net(x), label).backward()
            optimizer.step()
        return ()

    return run


def alone(name: str, options: Options) -> float:
    """Return the seconds of a loop in a process of its own, the second time that it runs."""
    command = [sys.executable, "-m", "experiments.bench.loop", "--only", name, "--steps", str(options.steps)]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def main(options: Options) -> None:
    """Measure, and print a table."""
    if options.only:
        run = by_torch(options) if options.only == "torch" else loops(options)[options.only]
        jax.block_until_ready(run())
        start = time.perf_counter()
        jax.block_until_ready(run())
        print(json.dumps(time.perf_counter() - start))
        return
    print(machine(("fnn", "jax", "flax")))
    seconds = race(loops(options), options.rounds)
    print(f"{'loop':24} {'steps/s':>10}  of the bare step's (quartiles)")
    for name, own in seconds.items():
        print(f"{name:24} {options.steps / quartiles(own).median:10.0f}  {speedup(seconds['bare'], own)}")
    if importlib.util.find_spec("torch") is None:
        print(f"{'PyTorch':24} {'':>10}  not installed here")
        return
    pairs = np.array([[alone("bare", options), alone("torch", options)] for _ in range(3)])
    rate, ratio = options.steps / np.median(pairs[:, 1]), speedup(pairs[:, 0], pairs[:, 1])
    print(f"{'PyTorch':24} {rate:10.0f}  {ratio}, in processes of its own")


if __name__ == "__main__":
    main(tyro.cli(Options))
