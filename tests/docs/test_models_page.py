"""The programs with Flax and Equinox on the page about models run, where these libraries are."""

import re
from pathlib import Path

import jax
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "models.md"
PROGRAMS = re.findall(r"^```python\n((?!>>>).*?)^```$", PAGE.read_text(), re.M | re.S)


def test_there_is_one_for_each_library():
    assert [re.findall("import (flax|equinox)", program) for program in PROGRAMS] == [["flax"], ["equinox"]]


@pytest.mark.parametrize("library, program", list(zip(("flax", "equinox"), PROGRAMS, strict=True)))
@pytest.mark.filterwarnings("default")  # theirs are not ours to mend
def test_the_program_runs(library, program):
    pytest.importorskip(library)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(program, {})
