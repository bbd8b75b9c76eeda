"""The options of the digits experiment: its command line is made from them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


class OptionError(ValueError):
    """An option does not fit; the text says what was expected."""


@dataclass(frozen=True)
class Options:
    """Learn handwritten digits through a backward pass that one can see."""

    data: Literal["digits", "mnist"] = "digits"
    """Which images: scikit-learn's 1,797 digits of 8 x 8 pixels, or MNIST's 70,000 of 28 x 28."""
    data_dir: Path | None = None
    """Folder with MNIST's four idx files, gzipped or not; `--data mnist` needs it."""
    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer, in units."""
    dropout: float = 0.2
    """Probability that a hidden unit is set to zero in a step, from 0 to below 1."""
    epochs: int = 30
    """Passes over the images."""
    batch: int = 32
    """Images in a step. An epoch leaves out the few that do not fill one, other ones each time."""
    shift: float = 0.04
    """In a step, each image is moved by up to this part of its side, in whole pixels: 0 of 8, 1 of 28."""
    learning_rate: float = 2e-3
    """Step size of AdamW in the first step; it falls to zero along a cosine."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW, as a multiple of the step size."""
    seed: int = 0
    """Seed of all that is random: the held-out fifth, the first params, the order, dropout and shifts."""
    results: Path = Path("experiments/results")
    """Folder for the results; they go to a folder inside it that is named after the data."""


def check(options: Options) -> None:
    """Raise OptionError where an option does not fit."""
    wanted = {
        "data_dir": (options.data_dir or options.data == "digits", "the folder with MNIST's four idx files"),
        "epochs": (options.epochs >= 1, "1 or more"),
        "batch": (options.batch >= 1, "1 or more"),
        "shift": (0 <= options.shift <= 1, "a part from 0 to 1"),
        "learning_rate": (0 < options.learning_rate < math.inf, "a positive number"),
        "weight_decay": (0 <= options.weight_decay < math.inf, "0 or more"),
        "seed": (0 <= options.seed < 2**32, "a whole number from 0 to 4294967295"),
    }
    for name, (fits, expected) in wanted.items():
        if not fits:
            raise OptionError(
                f"--{name.replace('_', '-')}: expected {expected}, got {getattr(options, name)}"
            )
