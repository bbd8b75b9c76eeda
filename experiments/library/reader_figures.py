"""The pictures of the experiments with readers, each as the bytes of a PNG."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from experiments.library.figures import COOL, INK, SOFT, WARM, png

COLOURS = (WARM, COOL, SOFT, INK)


def private_curve(accuracy: np.ndarray, spent: np.ndarray) -> bytes:
    """Draw the accuracy (points, 2) and the epsilon spent (points, 2), both by step."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(accuracy[:, 0], 100 * (1 - accuracy[:, 1]), color=WARM, linewidth=1.8)
    left.set(xlabel="step", ylabel="misread images (%)", title="Held out", xlim=(0, None))
    plain_logarithms(left)
    right.plot(*spent.T, color=COOL, linewidth=1.8, marker="o", markersize=3)
    right.set(xlabel="step", ylabel="epsilon", title="Privacy spent", xlim=(0, None), ylim=(0, None))
    return png(figure)


def plain_logarithms(axes: Any) -> None:
    """Scale the axis upwards by logarithms, with round numbers of each decade written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def curves(panels: dict[str, tuple[str, str, dict[str, Any]]]) -> bytes:
    """Draw a panel for each title: what lies across, what upwards, and its lines (x, y) by name.

    The panels that share what lies upwards with the first are scaled by logarithms, as it is.
    """
    first = next(iter(panels.values()))[1]
    figure = Figure(figsize=(4.5 * len(panels), 3.4), layout="constrained")
    for axes, (title, (across, up, lines)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(*line, color=colour, linewidth=1.6, label=name)
        axes.set(title=title, xlabel=across, ylabel=up, xlim=(0, None))
        if up == first:
            plain_logarithms(axes)
    figure.axes[0].legend(frameon=False)
    return png(figure)


def suspicious(images: np.ndarray, given: Any, true: Any, hits: np.ndarray) -> bytes:
    """Draw ten images (10, rows, columns) with both labels, and the share of mistakes found by rank, (n,)."""
    figure = Figure(figsize=(9, 5.8), layout="constrained")
    grid = figure.add_gridspec(3, 5, height_ratios=(1, 1, 1.3), hspace=0.12)
    for i, image in enumerate(images):
        axes = figure.add_subplot(grid[i // 5, i % 5])
        axes.imshow(image, cmap="Greys")
        axes.set_axis_off()
        colour = WARM if given[i] != true[i] else SOFT
        axes.set_title(f"labelled {given[i]}, is {true[i]}", color=colour, fontsize=9)
    axes = figure.add_subplot(grid[2, :])
    axes.plot(np.arange(1, len(hits) + 1) / len(hits), hits, color=WARM, label="most suspicious first")
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", label="in any order")
    axes.set(xlabel="share of the examples looked at", ylabel="share of mistakes found", xlim=(0, 1))
    axes.legend(frameon=False, loc="lower right")
    return png(figure)
