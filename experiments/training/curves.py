"""The template on one device and on eight: the same loss curve, up to what rounding grows into.

    python -m experiments.training.curves --mnist FOLDER --text tiny_shakespeare.txt --picture curves.svg

Every run is the script `experiments.training.template` in a process of its own; eight devices are simulated.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

from experiments.library.figures import COOL, SOFT, svg


@dataclass(frozen=True)
class Options:
    """What is run, and where the picture goes."""

    mnist: Path
    text: Path
    picture: Path
    steps: int = 1000
    every: int = 20  # steps between the losses that are drawn


def losses(data: Path, devices: int, options: Options) -> np.ndarray:
    """Run the template: give the loss at every so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        command = ["--data", data, "--folder", folder, "--steps", options.steps, "--every", options.every]
        subprocess.run(
            [sys.executable, "-m", "experiments.training.template", *map(str, command)],
            env=os.environ | {"XLA_FLAGS": flags},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        records = map(json.loads, (Path(folder) / "log.jsonl").read_text().splitlines())
        return np.array([record["loss"] for record in records if "loss" in record])


def main(options: Options) -> None:
    """Run four times, print how far the curves are apart, draw them."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {"MNIST": options.mnist, "tiny_shakespeare": options.text}
    for axes, (title, data) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        one, eight = losses(data, 1, options), losses(data, 8, options)
        difference = np.abs(one - eight)
        print(
            f"{title}: {options.steps:,} steps, last loss {one[-1]:.4f} on one device, {eight[-1]:.4f} on"
            f" eight; {difference[0]:.1e} apart after {options.every} steps, at most {difference.max():.1e}"
        )
        steps = options.every * np.arange(1, len(one) + 1)
        axes.plot(steps, eight, color=SOFT, linewidth=5, alpha=0.6, label="eight devices")
        axes.plot(steps, one, color=COOL, linewidth=1.4, label="one device")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
        axes.legend(frameon=False)
    figure.suptitle("One script, on one device and on eight: the same curve", x=0.01, ha="left")
    options.picture.write_bytes(svg(figure))
    print(f"written: {options.picture}")


if __name__ == "__main__":
    main(tyro.cli(Options))
