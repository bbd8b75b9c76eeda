"""What every test runs under: float64, two devices (or as many as a test asks for), no silent promotion.

Their small arrays wait for cotangents, as large ones do for those who use fnn: so the waiting is proven.
"""

import os

import jax
import pytest

from fnn.compose import ordering

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", int(os.environ.get("FNN_TEST_DEVICES", "2")))
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _clear_caches():
    """Let go of a module's executables: XLA keeps them all."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "SMALL", -1)
