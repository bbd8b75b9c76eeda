"""A gradient step by fnn beside jax.grad and jax.checkpoint: seconds and temporary memory, on this machine.

    python -m experiments.bench.step --rounds 30

Times are medians over rounds in which the three take turns, as ratios to jax.grad's, with the quartiles of
the ratio of each round. Memory is the compiler's own count of temporaries, as a ratio to jax.grad's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import fnn


@dataclass(frozen=True)
class Options:
    """What to measure."""

    width: int = 512  # of every hidden layer
    layers: int = 8  # hidden layers
    batch: int = 256
    rounds: int = 20  # steps of each that are timed


PLAIN = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": jax.nn.gelu,
}


def plain(activation: Callable[[Any], Any], params: Any, x: Any) -> Any:
    """Run the same network as a user of jax.numpy writes it: a scan where fnn has one."""

    def dense(x: Any, own: Any) -> Any:
        return x @ own["kernel"] + own["bias"]

    x, hidden = dense(x, params["first"]), params["hidden"]
    if isinstance(hidden, dict):
        x, _ = jax.lax.scan(lambda h, own: (dense(activation(h), own["dense"]), None), x, hidden)
    else:
        for own in hidden:
            x = dense(activation(x), own["dense"])
    return dense(activation(x), params["output"])


def steps(name: str, scan: bool, options: Options) -> tuple[dict[str, Any], tuple]:
    """Give the three compiled gradient functions and their arguments."""
    sizes = [options.width] * (options.layers + 1) + [10]
    net = fnn.mlp(sizes, getattr(fnn, name), scan=scan)
    x = jax.random.normal(jax.random.key(0), (options.batch, options.width))
    labels = jnp.arange(options.batch) % 10
    params = fnn.init(net, jax.random.key(1), x)
    loss = fnn.softmax_cross_entropy()

    def value(run: Callable) -> Callable:
        return lambda params, x, labels: loss(run(params, x), labels)

    def network(params: Any, x: Any) -> Any:
        return plain(PLAIN[name], params, x)

    saved = jax.checkpoint(network, policy=jax.checkpoint_policies.dots_saveable)
    functions = {
        "fnn": fnn.value_and_grad(net, loss),
        "jax.grad": jax.value_and_grad(value(network)),
        "dots_saveable": jax.value_and_grad(value(saved)),
    }
    args = (params, x, labels)
    return {key: jax.jit(f).lower(*args).compile() for key, f in functions.items()}, args


def seconds(functions: dict[str, Any], args: tuple, rounds: int) -> dict[str, np.ndarray]:
    """Time the functions in turns."""
    for f in functions.values():
        jax.block_until_ready(f(*args))
    times = {key: np.zeros(rounds) for key in functions}
    for i in range(rounds):
        for key, f in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(f(*args))
            times[key][i] = time.perf_counter() - start
    return times


def main(options: Options) -> None:
    """Print one line for each activation, scanned and unrolled."""
    device = jax.devices()[0].device_kind
    size = f"{options.layers} layers of width {options.width}, batch {options.batch}, float32"
    print(f"{size}, jax {jax.__version__}, {device}")
    print(
        "activation            ms of jax.grad   time / jax.grad: fnn (quartiles)   dots_saveable   ", end=""
    )
    print("temporaries MiB: fnn   jax.grad   dots_saveable")
    for name in PLAIN:
        for scan in (True, False):
            functions, args = steps(name, scan, options)
            times = seconds(functions, args, options.rounds)
            base = times["jax.grad"]
            low, high = np.quantile(times["fnn"] / base, (0.25, 0.75))
            ratio = {key: np.median(t) / np.median(base) for key, t in times.items()}
            memory = {k: f.memory_analysis().temp_size_in_bytes / 2**20 for k, f in functions.items()}
            print(
                f"{name:9} {'scanned' if scan else 'unrolled':10} {1e3 * np.median(base):14.1f}"
                f" {ratio['fnn']:20.2f} ({low:.2f}-{high:.2f}) {ratio['dots_saveable']:16.2f}"
                f" {memory['fnn']:20.1f} {memory['jax.grad']:10.1f} {memory['dots_saveable']:15.1f}"
            )


if __name__ == "__main__":
    main(tyro.cli(Options))
