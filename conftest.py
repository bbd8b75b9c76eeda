"""What all tests run under, and which of them `make test` leaves to `make test-thorough` for their time.

Programs are compiled with little effort, as each runs once: that is LLVM's part alone, and changes nothing of
what XLA fuses, keeps and counts. Set XLA_FLAGS to have it otherwise, as `make test-slow` does. Compiled
programs are kept in build/programs, for tests that share one and for the next run, which takes half the time.
Snippets in docstrings and in the documentation run under JAX's defaults, as their readers' will.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

_LITTLE_EFFORT = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ.setdefault("XLA_FLAGS", _LITTLE_EFFORT)  # read when JAX first looks for devices
_KEPT = {
    "jax_compilation_cache_dir": str(Path(__file__).parent / "build" / "programs"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for _name, _value in _KEPT.items():
    if _name.upper() not in os.environ:
        os.environ[_name.upper()] = str(_value)  # for the processes that tests start
        jax.config.update(_name, _value)
_TAKE_LONG = Path(__file__).parent / "tests" / "take_long.txt"  # written by `python -m tests.by_time`


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option that notes times, and one for what is run as far as time allows."""
    parser.addoption("--times", help="a file to which each test's seconds of CPU are added, a JSON list each")
    parser.addoption("--turned-by", help="a text, say a commit: the tests begin at a place that it decides")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what takes long, and turn the order."""
    long = set(_TAKE_LONG.read_text().splitlines()) if _TAKE_LONG.exists() else set()
    for item in items:
        if item.nodeid in long:
            item.add_marker(pytest.mark.thorough)
    text = config.getoption("turned_by")
    if text and items:
        start = zlib.crc32(text.encode()) % len(items)
        items[:] = items[start:] + items[:start]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note the seconds that this process and those it waited for were busy."""
    path = item.config.getoption("times")
    before = sum(os.times()[:4])
    done = yield
    if path:
        with open(path, "a") as file:
            file.write(json.dumps([item.nodeid, round(sum(os.times()[:4]) - before, 2)]) + "\n")
    return done


@pytest.fixture(autouse=True)
def _defaults_of_jax(request: pytest.FixtureRequest) -> Iterator[None]:
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
