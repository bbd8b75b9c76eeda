"""The pytest plugin of vjpcheck: the fixture `gradcheck`, whose failure is the report and nothing else.

It stands beside the package because importing anything of it imports JAX, and pytest loads plugins in
every project of the environment; what is heavy is imported when a test first asks for the fixture.
"""

from __future__ import annotations  # names that an old pytest does not have are read by people alone

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LEVELS = ("quick", "standard", "deep")
INCONCLUSIVE = ("warn", "fail", "pass")
MARKED = ("level", "transforms", "order", "surrogate", "reference", "wrt", "seconds", "inconclusive")
_PROPERTY = "vjpcheck"


class GradCheck:
    """What the fixture gives: `gradcheck(f, *args)` and `gradcheck.pair(forward, backward, *args)`.

    Both take what `vjpcheck.gradient` and `vjpcheck.pair` take, with the defaults of the marker and the
    command line. They raise GradientError on FAIL, and else give the report; they warn where that is
    INCONCLUSIVE.
    """

    def __init__(self, defaults: dict[str, Any], keep: Callable[[Any], None], inconclusive: str = "warn"):
        self._defaults, self._keep, self._inconclusive = defaults, keep, inconclusive

    def __call__(self, f: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Check a `custom_vjp` function, or any function that calls one."""
        from vjpcheck import gradient

        return self._judged(gradient(f, *args, **(self._defaults | options)))

    def pair(
        self, forward: Callable[..., Any], backward: Callable[..., Any], *args: Any, **options: Any
    ) -> Any:
        """Check a forward and a backward function."""
        from vjpcheck import pair

        return self._judged(pair(forward, backward, *args, **(self._defaults | options)))

    def layers(self, net: Any, params: Any, x: Any, **options: Any) -> Any:
        """Check every layer of a network of fnn, by `fnn.check.layers`."""
        from fnn.check import layers

        given = {k: v for k, v in self._defaults.items() if k in ("level", "key")}
        return self._judged(layers(net, params, x, **(given | options)))

    def _judged(self, report: Any) -> Any:
        self._keep(report)
        __tracebackhide__ = True
        report.raise_if_failed(inconclusive=self._inconclusive == "fail")
        if self._inconclusive == "warn" and report.verdict == "INCONCLUSIVE":
            warnings.warn(pytest.PytestWarning(str(report)), stacklevel=3)
        return report


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> GradCheck:
    """Check hand-written gradients: `gradcheck(f, x)`; see `vjpcheck.gradient`."""
    config = request.config
    defaults: dict[str, Any] = {
        "level": config.getoption("gradcheck_level"),
        "key": config.getoption("gradcheck_seed"),
    }
    inconclusive: Any = config.getoption("gradcheck_inconclusive")
    marker = request.node.get_closest_marker("gradcheck")
    if marker is not None:
        unknown = set(marker.kwargs) - set(MARKED)
        if marker.args or unknown:
            raise pytest.UsageError(
                f"expected @pytest.mark.gradcheck with some of {'=..., '.join(MARKED)}=..., got "
                f"{', '.join(map(repr, marker.args)) or ', '.join(sorted(unknown))}"
            )
        defaults |= marker.kwargs
        inconclusive = defaults.pop("inconclusive", inconclusive)
    return GradCheck(
        defaults,
        lambda report: request.node.user_properties.append((_PROPERTY, report.to_json())),
        inconclusive,
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for level, seed and JSON report."""
    group = parser.getgroup("gradcheck", "gradient checks (vjpcheck)")
    group.addoption(
        "--gradcheck-level", choices=LEVELS, default="standard", help="how far gradient checks go"
    )
    group.addoption("--gradcheck-seed", type=int, default=0, help="seed of the cotangents")
    group.addoption(
        "--gradcheck-inconclusive",
        choices=INCONCLUSIVE,
        default="warn",
        help="what a gradient that cannot be judged does to its test",
    )
    group.addoption(
        "--gradcheck-json", type=Path, default=None, help="write all gradient reports to this file"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and collect reports where they are asked for."""
    line = f"gradcheck({', '.join(MARKED)}): how the fixture gradcheck checks in this test"
    config.addinivalue_line("markers", line)
    path = config.getoption("gradcheck_json")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Writer(path), "gradcheck-json")


@pytest.hookimpl(hookwrapper=True)  # the form that every pytest knows
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Let a failed gradient check show its report in the place of a traceback."""
    outcome = yield
    reports = sys.modules.get("vjpcheck.report")  # not loaded: no exception is of it
    if reports is not None and call.excinfo is not None:
        if isinstance(call.excinfo.value, reports.GradientError):
            outcome.get_result().longrepr = str(call.excinfo.value)


class _Writer:
    """Writes the reports of all tests, those of other processes too, when the session ends."""

    def __init__(self, path: Path):
        self._path = path
        self._reports: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            found = [value for name, value in report.user_properties if name == _PROPERTY]
            self._reports += [{"test": report.nodeid, **value} for value in found if isinstance(value, dict)]

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._reports, indent=1) + "\n")
