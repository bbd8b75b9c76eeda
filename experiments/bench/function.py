"""What a traced function costs beside fnn's own layers, the plain gradient and `vmap(grad)`.

Run `python -m experiments.bench.function`. For each network: norms, the clipped sum and Kronecker factors of
a function that is written in plain JAX, made a layer by `fnn.function.Function`; for the MLP, of the same
network of our layers; with Opacus installed, its clipped sums beside PyTorch's plain gradient, which is their
1. All programs take turns, those that take gigabytes last; a ratio is that of the median times, with the
quartiles over the rounds. "cpu" is the ratio of the median processor times, over all threads, which a busy
machine disturbs less. Temporaries are what the compiler reserves. "trace" is tracing alone, "compile" both
together, in seconds.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.bench import opacus
from fnn.curvature import kronecker_factors
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


class Network(NamedTuple):
    """What is measured: a function of params and batch, and the same network of other libraries."""

    f: Callable
    params: Any
    x: Any
    ours: Any  # of fnn's layers, or None
    torch: Callable  # makes PyTorch's


def networks() -> dict[str, Network]:
    """Give the networks by name."""
    key = jax.random.key(0)
    sizes = [5120, 2560, 1280]
    ours = fnn.Serial(fnn.Dense(sizes[1]), fnn.relu, fnn.Dense(sizes[2]))
    weights = [dense(key, *pair) for pair in zip(sizes, sizes[1:], strict=False)]
    batch = jax.random.normal(key, (32, sizes[0]))
    found = {"MLP 5120-2560-1280": Network(mlp, weights, batch, ours, partial(opacus.mlp, sizes=sizes))}
    for name, side, channels in (("MNIST", 28, 1), ("CIFAR", 32, 3)):
        params = [
            dense(key, 3, 3, channels, 16),
            dense(key, 3, 3, 16, 32),
            dense(key, (side // 4) ** 2 * 32, 10),
        ]
        batch = jax.random.normal(key, (64, side, side, channels))
        theirs = partial(opacus.cnn, side=side, channels=channels)
        found[f"CNN {name}"] = Network(cnn, params, batch, None, theirs)
    k, heads = 128, 4
    shapes = {name: (k, heads, k // heads) for name in "qkv"} | {"out": (heads, k // heads, k)}
    shapes |= {"up": (k, 4 * k), "down": (4 * k, k), "head": (k, 10)}
    params = {name: 0.05 * jax.random.normal(key, shape) for name, shape in shapes.items()}
    for n, tokens in ((16, 128), (4, 1024)):
        batch, theirs = jax.random.normal(key, (n, tokens, k)), partial(opacus.transformer, k=k, heads=heads)
        found[f"transformer, {tokens} tokens"] = Network(transformer, params, batch, None, theirs)
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
    kronecker = kronecker_factors(Function(f), LOSS, "empirical")
    rows = {
        "plain gradient": (jax.grad(lambda p, x: LOSS(f(p, x), labels)), params),
        "norms, traced": (norms, params),
        "clipped sum, traced": (clipped, params),
        "Kronecker factors, traced": (lambda p, x: kronecker(p, x, labels)[1:], params),
    }
    if ours is not None:
        own = (params[0], (), params[1])
        rows["norms, fnn's layers"], rows["clipped sum, fnn's layers"] = ((g, own) for g in readers(ours))
    return rows | {
        "clipped sum, vmap(grad)": (by_vmap, params)
    }  # the last: it leaves a memory to be had anew


def measure(rows: dict[str, tuple[Callable, Any]], peers: dict[str, Callable], x: Any, rounds: int) -> None:
    """Print the table of one network; the first of the rows, and of the peers, is their 1."""
    calls, notes = {}, {}
    for name, (g, params) in rows.items():
        start = time.perf_counter()
        traced = jax.jit(g).trace(params, x)
        middle = time.perf_counter()
        compiled = traced.lower().compile()
        calls[name] = lambda compiled=compiled, params=params: jax.block_until_ready(compiled(params, x))
        room = getattr(compiled.memory_analysis(), "temp_size_in_bytes", float("nan")) / 2**20
        notes[name] = (
            f"{room:9.2f} MiB  trace {middle - start:.2f}  compile {time.perf_counter() - start:.2f}"
        )
    calls |= peers
    seconds, busy = ({name: np.zeros(rounds) for name in calls} for _ in range(2))
    for i in range(-1, rounds):  # the first warms up
        next(iter(calls.values()))()  # takes the memory that the last program gave back
        for name, call in calls.items():
            start, worked = time.perf_counter(), time.process_time()
            call()
            seconds[name][i], busy[name][i] = time.perf_counter() - start, time.process_time() - worked
    for name, own in seconds.items():
        one = next(iter(peers if name in peers else rows))
        low, high = np.quantile(own / seconds[one], [0.25, 0.75])
        ratio, cpu = (np.median(of[name]) / np.median(of[one]) for of in (seconds, busy))
        ms = 1e3 * np.median(own)
        print(
            f"  {name:38} {ratio:6.2f} ({low:.2f} to {high:.2f})  cpu {cpu:5.2f} {ms:8.2f} ms"
            f"{notes.get(name, '')}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="networks whose names hold this")
    options = parser.parse_args()
    for name, own in networks().items():
        if options.only in name:
            print(f"{name}, {own.x.shape[0]} examples: time over the plain gradient's, temporaries")
            labels = jnp.arange(own.x.shape[0]) % 10
            rows = programs(own.f, own.params, own.ours, labels)
            measure(rows, opacus.programs(own.torch, own.x, labels, NORM), own.x, options.rounds)


if __name__ == "__main__":
    main()
