"""What is written into stacks in turn is what a reader makes of them as they were."""

import jax.numpy as jnp
import numpy as np

from fnn.compose import in_place


def test_the_order_of_writing_changes_no_number():
    """Whatever comes before what, each leaf is read as it was before the step."""
    stacks = (jnp.arange(12.0).reshape(3, 4), {"a": jnp.ones((3, 4)), "b": jnp.zeros(3)})

    def read(factor, param, state):
        mixed = param + state["a"] + state["b"]
        return mixed + factor, {"a": mixed * 2, "b": mixed.sum()}

    new = in_place.replaced(read, jnp.float64(1), stacks[0][1], stacks, (jnp.int32(1),))
    np.testing.assert_array_equal(new[0], stacks[0].at[1].add(2.0))
    np.testing.assert_array_equal(new[1]["a"], stacks[1]["a"].at[1].set(2 * (stacks[0][1] + 1)))
    np.testing.assert_array_equal(new[1]["b"], jnp.array([0, 26.0, 0]))
