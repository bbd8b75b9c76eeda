"""Narrow layers as one kernel beside the chain of them: seconds of a forward pass and of a gradient.

    python -m experiments.bench.fused --rounds 20

Both networks are fnn's, of the same params: `fnn.Fused`, and the `Serial` of dense layers and activations.
Where there is no GPU the kernels are not run, and what is printed is the plain code of both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import tyro

import fnn
from experiments.library.results import machine
from experiments.library.timing import quartiles, race, speedup


@dataclass(frozen=True)
class Options:
    """What to measure."""

    widths: tuple[int, ...] = (64, 128)
    layers: int = 5
    batches: tuple[int, ...] = (2**14, 2**17)
    activation: str = "relu"
    dtype: str = "bfloat16"
    rounds: int = 10


def programs(width: int, batch: int, options: Options) -> dict[str, Callable[[], Any]]:
    """Return the passes of both networks, compiled."""
    f, features = getattr(fnn, options.activation), (width,) * options.layers
    layers = [layer for size in features for layer in (fnn.Dense(size), f)][:-1]
    x = jax.random.normal(jax.random.key(0), (batch, width), options.dtype)
    found: dict[str, Callable[[], Any]] = {}
    for name, net in (("Fused", fnn.Fused(features, f)), ("Serial", fnn.Serial(*layers))):
        params = fnn.init(net, jax.random.key(1), x)
        gradient = jax.jit(fnn.value_and_grad(net, fnn.half_squared_error()))
        found[f"forward, {name}"] = partial(jax.jit(partial(fnn.output, net)), params, x)
        found[f"gradient, {name}"] = partial(gradient, params, x, jnp.zeros_like(x))
    return found


def main(options: Options) -> None:
    """Measure, and print a table."""
    print(
        machine(("fnn", "jax")), f"{jax.devices()[0].device_kind}, {options.layers} layers, {options.dtype}"
    )
    if jax.default_backend() != "gpu":
        print("no GPU: plain code on both sides")
    print(f"{'width, batch':>18}{'':>10}{'Fused, ms':>12}  Serial / Fused (quartiles)")
    for width in options.widths:
        for batch in options.batches:
            seconds = race(programs(width, batch, options), options.rounds)
            for part in ("forward", "gradient"):
                own, other = seconds[f"{part}, Fused"], seconds[f"{part}, Serial"]
                ratio = speedup(other, own)
                print(
                    f"{width:>9}, {batch:>7}{part:>10}{1e3 * quartiles(own).median:12.2f}  {ratio}",
                    flush=True,
                )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
