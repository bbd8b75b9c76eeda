"""What it costs in accuracy to add up products over devices in bfloat16: errors of output and gradient.

    python -m experiments.bench.reduced --devices 8 64

Products are cut into as many parts as there are devices, whose parts are added up in float32; each rounded to
bfloat16 first; or rounded at every step of the sum, too, as around a ring. Those of the layers, as features
lie on the devices under tensor parallelism: and those of the weights' gradients, as rows do under data
parallelism. An error is the norm of the difference to the same in float64, from the same rounded input, over
that norm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

import fnn
from fnn.layers import dense

WIDTH, HIDDEN, ROWS = 256, 1024, 256
WHOLE = dense.product
HOW = ("float32", "bfloat16", "bfloat16, around a ring")


@dataclass(frozen=True)
class Options:
    """How many devices there are."""

    devices: tuple[int, ...] = (8,)


def rounded(value: Any) -> Any:
    """Round to bfloat16, and stay in float32."""
    return lax.reduce_precision(value, exponent_bits=8, mantissa_bits=7)


def added(parts: Iterator[Any], how: str) -> Any:
    """Add up parts in float32, or in bfloat16, perhaps at every step."""
    total = None
    for part in parts:
        part = part if how == "float32" else rounded(part)
        total = part if total is None else total + part
        total = rounded(total) if how == HOW[2] else total
    return total if how == "float32" else rounded(total)


def in_parts(
    devices: int, how: str, a: Any, b: Any, axis: int = 0, like: Any = None, reduce: Any = None
) -> Any:
    """Return a layer's product, its features on so many devices."""
    if a.dtype != jnp.bfloat16:
        return WHOLE(a, b, axis, like)
    size = a.shape[-1] // devices
    columns = (slice(i * size, (i + 1) * size) for i in range(devices))
    return added((WHOLE(a[..., own], b[own] if axis == 0 else b[:, own], axis) for own in columns), how)


def gradient(devices: int, how: str, factor: Any, param: Any) -> Any:
    """Return a param's gradient, its rows on so many devices."""
    form = factor.form()
    size = form.dz.shape[0] // devices

    def parts() -> Iterator[Any]:
        for i in range(devices):
            own = jax.tree.map(lambda leaf, i=i: leaf[i * size : (i + 1) * size], form)
            yield fnn.gradient(own, param)

    return added(parts(), how)


def error(got: Any, right: Any) -> float:
    """Return the norm of the difference over that of what is right."""
    a, b = (
        np.concatenate([np.ravel(x).astype(float) for x in jax.tree.leaves(tree)]) for tree in (got, right)
    )
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def networks() -> Iterator[tuple[str, Any]]:
    """Return a chain and blocks."""
    block = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.Dense(HIDDEN), fnn.gelu, fnn.Dense(WIDTH)))
    yield "mlp", fnn.mlp([WIDTH, *[HIDDEN] * 4, WIDTH], fnn.gelu)
    yield "blocks", fnn.Serial(fnn.Dense(WIDTH), fnn.Repeat(block, 8), fnn.RMSNorm(), fnn.Dense(WIDTH))


def main(options: Options) -> None:
    """Print a table for each number of devices."""
    jax.config.update("jax_enable_x64", True)
    x = jax.random.normal(jax.random.key(0), (ROWS, WIDTH), jnp.float32)
    target = jax.random.randint(jax.random.key(1), (ROWS,), 0, WIDTH)
    low, loss = x.astype(jnp.bfloat16), fnn.softmax_cross_entropy(reduction="sum")

    def run(net: Any, params: Any, x: Any, read: Any) -> tuple[Any, Any]:
        found = fnn.readers.losses_and_readings(net, loss, fnn.readers.Reader(read, "sum", plain=False))
        jax.clear_caches()
        return fnn.forward(net, params, x)[0], found(params, x, target)[1]

    for devices in options.devices:
        print(
            f"\n{devices} devices: {'the products of':20} {'added up in':24} {'output':>10} {'gradient':>10}"
        )
        for name, net in networks():
            params = fnn.init(net, jax.random.key(2), x)
            exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, low))
            right = run(net, exact[0], exact[1], fnn.gradient.rule)
            for what in ("layers", "gradients"):
                for how in HOW:
                    of_layer = what == "layers"
                    read = fnn.gradient.rule if of_layer else partial(gradient, devices, how)
                    dense.product = partial(in_parts, devices, how) if of_layer else WHOLE
                    errors = [error(*pair) for pair in zip(run(net, params, low, read), right, strict=True)]
                    dense.product = WHOLE
                    print(f"{name:12} {what:20} {how:24} {errors[0]:10.4%} {errors[1]:10.4%}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
