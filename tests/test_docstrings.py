"""What a public docstring has to say: every argument by its name, and an example where it is exported."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fnn
import vjpcheck

PACKAGE, CHECKER = Path(fnn.__file__).parent, Path(vjpcheck.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py")) + sorted(CHECKER.rglob("*.py"))
# A contract says once what the arguments of its methods are; who keeps it need not say it again.
CONTRACTS = {"core.py": {"Layer", "Leaf", "Composition"}, "losses/objective.py": {"Objective"},
             "reading.py": {"Reading"}, "memory/codecs.py": {"Codec"}, "factors.py": {"Factor"},
             "readers/coupling.py": {"FindsCoupling"}}  # fmt: skip
OURS = ("fnn", "vjpcheck")
SECTION = re.compile(r"^ *(Returns|Raises|Source|Cost)\b.*:|>>>", re.MULTILINE)
EXPORTS = [
    "fnn",
    "vjpcheck",
    "fnn.check",
    "fnn.export",
    "fnn.feedback",
    "fnn.function",
    "fnn.initializers",
] + [
    f"fnn.{part}"
    for part in (
        "activations",
        "attribution",
        "curvature",
        "describe",
        "losses",
        "memory",
        "pipeline",
        "privacy",
        "readers",
        "train",
    )
]


def place_of(path: Path) -> str:
    """Return where a file stands in fnn or, behind its name, in the checker."""
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else CHECKER.parent).as_posix()


def said_of_arguments(docstring: str | None) -> str:
    """Return what stands behind "Args" up to the next section."""
    _, _, behind = (docstring or "").partition("Args")
    return SECTION.split(behind)[0]


def arguments(definition: ast.FunctionDef, method: bool) -> list[str]:
    given, static = definition.args, "staticmethod" in map(ast.unparse, definition.decorator_list)
    names = [arg.arg for arg in (*given.posonlyargs, *given.args)][method and not static :]
    more = [given.vararg, *given.kwonlyargs, given.kwarg]
    return names + [arg.arg for arg in more if arg is not None]


def constructor(definition: ast.ClassDef) -> list[str]:
    """Return the arguments that a class is made of: those of its `__init__`, or its fields."""
    made = "dataclass" in " ".join(map(ast.unparse, definition.decorator_list))
    made |= "NamedTuple" in map(ast.unparse, definition.bases)
    names = []
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return arguments(node, True)
        if made and isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            names.append(ast.unparse(node.target))
    return names


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def contract_methods() -> set[str]:
    found = set()
    for name, classes in CONTRACTS.items():
        for node in public(ast.parse((PACKAGE / name).read_text()).body):
            if isinstance(node, ast.ClassDef) and node.name in classes:
                found |= {method.name for method in public(node.body)}
    return found


def unsaid(path: Path) -> Iterator[str]:
    """List the arguments of public functions, classes and methods of a file that no docstring names."""
    place, source = place_of(path), path.read_text()
    module, told = ast.parse(source), contract_methods()
    shared = "".join(
        said_of_arguments(ast.get_docstring(node))
        for node in public(module.body)
        if node.name in CONTRACTS.get(place, ())
    )
    for node in public(module.body):
        if (
            place == "core.py"
        ):  # its length has a limit: there a sentence may name them, and a comment a field
            shared += "".join(re.findall(r"`\w+`", ast.get_docstring(node) or ""))
        if isinstance(node, ast.FunctionDef):
            yield from _missing(node.name, node, arguments(node, False), shared * (place == "core.py"))
            continue
        if place != "core.py":
            yield from _missing(node.name, node, constructor(node), "", least=1)
        is_contract = node.name in CONTRACTS.get(place, ())
        for method in public(node.body):
            if isinstance(method, ast.FunctionDef) and (is_contract or method.name not in told):
                name, names = f"{node.name}.{method.name}", arguments(method, True)
                yield from _missing(name, method, names, shared * is_contract)


def _missing(
    name: str, node: ast.FunctionDef | ast.ClassDef, names: list[str], shared: str, least: int = 2
) -> Iterator[str]:
    said = shared + said_of_arguments(ast.get_docstring(node))
    if len(names) >= least:
        yield from (f"{name}: {arg}" for arg in names if not re.search(rf"\b{arg}\b", said))


def exported(module: ModuleType) -> Iterator[tuple[str, object]]:
    folder = (module.__file__ or "").endswith("__init__.py")  # what a file imports it does not export
    for name, value in vars(module).items():
        home = getattr(value, "__module__", "")
        if not name.startswith("_") and (home.split(".")[0] in OURS if folder else home == module.__name__):
            yield name, value


@pytest.mark.parametrize("path", FILES, ids=place_of)
def test_every_argument_of_a_public_name_is_documented(path):
    assert not list(unsaid(path))


@pytest.mark.parametrize("path", FILES, ids=place_of)
def test_no_docstring_begins_with_give(path):
    """A docstring says what a function does or returns."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert not (ast.get_docstring(node) or "").startswith("Give"), node.name


@pytest.mark.parametrize("name", EXPORTS)
def test_every_exported_name_has_an_example(name):
    """Its own, or, for the contract, that of the package."""
    missing = []
    for key, value in exported(importlib.import_module(name)):
        own = value.__doc__ if not inspect.isclass(value) else vars(value).get("__doc__")
        if ">>>" not in (own or "") and not (name == "fnn" and f"fnn.{key}" in (fnn.__doc__ or "")):
            missing.append(key)
    assert not missing


def test_signatures_show_no_addresses():
    """A default value that is a function has a repr."""
    for info in [
        *pkgutil.walk_packages(fnn.__path__, "fnn."),
        *pkgutil.walk_packages(vjpcheck.__path__, "vjpcheck."),
    ]:
        for key, value in vars(importlib.import_module(info.name)).items():
            ours = getattr(value, "__module__", "").split(".")[0] in OURS and callable(value)
            bare = inspect.isclass(value) and value.__init__ is Exception.__init__  # it has no signature
            if ours and not key.startswith("_") and not bare:
                assert " at 0x" not in str(inspect.signature(value)), f"{info.name}.{key}"
