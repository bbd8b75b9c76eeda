"""The experiments run under JAX's own defaults, as they do for a person."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _defaults():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
