"""What the head costs beside the plain way to a linear layer and its cross-entropy: room, time and error.

Run `python -m experiments.bench.head`; with `--target h100` (or a TPU topology) it counts the room of larger
heads on an accelerator that is not here, for which it wants `pip install '.[targets]'`.

All rows take turns, in another order each round. A ratio is that of the median times, its spread the
quartiles over the rounds of the ratio within a round; "cpu" is the ratio of the median processor times over
all threads, which a busy machine disturbs less. MiB are what the compiler reserves for temporaries beside
arguments and results. Errors are differences from float64 in the worst of dW, db and dx: their norm relative
to its norm, and the largest relative to its largest entry.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from fnn.losses.columns import Walk
from fnn.memory.targets import compiled_for

# Rows, features, vocabulary: of a GPT-2, of a Llama 2, of a Llama 3, of a Gemma 2 as in arXiv:2411.09009.
LARGE = ((8192, 768, 50257), (8192, 4096, 32000), (16384, 4096, 128256), (8192, 2304, 256000))
WALKS: tuple[Walk, ...] = ("rows", "vocabulary")


def log_softmax(params: Any, x: Any, label: Any) -> Any:
    """Give the mean loss as a user of jax.numpy writes it."""
    log_p = jax.nn.log_softmax(x @ params["kernel"] + params["bias"])
    return -jnp.take_along_axis(log_p, label[:, None], 1).mean()


def by_optax(params: Any, x: Any, label: Any) -> Any:
    """Give the mean loss as a training loop with optax (and Flax's Dense) has it."""
    return optax.softmax_cross_entropy_with_integer_labels(
        x @ params["kernel"] + params["bias"], label
    ).mean()


def in_chunks(size: int, params: Any, x: Any, label: Any) -> Any:
    """Give the mean loss by a scan over chunks that are run again in the backward."""

    @jax.checkpoint
    def step(total: Any, part: Any) -> tuple[Any, None]:
        return total + by_optax(params, *part) * (size / len(x)), None

    parts = x.reshape(-1, size, x.shape[1]), label.reshape(-1, size)
    return jax.lax.scan(step, jnp.zeros(()), parts)[0]


def programs(vocabulary: int, sizes: list[int], chunk: int) -> dict[str, Callable]:
    """Give the rows, each a function of params, x, labels."""
    heads = {"fnn.LinearCrossEntropy": fnn.LinearCrossEntropy(vocabulary)}
    heads |= {f"  over {walk}": fnn.LinearCrossEntropy(vocabulary, walk=walk) for walk in WALKS}
    heads |= {f"  chunks of {size}": fnn.LinearCrossEntropy(vocabulary, chunk=size) for size in sizes}
    plain = {
        "jax.grad": log_softmax,
        "jax.grad, optax's loss": by_optax,
        "jax.checkpoint": jax.checkpoint(log_softmax),
        f"scan of jax.checkpoint, {chunk} rows": partial(in_chunks, chunk),
    }
    rows = {name: jax.value_and_grad(f, (0, 1)) for name, f in plain.items()}
    rows |= {name: head.value_and_grad for name, head in heads.items()}
    rows["jax.grad of the head"] = jax.value_and_grad(heads["fnn.LinearCrossEntropy"], (0, 1))
    return rows | {
        "value alone, plain": log_softmax,
        "value alone, the head": heads["fnn.LinearCrossEntropy"],
    }


def exact(params: Any, x: Any, label: Any, size: int = 256) -> tuple[Any, Any]:
    """Give the gradients by params and x in float64, by NumPy."""
    w, b, x = (np.asarray(a, np.float64) for a in (params["kernel"], params["bias"], x))
    dw, db, dx = np.zeros_like(w), np.zeros_like(b), np.zeros_like(x)
    for start in range(0, len(x), size):
        part, own = x[start : start + size], np.asarray(label)[start : start + size]
        z = part @ w + b
        dz = np.exp(z - z.max(1, keepdims=True))
        dz /= dz.sum(1, keepdims=True)
        dz[np.arange(len(own)), own] -= 1
        dz /= len(x)
        dw, db, dx[start : start + size] = dw + part.T @ dz, db + dz.sum(0), dz @ w.T
    return {"bias": db, "kernel": dw}, dx


def products(text: str) -> int:
    """Count the matrix products in an optimized program; one in a loop's body counts once."""
    return text.count(" dot(") + text.count("matmul")


def measure(n: int, k: int, vocabulary: int, rounds: int, sizes: list[int]) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((n, k)), jnp.float32)
    label = jnp.asarray(rng.integers(0, vocabulary, n), jnp.int32)
    weight = rng.standard_normal((k, vocabulary)) / k**0.5
    params = {"kernel": jnp.asarray(weight, jnp.float32), "bias": jnp.zeros(vocabulary, jnp.float32)}
    wanted, calls, facts = jax.tree.leaves(exact(params, x, label)), {}, {}
    for row, f in programs(vocabulary, sizes, max(128, k // 2)).items():
        compiled = jax.jit(f).lower(params, x, label).compile()
        room = getattr(compiled.memory_analysis(), "temp_size_in_bytes", float("nan")) / 2**20
        text = compiled.as_text() or ""
        found = jax.tree.leaves(compiled(params, x, label))[1:]
        pairs = [(np.float64(a), b) for a, b in zip(found, wanted, strict=True)] if found else []
        error = max((np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs), default=float("nan"))
        largest = max((np.abs(a - b).max() / np.abs(b).max() for a, b in pairs), default=float("nan"))
        facts[row] = room, products(text), f"[{n},{vocabulary}]" in text, (error, largest)
        calls[row] = lambda compiled=compiled: jax.block_until_ready(compiled(params, x, label))
    times: dict[str, list[float]] = {row: [] for row in calls}
    busy: dict[str, list[float]] = {row: [] for row in calls}
    order = list(calls)
    for turn in range(rounds + 1):  # the first warms up
        rng.shuffle(order)
        for row in order:
            start, worked = time.perf_counter(), time.process_time()
            calls[row]()
            if turn:
                times[row].append(time.perf_counter() - start)
                busy[row].append(time.process_time() - worked)
    print(
        f"n {n}, k {k}, V {vocabulary}, float32, {rounds} rounds, jax {jax.__version__}, {jax.devices()[0]}"
    )
    print(f"{'':36}{'MiB':>8}{'/ plain':>9}{'time':>7}{'quartiles':>14}{'cpu':>6}{'s':>7}", end="")
    print(f"{'products':>10}{'n x V':>7}{'error':>10}{'largest':>9}")
    least = min(facts[row][0] for row in ("jax.grad", "jax.grad, optax's loss"))
    base, work = np.array(times["jax.grad, optax's loss"]), np.median(busy["jax.grad, optax's loss"])
    for row, (room, count, whole, errors) in facts.items():
        ratio, cpu = np.array(times[row]) / base, np.median(busy[row]) / work
        low, high = np.percentile(ratio, [25, 75])
        seconds = np.median(times[row])
        print(f"{row:36}{room:8.1f}{room / least:9.3f}{seconds / np.median(base):7.2f}", end="")
        print(f"{f'{low:.2f} - {high:.2f}':>14}{cpu:6.2f}{seconds:7.2f}{count:10}", end="")
        shown = ["" if np.isnan(error) else f"{error:.1e}" for error in errors]
        print(f"{'yes' if whole else 'no':>7}{shown[0]:>10}{shown[1]:>9}")
    print("MiB and time are relative to the plain way that takes less: jax.grad's room, optax's loss's time")


def count(target: str, n: int, k: int, vocabulary: int, dtypes: tuple[Any, Any]) -> None:
    """Print the room of a head that is compiled for a target; `dtypes` are those of its params and rows."""
    of_params, dtype = dtypes
    x, label = jax.ShapeDtypeStruct((n, k), dtype), jax.ShapeDtypeStruct((n,), jnp.int32)
    params = {
        "bias": jax.ShapeDtypeStruct((vocabulary,), of_params),
        "kernel": jax.ShapeDtypeStruct((k, vocabulary), of_params),
    }
    print(f"\n{target}: n {n}, k {k}, V {vocabulary}", end=", ")
    print(f"params in {jnp.dtype(of_params).name}, rows in {jnp.dtype(dtype).name}")
    print(f"{'':36}{'MiB':>10}{'/ plain':>9}{'with gradients':>16}")
    rooms = {}
    for row, f in programs(vocabulary, [], 512).items():
        casts = "head" in row or "fnn" in row or "over" in row  # its params, by itself

        def run(params: Any, x: Any, label: Any, f: Any = f, casts: bool = casts) -> Any:
            return f(params if casts else jax.tree.map(lambda leaf: leaf.astype(dtype), params), x, label)

        found = compiled_for(target, run, params, x, label)
        rooms[row] = found.temporaries / 2**20, (found.temporaries + found.outputs) / 2**20
    least = min(rooms["jax.grad"][0], rooms["jax.grad, optax's loss"][0])
    for row, (room, whole) in rooms.items():
        print(f"{row:36}{room:10.1f}{room / least:9.3f}{whole:16.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--chunks", type=int, nargs="*", default=[128, 512], help="other sizes of the chunk")
    parser.add_argument("--target", help="the accelerator to count large heads' room for, and no more")
    own = parser.parse_args()
    for sizes in LARGE if own.target else ():
        for dtypes in ((jnp.float32,) * 2, (jnp.float32, jnp.bfloat16), (jnp.bfloat16,) * 2):
            count(own.target, *sizes, dtypes)
    if not own.target:
        measure(own.rows, own.features, own.vocabulary, own.rounds, own.chunks)
