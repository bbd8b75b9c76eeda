"""Files that are whole: another process sees the old one or the new one, never a part."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Return the path of a new file to write; it takes the place of `path` when all went well, or is gone.

    Raises FileNotFoundError where the folder is not there.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as beside:
        new = Path(beside) / path.name
        yield new
        os.replace(new, path)
