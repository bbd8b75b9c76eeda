"""What all tests run under.

Programs are compiled with little effort, as each runs once: that is LLVM's part alone, and changes nothing of
what XLA fuses, keeps and counts. Set XLA_FLAGS to have it otherwise, as `make test-slow` does. Snippets in
docstrings and in the documentation run under JAX's defaults, as their readers' will.
"""

import os
from collections.abc import Iterator

import jax
import pytest

_LITTLE_EFFORT = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ.setdefault("XLA_FLAGS", _LITTLE_EFFORT)  # read when JAX first looks for devices


@pytest.fixture(autouse=True)
def _defaults_of_jax(request: pytest.FixtureRequest) -> Iterator[None]:
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
