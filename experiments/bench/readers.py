"""What reading costs beside the plain gradient: time, interleaved in one process, and temporaries.

Run `python -m experiments.bench.readers`; with Opacus installed its rows come too. All rows take turns, in
another order each round. A ratio is that of the median times, its spread the quartiles over the rounds of the
ratio within a round. Memory is what the compiler reserves for temporaries; for PyTorch, by how much the
resident set grows at its peak, in a process that holds the gradients already. The last column is the ratio of
the median processor times, over all threads, which a busy machine disturbs less. Kronecker factors hold more
numbers than the gradient: "as many numbers" makes the gradient and fills arrays of the factors' shapes with
constants, the least that writing them can cost. `--alone` leaves out the rows of `vmap(grad)` and Opacus.
"""

import argparse
import ctypes
import time

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.bench import opacus

LOSS = fnn.softmax_cross_entropy(reduction="sum")
SETTINGS = {"5120-2560-1280": 32, "784-512-512-10": 128}


def example_losses(net, x, label):
    """Give the losses as a JAX user writes them, by params and one example."""

    def one(params, x, label):
        return -jax.nn.log_softmax(fnn.forward(net, params, x[None])[0][0])[label]

    return one


def programs(net, norm: float) -> dict:
    """Give the rows: each a function of params, x, labels."""
    plain = fnn.value_and_grad(net, LOSS)
    norms_alone = fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm)
    norms_too = fnn.readers.losses_and_readings(
        net, LOSS, fnn.readers.zip_readers(fnn.readers.squared_norm, fnn.readers.gradient)
    )
    clipped = fnn.privacy.clipped_gradient(net, LOSS, norm)
    kronecker = fnn.curvature.kronecker_factors(net, LOSS, "empirical")

    def by_vmap(params, x, label):
        one = example_losses(net, x, label)
        return jax.vmap(jax.grad(one), (None, 0, 0))(params, x, label)

    def clip_by_vmap(params, x, label):
        each = by_vmap(params, x, label)
        squares = sum(jnp.square(leaf).sum(tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(each))
        c = norm / jnp.maximum(norm, jnp.sqrt(squares))
        return jax.tree.map(lambda leaf: jnp.tensordot(c, leaf, 1), each)

    def clip_in_two(params, x, label):
        squares = fnn.readers.sum_over_params(norms_alone(params, x, label)[1])
        c = norm / jnp.maximum(norm, jnp.sqrt(squares))
        return plain(params, x, label, None, c)[1]

    def norms_of_vmap(params, x, label):
        return [
            jnp.square(g).sum(tuple(range(1, g.ndim))) for g in jax.tree.leaves(by_vmap(params, x, label))
        ]

    def filled(params, x, label):
        value, gradient = plain(params, x, label)
        shapes = jax.tree.leaves(jax.eval_shape(kronecker, params, x, label).factors)
        return gradient, [jnp.full(leaf.shape, value + i) for i, leaf in enumerate(shapes)]

    return {
        "plain gradient": plain,
        "norms alone": norms_alone,
        "norms and gradient": norms_too,
        "clipped gradient": clipped,
        "clipped in two backward passes": clip_in_two,
        "Kronecker factors and gradient": kronecker,
        "as many numbers and gradient": filled,
        "vmap(grad): norms": norms_of_vmap,
        "vmap(grad): clipped gradient": clip_by_vmap,
    }


def resident(f) -> float:
    """Give by how many MB the resident set grew at its peak while `f` ran, free memory given back."""

    def status(field: str) -> float:
        with open("/proc/self/status") as lines:
            return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")
    before = status("VmRSS")
    f()
    return status("VmHWM") - before


def flops_bar(sizes, n: int) -> float:
    """Give what the flops of Kronecker factors and gradient ask for, relative to the gradient's."""
    pairs = list(zip(sizes, sizes[1:], strict=False))
    plain = sum(6 * n * k * j for k, j in pairs)
    return (plain + sum(2 * n * (k * k + j * j) for k, j in pairs)) / plain


def measure(name: str, n: int, rounds: int, alone: bool = False) -> None:
    """Print the table of one network."""
    sizes = [int(size) for size in name.split("-")]
    net, rng = fnn.mlp(sizes), np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((n, sizes[0])), jnp.float32)
    label = jnp.asarray(rng.integers(0, sizes[-1], n))
    params = fnn.init(net, jax.random.key(0), x)
    lengths = fnn.attribution.grand(net, LOSS)(params, x, label)
    norm = float(jnp.median(lengths))
    calls, memory = {}, {}
    for row, f in programs(net, norm).items():
        if alone and row.startswith("vmap"):
            continue
        compiled = jax.jit(f).lower(params, x, label).compile()
        memory[row] = getattr(compiled.memory_analysis(), "temp_size_in_bytes", float("nan")) / 2**20
        calls[row] = lambda compiled=compiled: jax.block_until_ready(compiled(params, x, label))
    peers = {} if alone else opacus.programs(lambda torch: opacus.mlp(torch, sizes), x, label, norm)
    for row, f in peers.items():
        f()
        memory[row], calls[row] = resident(f), f
    times: dict[str, list[float]] = {row: [] for row in calls}
    busy: dict[str, list[float]] = {row: [] for row in calls}
    order = list(calls)
    for turn in range(rounds + 2):  # the first two warm up
        rng.shuffle(order)
        for row in order:
            start, worked = time.perf_counter(), time.process_time()
            calls[row]()
            if turn >= 2:
                times[row].append(time.perf_counter() - start)
                busy[row].append(time.process_time() - worked)
    base = np.array(times["plain gradient"])
    print(f"\n{name}, batch {n}, float32, {rounds} rounds; Kronecker flops ask for {flops_bar(sizes, n):.2f}")
    print(f"{'':40}{'time / plain':>14}{'quartiles':>16}{'ms':>9}{'MB':>9}{'/ plain':>9}{'cpu':>7}")
    for row in calls:
        ratio = np.array(times[row]) / base
        mid, (low, high) = np.median(times[row]) / np.median(base), np.percentile(ratio, [25, 75])
        ms, mb = 1e3 * np.median(times[row]), memory[row]
        share = mb / memory["plain gradient"]
        work = np.median(busy[row]) / np.median(busy["plain gradient"])
        print(f"{row:40}{mid:14.2f}{f'{low:.2f} - {high:.2f}':>16}{ms:9.2f}{mb:9.1f}{share:9.2f}{work:7.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--alone", action="store_true", help="fnn's rows alone")
    options = parser.parse_args()
    for name, n in SETTINGS.items():
        measure(name, n, options.rounds, options.alone)
