"""Schedules of pipelines: how long stages wait, counted from the schedule, and what a device then holds.

    python -m experiments.bench.pipeline                           on simulated devices, one a stage
    python -m experiments.bench.pipeline --pictures docs/pictures

The bubble is the share of the stages' time in which they wait, where F, B and W take `--costs`. Beside it
stand the microbatches of which a stage holds anything, and the temporaries of a device by the compiler's
count, of a chain with a `Repeat` of feed-forward blocks, two to a stage, in float32. Times are not measured:
simulated devices share the processor's cores, and one that waits lets another run.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

import fnn
from fnn.pipeline import Schedule, gpipe, one_f_one_b, zero_bubble

MAKERS = {"GPipe": gpipe, "1F1B": one_f_one_b, "ZB-H1": zero_bubble}
WIDTH, ROWS = 256, 64  # of a boundary of one microbatch


def temporaries(schedule: Schedule) -> int:
    """Return the bytes of temporaries of one device, by the compiler's count."""
    stages, count = len(schedule.stages), schedule.microbatches
    block = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.Dense(4 * WIDTH), fnn.gelu, fnn.Dense(WIDTH)))
    net, loss = fnn.Serial(fnn.Repeat(block, 2 * stages), fnn.Dense(WIDTH)), fnn.half_squared_error()
    mesh = jax.make_mesh((stages,), ("stage",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.ShapeDtypeStruct((count * ROWS, WIDTH), jnp.float32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), jnp.zeros(x.shape)))
    lie = fnn.pipeline.shardings(net, params, mesh)
    placed = jax.tree.map(lambda p, to: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=to), params, lie)
    run = jax.jit(fnn.pipeline.value_and_grad(net, loss, mesh, schedule))
    counted = run.lower(placed, x, x).compile().memory_analysis()
    return counted.temp_size_in_bytes  # pyright: ignore[reportOptionalMemberAccess]


def table(stages: int, counts: list[int], costs: tuple[float, float, float]) -> None:
    """Print bubbles, what is held, and temporaries."""
    f, b, w = costs
    print(
        f"{stages} stages; F, B and W take {f:g}, {b:g} and {w:g}; blocks of width {WIDTH}, {ROWS} rows each"
    )
    print(f"{'':8}{'microbatches':>14}{'bubble':>10}{'held':>8}{'MiB of temporaries':>22}")
    for count in counts:
        for name, make in MAKERS.items():
            schedule = make(stages, count)
            room = temporaries(schedule) / 2**20
            print(
                f"{name:8}{count:14}{schedule.bubble(*costs):10.1%}{schedule.held:8}{room:22.2f}", flush=True
            )


def picture(folder: Path, stages: int, count: int, costs: tuple[float, float, float]) -> None:
    """Draw what each stage does when, one schedule below the other on one axis of time."""
    from matplotlib.figure import Figure

    from experiments.library.figures import COOL, GOLD, INK, WARM, svg

    f, b, w = costs
    colours = {"F": COOL, "B": WARM, "W": GOLD}
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    panels = figure.subplots(len(MAKERS), sharex=True)
    for axes, (name, make) in zip(panels, MAKERS.items(), strict=True):
        schedule, end = make(stages, count), 0.0
        for stage, (ops, starts) in enumerate(zip(schedule.stages, schedule.times(*costs), strict=True)):
            for op, start in zip(ops, starts, strict=True):
                halves = (
                    [("B", b), ("W", w)]
                    if op.kind == "BW"
                    else [(op.kind, {"F": f, "B": b, "W": w}[op.kind])]
                )
                for kind, length in halves:
                    axes.barh(
                        stage, length, 0.86, start, color=colours[kind], edgecolor="white", linewidth=0.8
                    )
                    axes.text(start + length / 2, stage, str(op.microbatch), color="white", size=8,
                              ha="center", va="center")  # fmt: skip
                    start += length
                end = max(end, start)
        axes.set(yticks=range(stages), ylabel="stage", ylim=(stages - 0.5, -0.5))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.axvline(end, color=INK, linewidth=1)
        waits = f"stages wait {schedule.bubble(*costs):.0%} of the time"
        axes.set_title(f"{name}: {waits}, and hold {schedule.held} microbatches")
    even = ", where forwards (F), the inputs' half of backwards (B) and the weights' (W) take one each"
    panels[-1].set_xlabel("time" + even * (costs == (1, 1, 1)))
    marks = [panels[0].barh(0, 0, color=colour, label=kind) for kind, colour in colours.items()]
    figure.legend(handles=marks, loc="outside upper right", ncols=3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.svg").write_bytes(svg(figure))
    print(f"\nwritten: {folder / 'pipeline.svg'}")


def main() -> None:
    """Print the table, and draw the picture if it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--microbatches", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--costs", type=float, nargs=3, default=[1, 1, 1], metavar=("F", "B", "W"))
    parser.add_argument("--pictures", type=Path, help="the folder for the picture")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.stages)
    costs = tuple(options.costs)
    table(options.stages, options.microbatches, costs)
    if options.pictures:
        picture(options.pictures, options.stages, options.microbatches[len(options.microbatches) // 2], costs)


if __name__ == "__main__":
    main()
