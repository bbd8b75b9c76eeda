"""The catalogue: every entry is given somewhere in the sources, and no name is given but by its entry."""

import ast
from pathlib import Path

import vjpcheck
from vjpcheck.catalogue import Kind

SOURCES = [path for path in Path(vjpcheck.__file__).parent.rglob("*.py") if path.name != "catalogue.py"]
OPERATIONS = {"sign"}  # a name of a mistake, and of an operation


def given() -> set[str]:
    """Give the entries that the sources name."""
    nodes = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text())))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Kind"
    }


def test_every_entry_is_given_somewhere():
    assert given() == set(Kind.__members__)


def test_no_name_is_written_out_again():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in {*Kind} - OPERATIONS, (path, node.lineno)


def test_a_mistake_says_what_its_name_means():
    assert vjpcheck.MISTAKES == {str(kind): kind.meaning for kind in Kind}
    assert all(kind.meaning.endswith(".") for kind in Kind)
