"""How all pictures look, and those of the digits experiment, each as the bytes of a PNG.

The colours keep apart for the colour-blind, and in grey.
"""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK, SOFT, WARM, COOL, GOLD = "#222222", "#80868b", "#c8553d", "#2a6f97", "#dd9a1f"
WHITE_TO_WARM = LinearSegmentedColormap.from_list("white to warm", ["white", WARM])
STYLE: dict[str, Any] = {  # large enough to be read at half the size
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.hashsalt": "fnn",  # the same picture is the same file
}
for name, value in STYLE.items():
    matplotlib.rcParams[name] = value  # pyright: ignore[reportArgumentType]


def learning_curve(losses: np.ndarray, accuracies: np.ndarray) -> bytes:
    """Draw the loss of each step (epochs, steps), and the accuracies after each epoch (epochs, 2)."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs, steps = losses.shape
    passed = np.arange(1, epochs + 1)
    some = -(-losses.size // 800)  # so many steps make one point of the thin line
    points = losses.ravel()[: losses.size // some * some].reshape(-1, some).mean(1)
    left.plot(np.arange(1, len(points) + 1) * some / steps, points, color=COOL, alpha=0.35, linewidth=0.6)
    left.plot(passed, losses.mean(1), color=COOL, linewidth=1.8)
    left.set(yscale="log", xlabel="epoch", ylabel="cross-entropy (nats)")
    left.set_title("Mean loss of an epoch" + (f", and of {some} steps" if some > 1 else ", and every step"))
    for name, colour, wrong in zip(("seen", "held out"), (SOFT, WARM), 100 * (1 - accuracies.T), strict=True):
        right.plot(passed, wrong, color=colour, linewidth=1.8)
        label = f"{name} {wrong[-1]:.2f}%"
        right.annotate(label, (epochs, wrong[-1]), (6, -3), textcoords="offset points", color=colour)
    right.set(xlabel="epoch", ylabel="misread images (%)", title="Images misread after each epoch")
    right.set_yscale("symlog", linthresh=1)
    right.set_yticks([0, 1, 2, 5, 10, 20, 50], ["0", "1", "2", "5", "10", "20", "50"], minor=False)
    right.set_ylim(-0.05, 100 * (1 - accuracies.min()) + 1)
    return png(figure)


def confusion_matrix(counts: np.ndarray) -> bytes:
    """Draw how often an image of a digit (row) was read as another (column); right readings are grey."""
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.subplots()
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    axes.imshow(wrong, cmap=WHITE_TO_WARM, vmin=0, vmax=max(2, 1.3 * wrong.max()))
    for (i, j), n in np.ndenumerate(counts):
        colour = SOFT if i == j else INK
        axes.text(j, i, f"{n:,}" if n else "", ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="read as", ylabel="digit in the image", xticks=range(10), yticks=range(10))
    axes.set_xticks(np.arange(9) + 0.5, minor=True)
    axes.set_yticks(np.arange(9) + 0.5, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("#eeeeee")
    axes.set_title(f"{wrong.sum():,} of {counts.sum():,} held-out images are misread")
    return png(figure)


def weight_images(before: np.ndarray, after: np.ndarray, shape: tuple[int, int], side: int = 6) -> bytes:
    """Draw weights of the first layer (k, j) as images, for the units that changed most."""
    figure = Figure(figsize=(9, 5.0), layout="constrained")
    learned = after - before
    most = np.argsort(-np.linalg.norm(learned, axis=0), kind="stable")[: side * side]
    titles = "Weights of the units that changed most", "What learning added to them"
    halves: Any = figure.subfigures(1, 2, wspace=0.04)
    for part, title, w in zip(halves, titles, (after, learned), strict=True):
        part.suptitle(title)
        for axes, unit in zip(part.subplots(side, side).flat, most, strict=False):
            size = np.abs(w[:, unit]).max()
            axes.imshow(w[:, unit].reshape(shape), cmap="RdBu_r", vmin=-size, vmax=size)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.supxlabel(
        "red: ink there excites the unit     blue: ink there inhibits it", color=INK, fontsize=10
    )
    return png(figure)


def png(figure: Figure) -> bytes:
    """Give a figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """Give a figure as the bytes of an SVG, the same ones for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
