"""What a release says of itself: one version everywhere, and every public name in `__all__`."""

import re
import tomllib
from pathlib import Path

import pytest

import fnn
import vjpcheck

ROOT = Path(__file__).parent.parent
CHECKER = ROOT / "packages" / "vjpcheck"


def test_all_names_what_is_exported_and_nothing_else():
    exported = re.findall(r"^from .* as (\w+)$", (ROOT / "fnn" / "__init__.py").read_text(), re.M)
    assert len(set(fnn.__all__)) == len(fnn.__all__)
    assert set(fnn.__all__) == set(exported)
    assert all(vars(fnn)[name] is not None for name in fnn.__all__)


def test_the_version_is_one():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    latest = re.search(r"^## \[(\d.*?)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = re.search(r'^date-released: "(.+)"$', (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited and latest and released
    assert cited[1] == latest[1] == fnn.__version__
    assert released[1] == latest[2]


def test_the_checker_is_of_the_same_version_and_under_the_same_licence():
    told = (ROOT / "pyproject.toml").read_text()
    assert vjpcheck.__version__ == fnn.__version__
    assert f'\ncheck = ["vjpcheck=={fnn.__version__}"]' in told
    assert (CHECKER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_checker_needs_jax_and_numpy_as_fnn_does_and_fnn_has_no_plugin():
    ours, its = (tomllib.loads((path / "pyproject.toml").read_text()) for path in (ROOT, CHECKER))
    needed = its["project"]["dependencies"]
    assert [re.split("[>=]", need)[0] for need in needed] == ["jax", "numpy"]
    assert {*needed} <= {*ours["project"]["dependencies"]}
    assert its["project"]["requires-python"] == ours["project"]["requires-python"]
    assert "entry-points" not in ours["project"] and "pytest11" in its["project"]["entry-points"]


def test_the_changelog_has_a_place_for_what_comes():
    assert (ROOT / "CHANGELOG.md").read_text().count("\n## [Unreleased]\n") == 1


def test_no_picture_of_the_readme_has_a_relative_address():
    text = (ROOT / "README.md").read_text()
    assert not re.findall(r"!\[[^]]*\]\((?!https://)", text), (
        "an index shows the README without the repository"
    )
    assert len(text.splitlines()) <= 130


@pytest.mark.parametrize(
    "name", ["mkdocs.yml", "Makefile", "CONTRIBUTING.md", "docs", "experiments", "conftest.py", "packages"]
)
def test_what_the_tests_read_is_in_the_sdist(name):
    told = (ROOT / "pyproject.toml").read_text()
    included = told.split("[tool.hatch.build.targets.sdist]")[1].split("]")[0]
    assert f'"/{name}"' in included
