"""What an error suggests is run, and works; and no error is without a row."""

import ast
import sys
from pathlib import Path

import pytest

import fnn
from tests.suggestions import (
    of_checkpoints,
    of_export,
    of_files,
    of_functions,
    of_layers,
    of_losses,
    of_pipelines,
    of_readers,
    of_recipes,
    of_training,
)
from tests.suggestions.row import raised, suggested

TABLES = (
    of_checkpoints,
    of_export,
    of_files,
    of_functions,
    of_layers,
    of_losses,
    of_pipelines,
    of_readers,
    of_recipes,
    of_training,
)
ROWS = {name: row for table in TABLES for name, row in table.ROWS.items()}
PACKAGE = Path(fnn.__file__).parent
# Where the errors of a file, or of one function of it, are raised by other tests, which run what they suggest.
ELSEWHERE = {
    "autodiff.py": "tests/test_forward_mode.py",
    "memory/targets.py": "wants compilers that are not installed here",
    "train/update.py:_axes_to_reduce": "tests/meshes",
}


@pytest.mark.parametrize("name", ROWS)
def test_what_an_error_suggests_works(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    row = ROWS[name]
    row.use(suggested(raised(row), row.names))


def test_no_two_rows_have_one_name():
    assert len(ROWS) == sum(len(table.ROWS) for table in TABLES)


def sites() -> set[tuple[str, int]]:
    """Every place in fnn that makes an InputError: file and first line of the call."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError"):
                continue
            around = {f.name for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)}
            known = {place, place.split("/")[0]} | {f"{place}:{name}" for name in around}
            if not known & set(ELSEWHERE):
                found.add((place, node.lineno))
    return found


def test_every_error_has_a_row(monkeypatch, tmp_path):
    """The place that makes the error of each row is noted: together they are all there are."""
    met, make = set(), fnn.InputError.__init__

    def noted(self, *args):
        frame = sys._getframe(1)
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            met.add((path.relative_to(PACKAGE).as_posix(), frame.f_lineno))
        make(self, *args)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fnn.InputError, "__init__", noted)
    for row in ROWS.values():
        raised(row)
    assert not sites() - met, f"without a row in tests/suggestions: {sorted(sites() - met)}"
