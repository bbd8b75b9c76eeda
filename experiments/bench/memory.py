"""What a network keeps and what its backward needs beside: the floor, the compilers' counts, time.

    python -m experiments.bench.memory                              on this machine's device
    python -m experiments.bench.memory --targets h100 v5e:2x2       for accelerators that are not here
    python -m experiments.bench.memory --times                      and time in turns, here

Sixteen equal layers, scanned and unrolled: a unit is one boundary, rows x width. fnn's gradient stands
beside jax.grad's and beside jax.checkpoint's with `dots_saveable` (around the body of the scan), the
best policies of theirs for these networks; all are given dy, and temporaries are the compiler's own count.
Other targets than "here" want `pip install '.[targets]'`; a TPU multiplies float32 in bfloat16, so there
everything is in bfloat16, as people train.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.bench.networks import LAYERS, WIDTH, Network, chain, shapes, unrolled_blocks
from experiments.bench.step import PLAIN, seconds
from fnn.memory.targets import compiled_for

ROWS = 16384


def ours(net: Any) -> Callable:
    """Give the gradients of a network by a dy, by fnn."""

    def gradients(params: Any, x: Any, dy: Any) -> Any:
        _, residuals = fnn.forward(net, params, x)
        return fnn.backward(net, params, residuals, dy)[0]

    return gradients


def theirs(network: Network) -> Callable:
    """Give the gradients of a network by a dy, by autodiff."""
    return lambda params, x, dy: jax.vjp(lambda p: network(p, x), params)[1](dy)[0]


def table(target: str, dtype: Any, activations: list[str]) -> None:
    """Print the temporaries of each network three ways, in units of one boundary."""
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), dtype)
    unit = ROWS * WIDTH * x.dtype.itemsize
    title = jax.devices()[0].device_kind if target == "here" else target
    print(f"\n{title}, {x.dtype}: temporaries in units of one boundary ({unit / 2**20:.0f} MiB)")
    names = ("keeps", "fnn", "jax.grad", "saveable", "turned", "/ grad", "/ saveable", "/ best")
    print(" " * 30 + "".join(f"{name:>12}" for name in names))
    rows = [(f"{name}, {how}", chain(name, how == "scanned")) for name in activations for how in HOW]
    rows += [(f"8 x {name}", network) for name, network in unrolled_blocks().items()]
    for name, (net, ways) in rows:
        params = shapes(net, x)
        mine = compiled_for(target, ours(net), params, x, x).temporaries / unit
        other = {
            key: compiled_for(target, theirs(way), own, x, x).temporaries / unit
            for key, (own, way) in ways.items()
        }
        found = [fnn.memory.report(net, params, x).residuals / unit, mine]
        found += [other.get(key, np.nan) for key in ("jax.grad", "saveable", "turned")]
        found += [mine / other["jax.grad"], mine / other["saveable"], mine / min(other.values())]
        shown = [f"{value:12.1f}" if i < 5 else f"{value:12.2f}" for i, value in enumerate(found)]
        print(f"{name:30}{''.join(shown)}".replace("nan", "  -"), flush=True)


HOW = ("scanned", "unrolled")


def drawn(like: Any) -> Any:
    """Draw params of these shapes."""
    keys = iter(jax.random.split(jax.random.key(2), len(jax.tree.leaves(like))))
    return jax.tree.map(lambda leaf: 0.05 * jax.random.normal(next(keys), leaf.shape), like)


def times(rounds: int) -> None:
    """Print the time of a gradient over jax.grad's, in turns: as it is, and at a third of its residuals.

    Where no plan gets to a third (a scan in segments of one length), at the least.
    """
    x = jax.random.normal(jax.random.key(0), (2048, WIDTH))
    print(f"\ntime of a gradient, over jax.grad's (quartiles), {len(x)} x {WIDTH}, {LAYERS} layers")
    for name in ("relu", "gelu"):
        for how in HOW:
            net, ways = chain(name, how == "scanned")
            params = fnn.init(net, jax.random.key(1), x)
            kept, best = fnn.memory.report(net, params, x).residuals, fnn.memory.plans(net, x)
            small = ([plan for plan in best if plan.peak <= kept // 3] or best[:1])[-1]
            programs = {key: (theirs(way), drawn(own)) for key, (own, way) in ways.items()}
            programs |= {"fnn": (ours(net), params), f"at {small.peak / kept:.2f}": (ours(small.net), params)}
            runs = {
                key: partial(jax.jit(f).lower(own, x, x).compile(), own, x, x)
                for key, (f, own) in programs.items()
            }
            took = seconds(runs, (), rounds)
            base = took.pop("jax.grad")
            shown = []
            for key, each in took.items():
                low, high = np.quantile(each / base, (0.25, 0.75))
                shown.append(f"{key} {np.median(each) / np.median(base):.2f} ({low:.2f}-{high:.2f})")
            print(f"{name}, {how:9} {1e3 * np.median(base):7.1f} ms   {'   '.join(shown)}", flush=True)


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", nargs="*", default=["here"], help='"here", "h100", a TPU topology')
    parser.add_argument("--activations", nargs="*", default=list(PLAIN), choices=list(PLAIN))
    parser.add_argument("--times", action="store_true", help="time the gradients, too")
    parser.add_argument("--rounds", type=int, default=15, help="gradients of each that are timed")
    options = parser.parse_args()
    for target in options.targets:
        tpu = target not in ("here", "h100")
        table(target, jnp.bfloat16 if tpu else jnp.float32, options.activations)
    if options.times:
        times(options.rounds)


if __name__ == "__main__":
    main()
