"""What a traced function costs beside fnn's own layers, the plain gradient and `vmap(grad)`.

Run `python -m experiments.bench.function`. For each network: norms and the clipped sum of a function that is
written in plain JAX, made a layer by `fnn.function.Function`; for the MLP, of the same network of our layers.
All programs take turns; a ratio is that of the median times, with the quartiles over the rounds. Temporaries
are what the compiler reserves. "compile" is tracing and compiling together.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn.function import Function
from fnn.privacy import clipped_gradient
from fnn.readers import losses_and_readings, squared_norm, sum_over_params

LOSS = fnn.softmax_cross_entropy(reduction="sum")
NORM = 1.0


def mlp(params: Any, x: Any) -> Any:
    for own in params[:-1]:
        x = jax.nn.relu(x @ own["kernel"] + own["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


def cnn(params: Any, x: Any) -> Any:
    for own in params[:-1]:
        x = jax.lax.conv_general_dilated(
            x, own["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + own["bias"])
    return x.reshape(x.shape[0], -1) @ params[-1]["kernel"] + params[-1]["bias"]


def transformer(params: Any, x: Any) -> Any:
    """A block of attention and of two dense layers, whose tokens are averaged: (n, t, k) -> (n, 10)."""
    q, k, v = (jnp.einsum("ntk,khd->nthd", x, params[name]) for name in "qkv")
    scores = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, k) * q.shape[-1] ** -0.5)
    x = x + jnp.einsum("nhts,nshd,hdk->ntk", scores, v, params["out"])
    x = x + jax.nn.gelu(x @ params["up"]) @ params["down"]
    return x.mean(1) @ params["head"]


def dense(key: Any, *shape: int) -> Any:
    fan = int(np.prod(shape[:-1]))
    return {"kernel": jax.random.normal(key, shape) * fan**-0.5, "bias": jnp.zeros(shape[-1])}


def networks() -> dict[str, tuple[Callable, Any, Any, Any]]:
    """Give for each network the function, its params, a batch, and the same of fnn's layers or None."""
    key = jax.random.key(0)
    sizes = [5120, 2560, 1280]
    ours = fnn.Serial(fnn.Dense(sizes[1]), fnn.relu, fnn.Dense(sizes[2]))
    weights = [dense(key, *pair) for pair in zip(sizes, sizes[1:], strict=False)]
    first = (mlp, weights, jax.random.normal(key, (32, sizes[0])), ours)
    found: dict[str, tuple[Callable, Any, Any, Any]] = {"MLP 5120-2560-1280": first}
    for name, side, channels in (("MNIST", 28, 1), ("CIFAR", 32, 3)):
        params = [
            dense(key, 3, 3, channels, 16),
            dense(key, 3, 3, 16, 32),
            dense(key, (side // 4) ** 2 * 32, 10),
        ]
        found[f"CNN {name}"] = (cnn, params, jax.random.normal(key, (64, side, side, channels)), None)
    k, heads = 128, 4
    shapes = {name: (k, heads, k // heads) for name in "qkv"} | {"out": (heads, k // heads, k)}
    shapes |= {"up": (k, 4 * k), "down": (4 * k, k), "head": (k, 10)}
    params = {name: 0.05 * jax.random.normal(key, shape) for name, shape in shapes.items()}
    found["transformer, 128 tokens"] = (transformer, params, jax.random.normal(key, (16, 128, k)), None)
    return found


def programs(f: Callable, params: Any, ours: Any, labels: Any) -> dict[str, tuple[Callable, Any]]:
    """Give the rows: each a function of params and batch, with its params."""

    def readers(net: Any) -> tuple[Callable, Callable]:
        norms = losses_and_readings(net, LOSS, squared_norm)
        clipped = clipped_gradient(net, LOSS, NORM)
        return (
            lambda p, x: sum_over_params(norms(p, x, labels)[1]),
            lambda p, x: clipped(p, x, labels).gradient,
        )

    def by_vmap(p: Any, x: Any) -> Any:
        def one(p: Any, x: Any, label: Any) -> Any:
            return LOSS(f(p, x[None]), label[None])

        each = jax.vmap(jax.grad(one), (None, 0, 0))(p, x, labels)
        squares = sum(jnp.square(g).reshape(g.shape[0], -1).sum(1) for g in jax.tree.leaves(each))
        c = NORM / jnp.maximum(NORM, jnp.sqrt(squares))
        return jax.tree.map(lambda g: jnp.tensordot(c, g, 1), each)

    norms, clipped = readers(Function(f))
    rows = {
        "plain gradient": (jax.grad(lambda p, x: LOSS(f(p, x), labels)), params),
        "norms, traced": (norms, params),
        "clipped sum, traced": (clipped, params),
        "clipped sum, vmap(grad)": (by_vmap, params),
    }
    if ours is not None:
        own = (params[0], (), params[1])
        rows["norms, fnn's layers"], rows["clipped sum, fnn's layers"] = ((g, own) for g in readers(ours))
    return rows


def measure(rows: dict[str, tuple[Callable, Any]], x: Any, rounds: int) -> None:
    compiled, compile_seconds = {}, {}
    for name, (g, params) in rows.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(g).lower(params, x).compile()
        compile_seconds[name] = time.perf_counter() - start
        jax.block_until_ready(compiled[name](params, x))
    seconds = {name: np.zeros(rounds) for name in rows}
    for i in range(rounds):
        for name, (_, params) in rows.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled[name](params, x))
            seconds[name][i] = time.perf_counter() - start
    plain = seconds["plain gradient"]
    for name, own in seconds.items():
        low, high = np.quantile(own / plain, [0.25, 0.75])
        ratio = np.median(own) / np.median(plain)
        room = compiled[name].memory_analysis().temp_size_in_bytes / 2**20
        print(
            f"  {name:26} {ratio:6.2f} ({low:.2f} to {high:.2f})  {room:9.2f} MiB"
            f"  compile {compile_seconds[name]:.2f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="networks whose names hold this")
    options = parser.parse_args()
    for name, (f, params, x, ours) in networks().items():
        if options.only in name:
            print(f"{name}, {x.shape[0]} examples: time over the plain gradient's, temporaries")
            labels = jnp.arange(x.shape[0]) % 10
            measure(programs(f, params, ours, labels), x, options.rounds)


if __name__ == "__main__":
    main()
