"""The pictures of the documentation's concepts: boundary, residual, factor, reader, plan.

    python -m experiments.site.concepts

Written into docs/pictures, as SVG. The one of plans shows what `fnn.memory.report` counts.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

import fnn
from experiments.library.figures import COOL, INK, SOFT, WARM, svg

BACK, AHEAD = "#fbeae6", "#e6eff5"


def sheet(width: float, height: float, title: str) -> tuple[Figure, Any]:
    """Give a figure of so many units, half an inch each, below a title and without axes."""
    figure = Figure(figsize=(width / 2, height / 2 + 0.5))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height + 1), aspect="equal")
    axes.set_axis_off()
    axes.text(0.3, height + 0.4, title, ha="left", va="center", color=INK, fontsize=13)
    return figure, axes


def box(axes: Any, x: float, y: float, text: str, width: float = 3, colour: str = "#f2f2f2") -> None:
    """Draw a layer: a rounded box around a text, its middle at (x, y)."""
    shape = FancyBboxPatch((x - width / 2, y - 0.55), width, 1.1, boxstyle="round,pad=0,rounding_size=0.25")
    shape.set(facecolor=colour, edgecolor=SOFT)
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", color=INK)


def arrow(
    axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str = INK, **more: Any
) -> None:
    """Draw an arrow."""
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 13, "linewidth": 1.4, "color": colour}
    axes.add_patch(FancyArrowPatch(start, end, **(look | more)))


def note(axes: Any, x: float, y: float, text: str, colour: str = INK, **more: Any) -> None:
    """Write a text, its middle at (x, y)."""
    axes.text(x, y, text, **({"ha": "center", "va": "center", "color": colour} | more))


def matrix(axes: Any, x: float, y: float, size: tuple[float, float], text: str, colour: str) -> None:
    """Draw a matrix (rows, columns), its lower left corner at (x, y)."""
    rows, columns = size
    axes.add_patch(Rectangle((x, y), columns, rows, facecolor=colour, alpha=0.25))
    axes.add_patch(Rectangle((x, y), columns, rows, fill=False, edgecolor=colour))
    note(axes, x + columns / 2, y + rows / 2, text, colour)


LAYERS = ("dense", "gelu", "dense")
AT = (1.2, 6.4, 11.6, 16.8)  # where the boundaries of that chain are


def chain(axes: Any, y: float, colours: tuple[str, ...]) -> None:
    """Draw the chain at a height, each boundary as a disc."""
    for i, (x, colour) in enumerate(zip(AT, colours, strict=True)):
        axes.plot(x, y, "o", color=colour, markersize=13)
        note(axes, x, y + 0.95, f"$v_{i}$", colour, fontsize=15)
    for name, left, right in zip(LAYERS, AT, AT[1:], strict=False):
        middle = (left + right) / 2
        arrow(axes, (left + 0.4, y), (middle - 1.5, y))
        box(axes, middle, y, name)
        arrow(axes, (middle + 1.5, y), (right - 0.4, y))


def boundary() -> Figure:
    """Draw a chain and the values between its layers."""
    figure, axes = sheet(18, 4, "A forward pass is the values between its layers")
    chain(axes, 1.9, (COOL,) * 4)
    for x, text in zip(
        AT, ("input", "output of the first,\ninput of the second", "and so on", "output"), strict=True
    ):
        note(axes, x, 0.7, text, SOFT, fontsize=10.5)
    return figure


def residual() -> Figure:
    """Draw which boundaries are kept, which is made again, and who reads them."""
    title = "Each backward reads one value; what no one reads or a cheap layer makes again is not kept"
    figure, axes = sheet(18, 6.4, title)
    chain(axes, 4.9, (COOL, COOL, SOFT, SOFT))
    for i, (x, right) in enumerate(zip(AT[:2], AT[1:], strict=False)):
        arrow(axes, (x, 4.5), ((x + right) / 2 - 1.2, 1.95), COOL)
        note(axes, x + 1.1, 3.6, f"keep $v_{i}$", COOL, ha="left")
    for name, left, right in zip(LAYERS, AT, AT[1:], strict=False):
        box(axes, (left + right) / 2, 1.3, f"{name}'s backward", 3.6, BACK)
    for left, right in zip(AT[1:], AT, strict=False):
        arrow(
            axes,
            ((left + right) / 2 + (left - right) / 2 + 0.8, 0.95),
            ((left + right) / 2 + 1.8, 0.95),
            WARM,
        )
    note(axes, AT[2] + 0.6, 3.4, "$v_2$ is made again\nfrom $v_1$: no product", SOFT)
    arrow(axes, (AT[1] + 0.4, 4.4), (AT[2] - 1.4, 3.6), SOFT, linestyle=":")
    arrow(axes, (AT[2] + 0.7, 2.7), (AT[2] + 1.4, 1.95), SOFT, linestyle=":")
    note(axes, AT[3] + 0.1, 0.4, "cotangents", WARM, ha="right", fontsize=10.5)
    return figure


def factor() -> Figure:
    """Draw the gradient of a weight as a sum of outer products."""
    title = "The gradient of a weight is a sum over examples, and two matrices hold all of its pieces"
    figure, axes = sheet(18, 6.4, title)
    for i, left in enumerate((0.4, 4.3, 8.2)):
        matrix(axes, left, 2.2, (2.4, 0.5), "", COOL)
        matrix(axes, left + 0.8, 4.8, (0.5, 1.6), "", WARM)
        axes.add_patch(Rectangle((left + 0.8, 2.2), 1.6, 2.4, facecolor="#efefef"))
        note(axes, left + 1.6, 3.4, f"$g_{i + 1}$", INK, fontsize=14)
        note(axes, left + 0.25, 5, f"$x_{i + 1}$", COOL)
        note(axes, left + 1.6, 5.65, f"$dz_{i + 1}$", WARM)
        note(axes, left + (3.15 if i < 2 else 3.25), 3.4, "+" if i < 2 else "+ ... =", fontsize=15)
    axes.add_patch(Rectangle((12.3, 2.2), 1.6, 2.4, facecolor="#d9d9d9"))
    note(axes, 13.1, 3.4, "$dW$", INK, fontsize=14)
    note(axes, 14.6, 3.4, "=", fontsize=15)
    matrix(axes, 15, 2.2, (2.4, 1.2), "$x^T$", COOL)
    matrix(axes, 16.4, 2.8, (1.2, 1.4), "$dz$", WARM)
    note(axes, 5.6, 1.2, "the pieces, one for each example: never made", SOFT)
    note(axes, 13.1, 1.2, "what jax.grad gives", SOFT)
    note(axes, 16.4, 0.6, "the factor\nOuter(x, dz)", INK, fontweight="bold")
    return figure


def reader() -> Figure:
    """Draw one factor and what four readers make of it."""
    figure, axes = sheet(18, 8.4, "Every question is a small function of the same pair")
    matrix(axes, 0.8, 3, (2.6, 1.6), "$x$", COOL)
    matrix(axes, 2.8, 3, (2.6, 1.1), "$dz$", WARM)
    note(axes, 2.3, 2.4, "(n, k)   (n, j)", SOFT, fontsize=10.5)
    note(axes, 2.3, 6.2, "Outer(x, dz)", INK, fontweight="bold")
    made = (
        ("gradient", "$x^T dz$", "(k, j)"),
        ("squared_norm", r"$|x_i|^2\,|dz_i|^2$", "(n,)"),
        ("weighted_gradient", r"$x^T (c \cdot dz)$", "(k, j)"),
        ("kronecker_factors", r"$x^T x,\ \ dz^T dz$", "(k, k), (j, j)"),
    )
    for i, (name, formula, shape) in enumerate(made):
        y = 7.4 - 2.1 * i
        arrow(axes, (4.3, 4.3), (6.2, y))
        box(axes, 8.3, y, name, 4.2, AHEAD)
        arrow(axes, (10.5, y), (11.4, y))
        note(axes, 11.7, y, formula, ha="left", fontsize=14)
        note(axes, 17.8, y, shape, SOFT, ha="right")
    return figure


def plan() -> Figure:
    """Draw the residuals alive over a step, for all boundaries and two plans."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    net, x = fnn.mlp([512] * 17, fnn.gelu), jax.ShapeDtypeStruct((2048, 512), jnp.float32)
    whole = fnn.memory.report(net, None, x)
    for name, own, colour, style, height in (
        ("all boundaries", net, INK, "-", 1.0),
        ("within a half", fnn.memory.fit(net, x, whole.peak // 2), COOL, "-", 0.5),
        ("within a third", fnn.memory.fit(net, x, whole.peak // 3), WARM, "--", 1 / 3),
    ):
        alive = np.array([moment.residuals for moment in fnn.memory.report(own, None, x).timeline]) / 2**20
        axes.plot(np.linspace(0, 1, len(alive)), alive, color=colour, linestyle=style)
        axes.text(
            1.02, height * whole.peak / 2**20, f"{name}: {alive.max():.0f} MiB", color=colour, va="center"
        )
    axes.set(xlim=(0, 1.4), ylim=(0, None), ylabel="MiB of residuals alive")
    axes.set_xticks([0, 1], ["the forward begins", "the backward ends"])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.spines["bottom"].set_bounds(0, 1)
    axes.set_title(
        "A plan caps what is alive at once: one step of sixteen gelu layers, 512 wide, 2,048 rows",
        loc="left",
    )
    return figure


PICTURES: tuple[Callable[[], Figure], ...] = (boundary, residual, factor, reader, plan)


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("docs/pictures"), help="where they are written")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        (folder / f"{draw.__name__}.svg").write_bytes(svg(draw()))
        print(f"written: {folder / draw.__name__}.svg")


if __name__ == "__main__":
    main()
