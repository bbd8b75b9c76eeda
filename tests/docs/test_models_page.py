"""The programs with Flax and Equinox on the page about models run, where these libraries are."""

import re
from pathlib import Path

import jax
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "models.md"
BLOCKS = re.findall(r"^```python\n((?!>>>).*?)^```$", PAGE.read_text(), re.M | re.S)
LIBRARIES = "flax", "equinox"
STARTS = [i for i, block in enumerate(BLOCKS) if re.search(f"^import ({'|'.join(LIBRARIES)})", block, re.M)]
PROGRAMS = ["\n".join(BLOCKS[i:j]) for i, j in zip(STARTS, [*STARTS[1:], None], strict=True)]


def test_there_is_one_for_each_library():
    assert [re.findall("import (flax|equinox)", program) for program in PROGRAMS] == [[f] for f in LIBRARIES]
    assert STARTS[0] == 0


@pytest.mark.parametrize("library, program", list(zip(LIBRARIES, PROGRAMS, strict=True)), ids=LIBRARIES)
@pytest.mark.filterwarnings("default")  # theirs are not ours to mend
def test_the_program_runs(library, program):
    pytest.importorskip(library)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(program, {})
