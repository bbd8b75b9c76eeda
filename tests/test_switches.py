"""The table of cases under JAX's switches for debugging and precision: none of them finds anything."""

import jax
import pytest

from tests.cases import example
from tests.every import every_case
from tests.proof import assert_equal, explicit

SWITCHES = {
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "checking_leaks": lambda: jax.checking_leaks(),
}


@pytest.mark.slow
@pytest.mark.parametrize("switch", SWITCHES)
@every_case
def test_eager_gradients_under_a_switch(case, switch):
    data = example(case)
    wanted = explicit(data)
    with SWITCHES[switch]():
        assert_equal(explicit(data), wanted)


@pytest.mark.slow
@every_case
def test_compiled_gradients_move_nothing_from_the_host_and_have_any_precision(case):
    data = example(case)
    compiled = jax.jit(explicit)
    wanted = compiled(data)
    with jax.transfer_guard("disallow"):
        got = jax.block_until_ready(compiled(data))
    assert_equal(got, wanted)
    with jax.default_matmul_precision("highest"):
        assert_equal(jax.jit(lambda data: explicit(data))(data), wanted)
