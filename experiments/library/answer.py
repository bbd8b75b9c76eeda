"""What every question's script does alike: options, tables, a picture and JSON on disk."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure

import fnn
from experiments.library.data import DataError
from experiments.library.figures import INK, SOFT, png, svg
from experiments.library.results import ResultsError, as_json, machine, writable, write

PACKAGES = ("fnn", "jax", "jaxlib", "numpy")


@dataclass(frozen=True)
class Options:
    """The options that every question has."""

    full: bool = False
    """Take larger sizes and more repetitions: minutes instead of seconds."""
    seed: int = 0
    """Seed of all that is drawn at random."""
    results: Path = Path("experiments/results")
    """Folder for the results; they go to a folder inside it that is named after the question."""


def run(
    main: Callable[[Any], Any],
    description: str | None,
    arguments: Sequence[str] | None = None,
    options: type = Options,
) -> None:
    """Run a question's `main` with the command line's options; what goes wrong is told in a line."""
    try:
        main(tyro.cli(options, args=arguments, description=description))
    except (DataError, ResultsError, fnn.InputError, ModuleNotFoundError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: stopped. No results were written.")


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """Lay out a table: the first `left` columns to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def heading(text: str) -> None:
    """Print a line that opens a part of the answer."""
    print(f"\n{text}\n{'=' * len(text)}")


def canvas(
    message: str, columns: int = 1, rows: int = 1, size: tuple[float, float] = (9, 4.2), **more: Any
) -> tuple[Figure, Any]:
    """Give a figure that says its one message, and its axes: one, or an array of them."""
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(message, x=0.01, ha="left", fontsize=15, fontweight="bold", color=INK)
    return figure, figure.subplots(rows, columns, **more)


def label(axes: Any, at: tuple[float, float], text: str, colour: str = INK, **more: Any) -> None:
    """Write a curve's name beside its last point, in its colour."""
    place: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(text, at, color=colour, **(place | more))


def labels(axes: Any, ends: Sequence[tuple[tuple[float, float], str, str]], gap: float = 0.075) -> None:
    """Write names (point, text, colour) beside curves' last points, apart by `gap` of the height at least.

    To be called when the axes have their limits.
    """
    to_height = axes.transData + axes.transAxes.inverted()
    below, height = -gap, axes.figure.get_figheight() * 72 * 0.8  # in points, nearly
    for at, text, colour in sorted(ends, key=lambda end: end[0][1]):
        own = float(to_height.transform(at)[1])
        below = max(own, below + gap)
        label(axes, at, text, colour, xytext=(6, (below - own) * height))


def deliver(options: Options, name: str, figures: dict[str, Any], picture: Figure) -> dict[str, Any]:
    """Write the picture and figures.json into the question's folder, all or nothing, and give the figures."""
    for axes in picture.axes:
        axes.tick_params(color=SOFT, which="both")
    folder = writable(options.results / name)
    told = figures | {"options": {"full": options.full, "seed": options.seed}} | machine(PACKAGES)
    pictures = {f"{name}.png": png(picture), f"{name}.svg": svg(picture)}
    replaced = write(folder, pictures | {"figures.json": as_json(told)})
    print(f"\nWritten to {folder}: {name}.png, {name}.svg, figures.json{replaced}.")
    return figures
