"""Where in the user's code an operation was written."""

import linecache
import os
import sysconfig
from functools import cache
from typing import Any

import jax

from vjpcheck.jaxprs import frames

_JAX = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_PYTHON = os.path.abspath(sysconfig.get_path("stdlib")) + os.sep
_INSTALLED = ("site-packages", "dist-packages")  # below Python's own folder where there is no environment


def source(equation: Any) -> str:
    """Return `file.py:12 (the line)` of the innermost frame that is neither JAX's nor ours, or an empty
    string.
    """
    for path, line in frames(equation):
        if is_written(path):
            text = linecache.getline(path, line).strip()
            return f"{os.path.basename(path)}:{line}" + (f"  {text}" if text else "")
    return ""


@cache
def is_written(path: str) -> bool:
    """Whether a file is neither JAX's, nor ours, nor Python's own; what it is decides, not its name."""
    if path.startswith("<"):
        return False
    path = os.path.abspath(path)
    own = path.startswith(_PYTHON) and not path[len(_PYTHON) :].startswith(_INSTALLED)
    return not own and not path.startswith((_JAX, _OURS))


@cache
def within_jax(path: str) -> str:
    """Return the path of a file inside of JAX's own folder, or an empty string for any other file."""
    path = os.path.abspath(path)
    return os.sep + path[len(_JAX) :] if path.startswith(_JAX) else ""
