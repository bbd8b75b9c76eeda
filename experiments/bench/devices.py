"""What one device of a mesh holds, and what all exchange: fnn beside jax.grad with the same shardings.

    python -m experiments.bench.devices --pictures docs/pictures     eight CPU devices, simulated
    python -m experiments.bench.devices --target v5e:2x2             a TPU's compiler, which need not be there
    python -m experiments.bench.devices --only readers               or gradients, or training

Counts are the compiler's, of programs that are compiled and never run: temporaries of one device, and, from
the optimized program, the collectives with the bytes of their results on one device. Gradients lie like their
params, which `fnn.shardings` places by the preset. jax.grad has Auto axes, where the compiler chooses what
the user does not; fnn has both, as on Explicit ones it says where its values lie. A TPU topology wants
`pip install '.[targets]'`; there rows are bfloat16, as people train.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import tyro
from jax.sharding import AxisType

from experiments.bench.on_mesh import LAYOUTS, Counts, Sizes, counted, gradients, networks, placed
from experiments.bench.on_mesh_readers import programs
from experiments.bench.on_mesh_training import programs as trainings
from experiments.bench.on_mesh_training import trained
from experiments.library.results import machine

WHO = ("jax.grad", "fnn, Auto", "fnn, Explicit")
MOST = 0.15  # of one device's temporaries, under data parallelism by eight
GRAM = ("Gram matrix", "TracIn")  # which are of pairs of all examples


@dataclass(frozen=True)
class Options:
    """What to count."""

    target: str = "here"  # or a TPU topology, such as "v5e:2x2" or "v5e:16x16"
    only: Literal["gradients", "training", "readers", "all"] = "all"
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    rows: int = 4096  # of the gradients' batch; of the readers' four times as many, a quarter as wide
    pictures: Path | None = None  # the folder for the picture


class Reading(NamedTuple):
    """A reader's program on one device, and on the mesh by rows."""

    name: str
    alone: Counts
    spread: Counts

    @property
    def ratio(self) -> float:
        """The temporaries of one of the devices over those of the only one."""
        return self.spread.temporaries / self.alone.temporaries


def devices_of(target: str) -> list[Any]:
    """Return the devices to compile for."""
    if target == "here":
        return jax.devices()
    from jax.experimental import topologies

    return list(topologies.get_topology_desc(platform="tpu", topology_name=target).devices)


def of_gradients(options: Options, sizes: Sizes) -> Iterator[tuple[str, str, dict[str, Counts]]]:
    """Count the gradients, and print a row for each network in each layout."""
    devices = devices_of(options.target)
    print(f"\nA gradient on {len(devices)} devices: {sizes}")
    headline()
    for name in options.layouts:
        for network, own in networks(sizes).items():
            yield name, network, row(name, network, gradients(own, LAYOUTS[name], devices))


def of_training(options: Options, sizes: Sizes) -> None:
    """Count what trains with less memory, and print a row for each in each of its layouts."""
    devices = devices_of(options.target)
    print(f"\nLess memory on {len(devices)} devices: {sizes}")
    headline()
    for name, program in trainings(sizes).items():
        for layout in program.layouts:
            if layout in options.layouts:
                row(layout, name, trained(program, layout, devices))


def headline() -> None:
    """Print the names of the columns."""
    columns = "".join(f"{who:^32}" for who in WHO)
    print(f"{'':36}{columns}\n{'':36}" + f"{'MiB':>10}{'number':>10}{'MB':>10}  " * 3)


def row(layout: str, name: str, counts: Iterator[Counts]) -> dict[str, Counts]:
    """Print a row, and return its counts by who they are of."""
    found: dict[str, Counts] = dict(zip(WHO, counts, strict=True))
    shown = "".join(
        f"{one.temporaries / 2**20:10.1f}{one.number:10}{one.bytes / 1e6:10.1f}  " for one in found.values()
    )
    print(f"{layout:12}{name:24}{shown}", flush=True)
    return found


def of_readers(options: Options, sizes: Sizes) -> Iterator[Reading]:
    """Count the readers on one device and under data parallelism, and print a row for each."""
    devices, network = devices_of(options.target), networks(sizes)["mlp"]
    args, _ = placed(network, LAYOUTS["data"], devices, AxisType.Explicit)
    alone, _ = placed(network, LAYOUTS["data"], devices[:1], AxisType.Explicit)
    bytes_ = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(network.params))
    print(
        f"\nReaders under data parallelism, {len(devices)} devices: {sizes}, params of {bytes_ / 1e6:.2f} MB"
    )
    print(f"{'':34}{'one':>10}{'each':>10}{'ratio':>8}{'number':>8}{'MB':>10}")
    for name, f in programs(network).items():
        found = Reading(name, counted(f, alone), counted(f, args))
        mark = "  above" if found.ratio > MOST and name not in GRAM else ""
        print(
            f"{name:34}{found.alone.temporaries / 2**20:10.1f}{found.spread.temporaries / 2**20:10.1f}"
            f"{found.ratio:8.3f}{found.spread.number:8}{found.spread.bytes / 1e6:10.2f}{mark}",
            flush=True,
        )
        yield found


def picture(folder: Path, rows: list[tuple[str, str, dict[str, Counts]]], target: str) -> None:
    """Draw bytes of collectives and temporaries of fnn over those of jax.grad."""
    from matplotlib.figure import Figure

    from experiments.library.figures import COOL, INK, SOFT, WARM, svg

    figure = Figure(figsize=(9, 0.34 * len(rows) + 1.6), layout="constrained")
    places = range(len(rows))
    titles = {"bytes": "Bytes exchanged", "temporaries": "Temporaries of a device"}
    for axes, (what, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        base = [getattr(found["jax.grad"], what) for *_, found in rows]
        for who, colour, by in ((WHO[1], COOL, -0.15), (WHO[2], WARM, 0.15)):
            ratios = [getattr(found[who], what) / own for (*_, found), own in zip(rows, base, strict=True)]
            heights = [i + by for i in places]
            axes.plot(ratios, heights, "o", color=colour, ms=6, label=f"{who} axes")
        axes.axvline(1, color=INK, linewidth=1)
        axes.hlines(places, 0, 1, color=SOFT, linewidth=0.4)
        axes.set(xlim=(0, None), xlabel="over those of jax.grad")
        axes.set_title(title)
    left = figure.axes[0]
    left.set_yticks(list(places), [f"{layout}: {network}" for layout, network, _ in rows])
    left.invert_yaxis()
    figure.axes[1].legend(loc="lower right")
    device = "eight CPU devices" if target == "here" else target
    figure.suptitle(
        f"A gradient with the same shardings, compiled for {device}", x=0.01, ha="left", fontsize=12
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "devices.svg").write_bytes(svg(figure))
    print(f"\nwritten: {folder / 'devices.svg'}")


def main(options: Options) -> None:
    """Print the tables, and draw the picture if it is asked for."""
    print(machine(("fnn", "jax")))
    dtype = jnp.float32 if options.target == "here" else jnp.bfloat16
    sizes = Sizes(rows=options.rows, dtype=dtype)
    if options.only in ("gradients", "all"):
        rows = list(of_gradients(options, sizes))
        if options.pictures:
            picture(options.pictures, rows, options.target)
    if options.only in ("training", "all"):
        of_training(options, sizes)
    if options.only in ("readers", "all"):
        small = replace(sizes, rows=4 * options.rows, width=sizes.width // 4, hidden=sizes.hidden // 8)
        list(of_readers(options, small))


if __name__ == "__main__":
    main(tyro.cli(Options))
