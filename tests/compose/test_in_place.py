"""What is written into stacks in turn is what a reader makes of them as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.compose import in_place


def test_the_order_of_writing_changes_no_number():
    """Whatever comes before what, each leaf is read as it was before the step."""
    stacks = (jnp.arange(12.0).reshape(3, 4), {"a": jnp.ones((3, 4)), "bias": jnp.zeros(3)})

    def read(factor, param, state):
        mixed = param + state["a"] + state["bias"]
        return mixed + factor, {"a": mixed * 2, "bias": mixed.sum()}

    new = in_place.replaced(read, jnp.float64(1), stacks[0][1], stacks, (jnp.int32(1),))
    np.testing.assert_array_equal(new[0], stacks[0].at[1].add(2.0))
    np.testing.assert_array_equal(new[1]["a"], stacks[1]["a"].at[1].set(2 * (stacks[0][1] + 1)))
    np.testing.assert_array_equal(new[1]["bias"], jnp.array([0, 26.0, 0]))


@pytest.mark.parametrize("place", [(4,), (3, 5)])
def test_a_row_is_written_at_its_place_alone(place):
    """At the last one, where the stacked axes are longer than those of what is stacked."""
    stack, index = jnp.zeros((*(i + 1 for i in place), 2)), tuple(map(jnp.int32, place))

    def read(factor, param, *state):
        return param + factor, *(leaf + 2 * factor for leaf in state)

    for row in ((stack,), (stack, stack)):
        new = in_place.replaced(read, jnp.float64(1), stack[place], row, index)
        for i, leaf in enumerate(new):
            np.testing.assert_array_equal(leaf, stack.at[place].set(i + 1))


def test_a_factor_that_is_stacked_itself_is_read_at_each_place():
    param, factor = jnp.ones((2, 3, 4)), jnp.arange(24.0).reshape(2, 3, 4)
    (new,) = in_place.replaced(lambda factor, param: (param + factor,), factor, param, (param,), axes=2)
    np.testing.assert_array_equal(new, param + factor)


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 0), ("cuda", 1)])
def test_what_is_taken_is_read_once_by_a_barrier_but_where_the_compiler_drops_it(platform, barriers):
    traced = jax.jit(lambda stack, i: in_place.taken(stack, (i,))).trace(jnp.zeros((3, 4)), jnp.int32(1))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("optimization_barrier") == barriers
