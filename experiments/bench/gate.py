"""All ratios that the documents tell, in one table, beside the last committed ones of this machine.

    python -m experiments.bench.gate              about ten minutes
    python -m experiments.bench.gate --no-times   what the compiler counts alone: a minute
    python -m experiments.bench.gate --write      keeps the table in experiments/bench/results/

Everything is fnn over its rival, so that less is better. Rooms are the compiler's own count of temporaries;
what another count of theirs means is for a person to judge. Times are medians with the quartiles of the ratio
in each round: a change within the quartiles is none.
"""

import json
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import fnn
from experiments.bench import head, memory, overhead, readers, step, update
from experiments.bench.networks import WIDTH, chain, shapes, unrolled_blocks
from experiments.library.results import as_json
from experiments.library.timing import race, speedup
from fnn.memory.targets import compiled_for

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Options:
    """What to measure, and whether to keep it."""

    rounds: int = 15  # of each time
    times: bool = True
    write: bool = False  # the results, in place of the last ones of this machine


class Ratio(NamedTuple):
    """One row: a median, and the quartiles where it is a time."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def rooms() -> Iterator[Ratio]:
    """Compare temporaries."""
    x = jax.ShapeDtypeStruct((4096, WIDTH), jnp.float32)
    networks = {f"{name}, {how}": chain(name, how == "scanned") for name in step.PLAIN for how in memory.HOW}
    for name, (net, ways) in (networks | unrolled_blocks()).items():
        mine = compiled_for("here", memory.ours(net), shapes(net, x), x, x).temporaries
        others = [compiled_for("here", memory.theirs(f), own, x, x).temporaries for own, f in ways.values()]
        yield Ratio(f"room of a gradient / best of jax.grad, checkpoint: {name}", mine / min(others))
    batch = jax.random.normal(jax.random.key(0), (64, 1024))
    make, rows = update.programs("relu", 1024, 8, True, batch)
    params = jax.eval_shape(make)
    used = {}
    for name, (one, init) in rows.items():
        state = jax.eval_shape(init, params)
        used[name] = compiled_for("here", one, params, state, batch, batch, donate=(0, 1)).temporaries
    for name in ("update in the backward pass", "clipped update in the backward pass"):
        yield Ratio(f"room of a step / the ordinary one: {name}", used[name] / used["fnn, then the update"])
    n, k, v = 2048, 512, 32768
    x, label = jax.ShapeDtypeStruct((n, k), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32)
    weight = {
        "kernel": jax.ShapeDtypeStruct((k, v), jnp.float32),
        "bias": jax.ShapeDtypeStruct((v,), jnp.float32),
    }
    found = {
        row: compiled_for("here", f, weight, x, label).temporaries
        for row, f in head.programs(v, [], 512).items()
    }
    for row in ("fnn.LinearCrossEntropy", "  over vocabulary"):
        yield Ratio(f"room of a head / jax.grad: {row.strip()}", found[row] / found["jax.grad"])
    calls = reading("784-512-512-10", 128)
    used = {row: f.memory_analysis().temp_size_in_bytes for row, (f, _) in calls.items()}
    for row in list(used)[1:]:
        yield Ratio(f"room of a reading / the plain gradient: {row}", used[row] / used["plain gradient"])


def programs() -> Iterator[Ratio]:
    """Compare the equations of traced gradients, each program once."""
    for name in ("relu", "gelu"):
        for scan in (False, True):
            *both, args, _ = overhead.both(name, scan, 16, overhead.Options())
            ours, theirs = (overhead.equations(jax.make_jaxpr(f)(*args).jaxpr, set()) for f in both)
            form = "scanned" if scan else "unrolled"
            yield Ratio(f"equations of a gradient / jax.grad: {name}, {form}, 16 layers", ours / theirs)


def times(rounds: int) -> Iterator[Ratio]:
    """Compare times: of steps, readings, eager calls and compilation."""
    for width, layers, batch in ((48, 2, 64), (512, 2, 128), (512, 8, 1024)):
        for name in ("relu", "gelu"):
            steps, args = step.steps(name, False, step.Options(width, layers, batch))
            own, other = (partial(steps[key], *args) for key in ("fnn", "jax.grad"))
            yield timed(
                f"time of a gradient / jax.grad: {name}, {layers} x {width}, batch {batch}",
                own,
                other,
                rounds,
            )
    calls = reading("784-512-512-10", 128)
    plain, args = calls.pop("plain gradient")
    for row, (f, _) in calls.items():
        yield timed(
            f"time of a reading / the plain gradient: {row}", partial(f, *args), partial(plain, *args), rounds
        )
    for name in ("relu", "gelu"):
        ours, theirs, args, _ = overhead.both(name, False, 16, overhead.Options())
        yield timed(
            f"time of an eager gradient / jax.grad: {name}",
            partial(ours, *args),
            partial(theirs, *args),
            rounds,
        )
        pairs = [[sum(overhead.stages(f, args)) for f in (ours, theirs)] for _ in range(5)]
        yield quartered(f"time to compile / jax.grad: {name}, 16 layers unrolled", *np.array(pairs).T)


def reading(name: str, n: int) -> dict[str, tuple[Any, tuple]]:
    """Compile fnn's readings of one network, and the plain gradient first."""
    sizes = [int(size) for size in name.split("-")]
    net = fnn.mlp(sizes)
    x = jax.random.normal(jax.random.key(0), (n, sizes[0]))
    args = fnn.init(net, jax.random.key(1), x), x, jnp.arange(n) % sizes[-1]
    rows = {row: f for row, f in readers.programs(net, 1.0).items() if not row.startswith("vmap")}
    return {row: (jax.jit(f).lower(*args).compile(), args) for row, f in rows.items()}


def timed(name: str, own: Callable, other: Callable, rounds: int) -> Ratio:
    """Time two calls in turns."""
    seconds = race({"own": own, "other": other}, rounds)
    return quartered(name, seconds["own"], seconds["other"])


def quartered(name: str, own: np.ndarray, other: np.ndarray) -> Ratio:
    """Give the quartiles of the ratios, round by round."""
    found = speedup(own, other)
    return Ratio(name, found.median, found.low, found.high)


def shown(ratio: Ratio, last: Any) -> str:
    """Give the row as a line: now, the last one, and a mark where it is worse by more than the spread."""
    now = f"{ratio.value:8.3f}" + (f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.low is not None else "")
    if last is None:
        return f"{ratio.name:84}{now:26}"
    worst = last[0] * 1.01 if last[2] is None else last[2]
    mark = "  WORSE" if (ratio.value if ratio.low is None else ratio.low) > worst else ""
    return f"{ratio.name:84}{now:26}{last[0]:8.3f}{mark}"


def main(options: Options) -> None:
    """Print the table; write it where that is asked for."""
    device = jax.devices()[0].device_kind
    kind = re.sub(r"\W+", "-", f"{device} {platform.machine()} jax {jax.__version__}").lower()
    path = RESULTS / f"{kind}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    print(f"{kind}\n{'fnn over its rival':84}{'now':>8}{'':18}{'last':>8}")
    found = {}
    for rows in (rooms(), programs(), times(options.rounds) if options.times else ()):
        for ratio in rows:
            found[ratio.name] = [*ratio[1:]]
            print(shown(ratio, known.get(ratio.name)), flush=True)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        path.write_bytes(as_json(known | found))
        print(f"written: {path.relative_to(RESULTS.parent.parent.parent)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
