"""Files that are replaced as a whole: another process sees the old one or the new one, never a part."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fnn.errors import InputError, describe


def check_path(who: str, path: Any, fix: str) -> None:
    """Check that a value is a path.

    Args:
        who: the name of the function that asks, for the error message.
        path: the value.
        fix: a right call, for the error message.

    Raises:
        InputError: where it is not, as where two arguments are in the wrong order.
    """
    if not isinstance(path, (str, os.PathLike)):
        text = describe(path)
        raise InputError(who, "a path", text if len(text) < 80 else f"{text[:80]}...", fix)


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Return the path of a new file, which replaces `path` when the block has ended without an error.

    Where `path` is a symbolic link, the file that it leads to is replaced; the new file gets the mode of the
    old.

    Raises:
        FileNotFoundError: where the folder does not exist.
        OSError: where `path` is something else than a file.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a file that can be replaced", os.fspath(path))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as beside:
        new = Path(beside) / path.name
        yield new
        if path.exists():
            shutil.copymode(path, new)
        os.replace(new, path)
