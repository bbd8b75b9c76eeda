"""Snippets in docstrings and in the README run under JAX's defaults, as their readers' will."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _defaults_of_jax(request: pytest.FixtureRequest) -> Iterator[None]:
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
