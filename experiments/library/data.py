"""Images of handwritten digits: from scikit-learn's wheel, or from idx files."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class DataError(ValueError):
    """The data are not there, or not what they should be; the text says what was expected."""


class Digits(NamedTuple):
    """Images and labels, to learn from and held out: pixels from 0 to 1, labels from 0 to 9."""

    x: np.ndarray  # float32 (n, rows * columns)
    t: np.ndarray  # int32 (n,)
    x_test: np.ndarray
    t_test: np.ndarray
    shape: tuple[int, int]  # (rows, columns) of an image


def from_scikit_learn(seed: int) -> Digits:
    """Give the 1,797 digits of 8 x 8 pixels that scikit-learn carries, a fifth of every class held out.

    `seed` draws which. Source: Alpaydin, Kaynak 1998, UCI repository.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, t = load_digits(return_X_y=True)
    x, t = (x / 16).astype(np.float32), t.astype(np.int32)
    seen, held_out = train_test_split(np.arange(len(x)), test_size=0.2, stratify=t, random_state=seed)
    return Digits(x[seen], t[seen], x[held_out], t[held_out], (8, 8))


def from_idx(folder: Path) -> Digits:
    """Read MNIST's four idx files, gzipped or not. Raises DataError where they do not fit."""
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder with MNIST's four idx files, found none: try `--data-dir DIR`"
        )
    x, t, x_test, t_test = (
        read_idx(find(folder, f"{part}-{kind}-ubyte"), axes=axes)
        for part in ("train", "t10k")
        for kind, axes in (("images-idx3", 3), ("labels-idx1", 1))
    )
    for name, images, labels in (("train", x, t), ("t10k", x_test, t_test)):
        if len(images) != len(labels) or not len(images):
            raise DataError(
                f"{folder}: {name} has {len(images)} images and {len(labels)} labels: expected as many"
            )
        if labels.max() > 9:
            raise DataError(f"{folder}: {name} has the label {labels.max()}: expected labels from 0 to 9")
    if x.shape[1:] != x_test.shape[1:]:
        raise DataError(
            f"{folder}: images of {x.shape[1:]} and of {x_test.shape[1:]} pixels: expected the same"
        )
    flat, flat_test = ((images.reshape(len(images), -1) / 255).astype(np.float32) for images in (x, x_test))
    return Digits(flat, t.astype(np.int32), flat_test, t_test.astype(np.int32), x.shape[1:])


def find(folder: Path, name: str) -> Path:
    """Give the path of `name`, or else of `name`.gz, in `folder`."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise DataError(f"{folder}: expected {name} or {name}.gz, found {there}")


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped or not: uint8 with so many axes. Raises DataError.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of axes, each axis' size as a
    big-endian 32-bit integer, then the bytes, last axis fastest. Source: LeCun, Cortes, Burges 1998.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: expected a whole gzip file, got a broken one ({error})") from error
    magic, head = bytes((0, 0, 8, axes)), 4 + 4 * axes
    if data[:4] != magic:
        wanted = (
            f"an idx file of unsigned bytes with {axes} axes, which begins with the bytes {magic.hex(' ')}"
        )
        raise DataError(f"{path}: expected {wanted}, got {data[:4].hex(' ') or 'an empty file'}")
    shape = tuple(int(size) for size in np.frombuffer(data[4:head].ljust(4 * axes, b"\0"), ">u4"))
    if len(data) != head + math.prod(shape):
        wanted = f"{head + math.prod(shape):,} bytes for the shape {shape} in its head"
        raise DataError(f"{path}: expected {wanted}, got {len(data):,}: the file is damaged")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def shifted(x: Any, key: Any, shape: tuple[int, int], part: float) -> Any:
    """Move each image (n, rows * columns) by a random number of whole pixels, up to `part` of its sides."""
    most = jnp.array([[int(part * side) for side in shape]])
    moves = jax.random.randint(key, (len(x), 2), -most, most + 1)
    return jax.vmap(lambda image, move: jnp.roll(image.reshape(shape), move, (0, 1)).ravel())(x, moves)
