"""The reference of the documentation: every public name of a folder, from its `__init__.py`, at build time.

mkdocs calls `on_page_markdown` (see `hooks` in mkdocs.yml): a line `::: fnn.readers *` becomes one for each
name that this module exports. mkdocstrings reads the sources and imports nothing; the class below hands it
docstrings whose doctests are fenced.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import griffe  # pyright: ignore[reportMissingImports]  # of the extra `docs`

ROOT = Path(__file__).parents[2]
FOLDERS = {"fnn": ROOT, "vjpcheck": ROOT / "packages" / "vjpcheck"}
ALL = re.compile(r"^::: ((?:fnn|vjpcheck)[\w.]*) \*(?: but (.*))?$", re.MULTILINE)


def path_of(name: str) -> Path:
    """Give the file of a dotted name without its suffix, or its folder."""
    parts = name.split(".")
    return FOLDERS.get(parts[0], ROOT) / Path(*parts)


def exported(module: str) -> dict[str, str]:
    """Give the public names of a module by its source, `X as X` or a def, and where each is defined."""
    path = path_of(module)
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    found = {}
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {a.asname: f"{node.module}.{a.name}" for a in node.names if a.asname == a.name}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found[node.name] = f"{module}.{node.name}"
        elif isinstance(node, ast.Assign) and documented(node) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = f"{module}.{node.targets[0].id}"
    return found


def documented(node: ast.Assign) -> bool:
    """Tell whether an assignment is of a public value: a name in small letters."""
    target = node.targets[0]
    return isinstance(target, ast.Name) and target.id.islower() and not target.id.startswith("_")


def is_module(target: str) -> bool:
    """Tell whether a dotted name is a module or a folder."""
    path = path_of(target)
    return path.is_dir() or path.with_suffix(".py").exists()


def expanded(markdown: str) -> str:
    """Replace each line `::: module *` by all that the module exports; `but a, b` leaves some out."""

    def names(match: re.Match[str]) -> str:
        module, but = match[1], {name.strip() for name in (match[2] or "").split(",")}
        shown = [n for n, target in exported(module).items() if n not in but and not is_module(target)]
        return "\n\n".join(f"::: {module}.{name}{picture(module, name)}" for name in shown)

    return ALL.sub(names, markdown)


def picture(module: str, name: str) -> str:
    """Give the picture of a name, where there is one."""
    place = f"pictures/{module.split('.')[-1]}/{name}.svg"
    return f"\n\n![{name} and its derivative](../{place})" if (ROOT / "docs" / place).exists() else ""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand a page, as mkdocs reads it."""
    return expanded(markdown)


def fenced(text: str) -> str:
    """Put doctests into fences: lines from `>>>` to the next empty line."""
    out, inside, indent = [], False, ""
    for line in text.splitlines():
        if not inside and line.lstrip().startswith(">>>"):
            indent = line[: len(line) - len(line.lstrip())]
            out += ["", f"{indent}```pycon"]
            inside = True
        elif inside and not line.strip():
            out.append(f"{indent}```")
            inside = False
        out.append(line)
    return "\n".join([*out, f"{indent}```"] if inside else out)


def each(objects: Iterable[Any]) -> Iterable[Any]:
    """Give objects and their members, without those that are imported."""
    for one in objects:
        if not one.is_alias:
            yield one
            yield from each(one.members.values())


def explained(activations: griffe.Module) -> None:
    """Give each activation the docstring of the function that it is made of, which has its name."""
    parts = [part for name, part in activations.modules.items() if name != "table"]
    for name, activation in activations["table"].attributes.items():
        for part in parts:
            own = part.functions[name].docstring if name in part.functions else None
            if own is not None and activation.docstring is None:
                activation.docstring = griffe.Docstring(own.value, parent=activation)
                activation.value = None  # of no use to a reader


class Docstrings(griffe.Extension):
    """Fences the doctests of every docstring, once the activations have theirs."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Go through a package, once it is read."""
        if "activations" in pkg.modules:
            explained(pkg["activations"])
        for one in each([pkg]):
            if one.docstring:
                one.docstring.value = fenced(one.docstring.value)
