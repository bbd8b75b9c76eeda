"""The checker is tested as people run JAX: float32, with promotion."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _plain_jax():
    """Undo the strictness that fnn's own tests run under; the users of a checker choose for themselves."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
