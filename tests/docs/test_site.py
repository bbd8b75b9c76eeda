"""The documentation's site: it builds without a warning, its links lead somewhere, its pages open.

It is built where mkdocs is installed (`pip install 'fnn[docs]'`), opened where there is a Chromium.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import fnn

ROOT = Path(__file__).parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MODULES = [
    "fnn.activations", "fnn.attribution", "fnn.check", "fnn.curvature", "fnn.describe", "fnn.export",
    "fnn.function", "fnn.losses", "fnn.memory", "fnn.pipeline", "fnn.privacy", "fnn.readers", "fnn.train",
    "vjpcheck", "fnn",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("griffe") is None,
    reason="the extra `docs` is not installed",
)


class Page(HTMLParser):
    """What a page has: its ids, where its links go, and what it loads."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe") and "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon") and "href" in given:
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    assert len(found) > 40
    return found


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]):
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # a server shows it at any depth, with addresses from the root
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                broken.append(f"{path.relative_to(site)}: {link}: no such place")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]):
    for path, page in pages.items():
        foreign = [load for load in page.loads if urlsplit(load).netloc]
        assert not foreign, f"{path.relative_to(site)}: {foreign}"


def test_the_reference_has_every_public_name(pages: dict[Path, Page]):
    from experiments.site.reference import exported, is_module

    ids = set().union(*(page.ids for page in pages.values()))
    of_folders = {target for module in MODULES[:-1] for target in exported(module).values()}
    for module in MODULES:
        for name, target in exported(module).items():
            elsewhere = module == "fnn" and target in of_folders | {"fnn.reader.gradient"}
            known = is_module(target) or elsewhere or {f"{module}.{name}", target} & ids
            assert known, f"{module}.{name} is on no page of the reference"


def test_every_activation_has_its_formula_and_its_picture(site: Path, pages: dict[Path, Page]):
    path = site / "api" / "activations.html"
    text, loads = path.read_text(), pages[path].loads
    found = [n for n, f in vars(fnn.activations).items() if isinstance(f, fnn.activations.Activation)]
    assert len(found) == 20
    for name in found:
        picture = f"../pictures/activations/{name}.svg"
        assert picture in loads
        assert "Range: " in text.split(f'id="fnn.activations.{name}"')[1].split(picture)[0]


def run_browser(address: str) -> tuple[str, list[str]]:
    """Open a page; give what it has become, and the lines of its console."""
    assert BROWSER is not None
    with_profile = Path(os.environ.get("TMPDIR", "/tmp")) / f"chromium-{os.getpid()}"
    shutil.rmtree(with_profile, ignore_errors=True)
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000 "
        "--dump-dom"
    )
    command = [BROWSER, *flags.split(), f"--user-data-dir={with_profile}", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    shutil.rmtree(with_profile, ignore_errors=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_the_search_works_from_a_folder(site: Path):
    shown, console = run_browser((site / "readers.html").as_uri() + "?q=kronecker")
    assert not console
    assert "matching documents" in shown


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_every_page_opens_without_an_error(site: Path, pages: dict[Path, Page]):
    for path in pages:
        if path.name != "404.html":
            shown, console = run_browser(path.as_uri())
            assert not console, f"{path.relative_to(site)}: {console}"
            assert "md-content" in shown, path
