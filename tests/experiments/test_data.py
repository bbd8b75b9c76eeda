"""The digits experiment's data: idx files of every kind, whole and broken."""

import gzip
import re
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.library.data import DataError, from_idx, read_idx, shifted
from experiments.library.options import Options
from experiments.training import digits


def idx(array: np.ndarray) -> bytes:
    """Give the bytes of an idx file."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path) -> Path:
    """Make a folder with a small MNIST, half of it gzipped."""
    draw = np.random.default_rng(0)
    for part, n, pack in (("train", 64, gzip.compress), ("t10k", 20, bytes)):
        end = ".gz" if pack is gzip.compress else ""
        images, labels = draw.integers(0, 256, (n, 7, 5), np.uint8), draw.integers(0, 10, n).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    return tmp_path


def test_idx_files_are_read_gzipped_or_not(mnist):
    found = from_idx(mnist)
    assert found.shape == (7, 5) and found.x.shape == (64, 35) and found.x_test.shape == (20, 35)
    assert found.x.dtype == np.float32 and found.t.dtype == np.int32 and 0.99 < found.x.max() <= 1
    assert np.array_equal(read_idx(mnist / "t10k-labels-idx1-ubyte", 1), found.t_test)


@pytest.mark.thorough
def test_mnist_of_any_size_runs_through(mnist, tmp_path):
    digits.main(
        Options("mnist", mnist, hidden=(8,), epochs=1, batch=16, shift=0.2, results=tmp_path / "results")
    )
    assert {path.name for path in (tmp_path / "results" / "mnist").iterdir()} >= {
        "figures.json",
        "weights.png",
    }


def test_images_move_by_whole_pixels(mnist):
    x = np.zeros((200, 35), np.float32)
    x[:, 17] = 1  # the middle of 7 x 5
    rows, columns = np.divmod(np.asarray(shifted(x, jax.random.key(0), (7, 5), 0.2)).argmax(1), 5)
    assert set(rows) == {2, 3, 4} and set(columns) == {1, 2, 3}
    assert np.array_equal(shifted(x, jax.random.key(0), (7, 5), 0.1), x)


WHOLE = gzip.compress(idx(np.zeros((2, 3, 3), np.uint8)), mtime=0)  # no clock in it: it names a test


@pytest.mark.parametrize(("content", "said"), [
    (b"", "begins with the bytes 00 00 08 03, got an empty file"),
    (b"PNG of a digit", "begins with the bytes 00 00 08 03, got 50 4e 47 20"),
    (idx(np.zeros(9, np.uint8)), "begins with the bytes 00 00 08 03, got 00 00 08 01"),
    (idx(np.zeros((2, 3, 3), np.uint8))[:-1], "expected 34 bytes for the shape (2, 3, 3) in its head"),
    (idx(np.zeros((2, 3, 3), np.uint8))[:9], "got 9: the file is damaged"),
    (idx(np.zeros((2, 3, 3), np.uint8)) + b"0", "got 35: the file is damaged"),
    (WHOLE[:-9], "expected a whole gzip file, got a broken one"),
    (b"\x1f\x8b of something else", "expected a whole gzip file, got a broken one"),
])  # fmt: skip
def test_idx_files_that_are_not(content, said, tmp_path):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(said)):
        read_idx(tmp_path / "images", axes=3)


def test_folders_that_are_not_mnist(mnist):
    with pytest.raises(DataError, match="nowhere: expected a folder with MNIST's four idx files"):
        from_idx(mnist / "nowhere")
    labels = mnist / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(19, np.uint8)))
    with pytest.raises(DataError, match="t10k has 20 images and 19 labels"):
        from_idx(mnist)
    labels.write_bytes(idx(np.full(20, 10, np.uint8)))
    with pytest.raises(DataError, match="t10k has the label 10: expected labels from 0 to 9"):
        from_idx(mnist)
    labels.unlink()
    with pytest.raises(
        DataError, match="expected t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz, found t10k-im"
    ):
        from_idx(mnist)
