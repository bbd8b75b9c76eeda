"""A picture of every activation and of its derivative, for the reference.

    python -m experiments.site.activations

Written into docs/pictures/activations, as SVG. Both curves are fnn's own, in float64.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fnn
from experiments.library.figures import COOL, SOFT, WARM, svg

AT = np.linspace(-4, 4, 801)
OFTEN = {"relu6": np.linspace(-4, 8, 1201)}  # where the usual range would not show all


def activations() -> dict[str, fnn.Layer]:
    """Give the activations of one number, by name."""
    found = {name: getattr(fnn.activations, name) for name in vars(fnn.activations)}
    return {name: f for name, f in sorted(found.items()) if isinstance(f, fnn.activations.Activation)}


def curves(layer: fnn.Layer, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give an activation's values and derivatives, as fnn's forward and backward make them."""
    y, residuals = fnn.forward(layer, (), jnp.asarray(x))
    return np.asarray(y), np.asarray(fnn.backward(layer, (), residuals, jnp.ones_like(y))[1])


def draw(name: str, layer: fnn.Layer) -> Figure:
    """Draw an activation and its derivative, each beside its name; where one jumps there is a gap."""
    x = OFTEN.get(name, AT)
    y, slope = curves(layer, x)
    jumps = np.flatnonzero(np.abs(np.diff(slope)) > 0.1) + 1
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.plot(x, y, color=COOL)
    axes.plot(np.insert(x, jumps, x[jumps]), np.insert(slope, jumps, np.nan), color=WARM, linestyle="--")
    top = y.max() if abs(slope[-1]) < 0.1 else np.interp(2.8, x, y)  # the whole of it, where it is bounded
    low, high = max(min(y.min(), slope.min()), -2.2), max(top, slope.max())
    room = 0.08 * (high - low)
    axes.set(xlim=(x[0], x[-1]), ylim=(low - room, high + room), xlabel="x")
    axes.set_xticks(range(int(x[0]), int(x[-1]) + 1, 2))
    axes.set_title(name, color=COOL)
    axes.set_title("its derivative", loc="right", color=WARM)
    return figure


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = Path("docs/pictures/activations")
    parser.add_argument("--folder", type=Path, default=where, help="where they are written")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        for name, layer in activations().items():
            (folder / f"{name}.svg").write_bytes(svg(draw(name, layer)))
    print(f"written: {len(activations())} pictures in {folder}")


if __name__ == "__main__":
    main()
