"""The design, asserted: imports go one way, files stay short, autodiff is met in one place."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fnn"
FILES = sorted(PACKAGE.rglob("*.py"))
CHECKER = sorted((ROOT / "packages" / "vjpcheck").rglob("*.py"))
# A module imports from the ranks before its own and from its own part.
RANKS = [
    ["errors"],
    ["arrays", "eager", "keys"],
    ["sharding"],
    ["autodiff", "columns", "factors"],
    ["contract", "summed"],
    ["chunks"],
    ["readings"],
    ["reader"],
    ["reading"],
    ["core"],
    ["flops", "initializers"],
    ["activations"],
    ["layers"],
    ["losses"],
    ["compose"],
    ["describe", "readers"],
    ["function"],
    ["memory"],
    ["curvature", "privacy", "feedback", "export", "pipeline"],
    ["attribution", "train"],
]
RANK = {part: rank for rank, parts in enumerate(RANKS) for part in parts}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


PROBES = {"getattr", "hasattr"}
ASKED = {"layer", "net", "loss", "read", "reader"}


def imports(path: Path) -> set[str]:
    found, types = set(), set()  # what is imported for types alone is met by no import at run time
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            types.update(node.body)
        elif node in types:
            continue
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "fnn"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way_and_files_stay_short(path):
    place = path.relative_to(PACKAGE)
    part = place.parts[0].removesuffix(".py")
    assert len(path.read_text().splitlines()) <= 250
    if part == "__init__":
        return
    for name in imports(path):
        other = part_of(name)
        if part == "check":
            assert other == "check", f"{place} imports {name}: the walk takes layers of any library"
        else:
            assert other == part or RANK[other] < RANK[part], f"{place} imports {name}"


@pytest.mark.parametrize("path", CHECKER, ids=lambda p: p.name)
def test_the_checker_imports_nothing_of_fnn_and_its_files_stay_short(path):
    asked = {"fnn.check.layers"} if path.name == "pytest_vjpcheck.py" else set()  # when a test asks for it
    assert imports(path) == asked and len(path.read_text().splitlines()) <= 250


def test_core_can_be_read_in_a_sitting():
    assert len((PACKAGE / "core.py").read_text().splitlines()) < 200


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_found_out_by_probing(path):
    """What a layer, a loss or a reader can do, it declares."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROBES:
            asked = node.args[0]
            name = asked.attr if isinstance(asked, ast.Attribute) else getattr(asked, "id", "")
            assert path.is_relative_to(PACKAGE / "check") or name not in ASKED, f"{path}:{node.lineno}"


def test_types_of_compositions_are_asked_for_where_they_are_taken_apart():
    """Everything else folds over `parts`; ONNX has a table of writers, a pipeline cuts one `Repeat`."""
    kinds = {"Serial", "Parallel", "Skip", "Repeat", "Remat", "Reversible", "Loop"}
    found = set()
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] in ("compose", "check"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "isinstance"
            ):
                names = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
            elif isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name):
                names = {node.cls.id}
            else:
                continue
            found |= {(path.name, name) for name in names & kinds}
    asked = [("planner.py", "Serial"), ("planner.py", "Repeat"), ("feedback.py", "Serial")]
    assert found == {*asked, ("cut.py", "Serial"), ("cut.py", "Repeat")}


def test_custom_vjp_appears_in_one_place():
    uses = [
        path.name
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] != "check"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "custom_vjp"
    ]
    assert uses == ["autodiff.py"]


def test_every_public_name_is_documented():
    import fnn

    for name, value in vars(fnn).items():
        if (
            not name.startswith("_")
            and callable(value)
            and getattr(value, "__module__", "").startswith("fnn")
        ):
            assert value.__doc__, name
