"""Where in the user's code an operation was written."""

import linecache
import os
import sysconfig
from typing import Any

import jax

_OTHERS = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep for path in (jax.__file__, __file__, sysconfig.__file__)
)


def source(equation: Any) -> str:
    """Give `file.py:12 (the line)` of the innermost frame that is neither JAX's nor ours, or an empty
    string.
    """
    traceback = getattr(equation.source_info, "traceback", None)
    for frame in getattr(traceback, "frames", None) or ():
        path = frame.file_name
        if path.startswith("<") or os.path.abspath(path).startswith(_OTHERS):
            continue
        line = getattr(frame, "start_line", 0) or frame.line_num
        text = linecache.getline(path, line).strip()
        return f"{os.path.basename(path)}:{line}" + (f"  {text}" if text else "")
    return ""
