"""What a network runs again within a budget: fnn's plans beside jax.checkpoint's ways, by compilers' counts.

    python -m experiments.bench.plans                                  on this machine's device
    python -m experiments.bench.plans --target h100 --pictures .       for an accelerator that is not here

Sixteen gelu layers between dense ones, unrolled, in float32. A row is one gradient: the temporaries that the
compiler counts, in units of one boundary (rows x width), and the matrix products that its program runs beside
those of `jax.grad`. fnn's are the plans of `fnn.memory.plans`. `jax.checkpoint` goes around equal segments
of so many layers, and keeps of each what its policy says: nothing, or every product. Targets other than
"here" want `pip install '.[targets]'`.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.bench.memory import ROWS, ours, theirs
from experiments.bench.networks import LAYERS, SAVE, WIDTH, chain, segmented, shapes
from fnn.flops import flops_of
from fnn.memory.targets import compiled_for

NAMES = {"fnn": "fnn.memory.plans", "nothing": "jax.checkpoint", "products": "its dots_saveable"}


class Way(NamedTuple):
    """One way to a gradient, and what it takes."""

    kind: str  # of NAMES, or "jax.grad"
    which: str
    temporaries: float  # in boundaries
    again: int  # products


def ways(target: str) -> Iterator[Way]:
    """Compile every way to the gradient for the target."""
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
    unit = ROWS * WIDTH * 4
    net, others = chain("gelu", scan=False)
    params, (plain_params, plain) = shapes(net, x), others["jax.grad"]

    def way(kind: str, which: str, gradients: Callable, params: Any, first: int) -> Way:
        bytes_ = compiled_for(target, gradients, params, x, x).temporaries
        return Way(kind, which, bytes_ / unit, products(gradients, params, x, x) - first)

    exact = products(theirs(plain), plain_params, x, x)
    yield way("jax.grad", "as it is", theirs(plain), plain_params, exact)
    of_ours = products(ours(net), params, x, x)  # with the first layer's dx, which the compiler leaves out
    for plan in fnn.memory.plans(net, x):
        yield way("fnn", f"{plan.peak / unit:.0f} of residuals", ours(plan.net), params, of_ours)
    for length in (1, 2, 3, 4, 6, 8, LAYERS):
        for kind, policy in (("nothing", None), ("products", SAVE)):
            gradients = theirs(segmented("gelu", length, policy))
            yield way(kind, f"segments of {length}", gradients, plain_params, exact)


def products(f: Callable, *args: Any) -> int:
    """Count the matrix products in a function's program; in these networks all are alike."""
    return flops_of(jax.make_jaxpr(f)(*args)) // (2 * ROWS * WIDTH * WIDTH)


def table(found: list[Way]) -> None:
    """Print each way; beside those of jax.checkpoint, what fnn runs again in no more room."""
    plans = [way for way in found if way.kind == "fnn"]
    print(f"{'':20}{'':20}{'temporaries':>12}{'products again':>16}{'fnn in no more':>16}")
    for way in found:
        least = [plan.again for plan in plans if plan.temporaries <= way.temporaries]
        beside = "" if way.kind == "fnn" else f"{min(least, default=np.nan):16}"
        name = NAMES.get(way.kind, way.kind)
        print(f"{name:20}{way.which:20}{way.temporaries:12.2f}{way.again:16}{beside}")


def picture(folder: Path, found: list[Way], target: str) -> None:
    """Draw the products run again over the room."""
    from matplotlib.figure import Figure

    from experiments.library.figures import COOL, GOLD, INK, WARM, svg

    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    marks = {"nothing": ("o", COOL), "products": ("s", GOLD), "jax.grad": ("^", INK)}
    for kind, (mark, colour) in marks.items():
        points = [way[2:] for way in found if way.kind == kind]
        axes.plot(*zip(*points, strict=True), mark, color=colour, ms=8, label=NAMES.get(kind, kind))
    room, again = np.array(sorted(way[2:] for way in found if way.kind == "fnn")).T
    least = np.minimum.accumulate(again)  # within so much room
    axes.step(room, least, where="post", color=WARM, linewidth=2.4, label=NAMES["fnn"])
    furthest = max(way.temporaries for way in found)
    axes.set(xlabel="temporaries, in boundaries", ylim=(-1, 2 * LAYERS + 1), xlim=(0, 1.05 * furthest))
    device = jax.devices()[0].device_kind.upper() if target == "here" else target.upper()
    axes.set_title(f"Less room before a product runs again: sixteen gelu layers, compiled for {device}")
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "budget.svg").write_bytes(svg(figure))
    print(f"\nwritten: {folder / 'budget.svg'}")


def main() -> None:
    """Print the table, and draw the picture if it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="here", help='"here", "h100", or a TPU topology')
    parser.add_argument("--pictures", type=Path, help="the folder for the picture")
    options = parser.parse_args()
    found = list(ways(options.target))
    table(found)
    if options.pictures:
        picture(options.pictures, found, options.target)


if __name__ == "__main__":
    main()
