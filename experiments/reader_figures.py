"""The pictures of the experiments with readers, each as the bytes of a PNG."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures import COOL, INK, SOFT, WARM, png

COLOURS = (WARM, COOL, SOFT, INK)


def private_curve(accuracy: np.ndarray, spent: np.ndarray) -> bytes:
    """Draw the accuracy (points, 2) and the epsilon spent (points, 2), both by step."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(accuracy[:, 0], 100 * (1 - accuracy[:, 1]), color=WARM, linewidth=1.8)
    left.set(yscale="log", xlabel="step", ylabel="misread images (%)", title="Held out")
    left.set_yticks([5, 10, 20, 50], ["5", "10", "20", "50"])
    left.minorticks_off()
    right.plot(*spent.T, color=COOL, linewidth=1.8, marker="o", markersize=3)
    right.set(xlabel="step", ylabel="epsilon", title="Privacy spent", ylim=(0, None))
    return png(figure)


def curves(panels: dict[str, tuple[str, str, dict[str, Any]]]) -> bytes:
    """Draw a panel for each title: what lies across, what upwards, and its lines (x, y) by name."""
    figure = Figure(figsize=(4.5 * len(panels), 3.4), layout="constrained")
    for axes, (title, (across, up, lines)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(*line, color=colour, linewidth=1.6, label=name)
        axes.set(title=title, xlabel=across, ylabel=up)
    figure.axes[0].set_yscale("log")
    figure.axes[0].legend(frameon=False)
    return png(figure)


def suspicious(images: np.ndarray, given: Any, true: Any, hits: np.ndarray) -> bytes:
    """Draw ten images (10, rows, columns) with both labels, and the share of mistakes found by rank, (n,)."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    grid = figure.add_gridspec(3, 5, height_ratios=(1, 1, 1.5))
    for i, image in enumerate(images):
        axes = figure.add_subplot(grid[i // 5, i % 5])
        axes.imshow(image, cmap="Greys")
        axes.set_axis_off()
        colour = WARM if given[i] != true[i] else SOFT
        axes.set_title(f"labelled {given[i]}, is {true[i]}", color=colour, fontsize=9)
    axes = figure.add_subplot(grid[2, :])
    axes.plot(np.arange(1, len(hits) + 1) / len(hits), hits, color=WARM, linewidth=1.8)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=":")
    axes.set(xlabel="share of the examples looked at", ylabel="share of mistakes found")
    return png(figure)
