"""A text as examples: some characters, and the one that follows."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.library.data import DataError

CONTEXT = 16


class Text(NamedTuple):
    """Characters and the one behind them, to learn from and held out (the last tenth of the text)."""

    x: np.ndarray  # uint8 (n, CONTEXT), the numbers of characters
    t: np.ndarray  # uint8 (n,)
    x_test: np.ndarray
    t_test: np.ndarray
    characters: str  # by their numbers


def from_text(path: Path) -> Text:
    """Read a text of at most 256 different characters. Raises DataError for any other."""
    text = path.read_text() if path.is_file() else ""
    characters = "".join(sorted(set(text)))
    if len(text) < 20 * CONTEXT or len(characters) > 256:
        wanted = f"a text of {20 * CONTEXT} characters or more, of at most 256 kinds"
        raise DataError(f"{path}: expected {wanted}, found {len(text):,} of {len(characters)} kinds")
    numbers = np.array([characters.index(c) for c in characters], np.uint8)
    table = dict(zip(characters, numbers, strict=True))
    codes = np.array([table[c] for c in text], np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(codes, CONTEXT + 1)
    x, t = windows[:, :-1], windows[:, -1]
    seen = len(x) * 9 // 10
    return Text(x[:seen], t[:seen], x[seen:], t[seen:], characters)


def flattened(params: Any, x: Any) -> Any:
    """Put what an example has into one row, as a function that `fnn.function.Function` makes a layer."""
    return x.reshape(len(x), -1)
