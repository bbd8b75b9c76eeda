"""The catalogue: every name that the sources give has an entry, and every entry is given somewhere."""

import ast
from pathlib import Path

import vjpcheck
from tests.check.corpus import WRONG

MAKERS = {"Mistake", "Hypothesis", "Fault"}
OF_CORPUS = {name for case in WRONG for name in case.names}


def named() -> set[str]:
    """Give every name that a mistake is given in the sources of `vjpcheck`."""
    found: set[str] = set()
    for path in sorted(Path(vjpcheck.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=maker), args=[ast.Constant(value=str(name)), *_]):
                    found |= {name} if maker in MAKERS else set()
                case ast.Assign(
                    targets=[ast.Tuple(elts=[ast.Name(id="name"), *_])], value=ast.Tuple(elts=elts)
                ):
                    found |= first(elts)
                case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                    found.add(name)
                case ast.Yield(value=ast.Tuple(elts=elts)) | ast.IfExp(body=ast.Tuple(elts=elts)):
                    found |= first(elts)
                case ast.IfExp(orelse=ast.Tuple(elts=elts)):
                    found |= first(elts)
                case ast.Constant(value=str(name)) if name in OF_CORPUS or name.startswith("wrong "):
                    found.add(name)
    return {name for name in found if name == name.strip() and len(name.split()) < 7}


def first(elts: list[ast.expr]) -> set[str]:
    """Give the first of a tuple's entries, where it is a text with another behind it."""
    match elts:
        case [ast.Constant(value=str(name)), ast.Constant(value=str()) | ast.JoinedStr() | ast.Name(), *_]:
            return {name}
    return set()


def test_every_name_has_its_entry_and_every_entry_its_name():
    assert named() == set(vjpcheck.MISTAKES)
    assert all(text.endswith(".") for text in vjpcheck.MISTAKES.values())
