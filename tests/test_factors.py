"""What a factor is summed in, and where: what equality in float64 on the table of cases does not see."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.chunks import over_chunks
from fnn.factors import Chunked, Outer, Rows, Scaled, Total, join
from tests.cases import Case, Example, example
from tests.proof import assert_equal, explicit, reference
from vjpcheck.jaxprs import every

N = 4096
X, DZ = (jax.random.normal(jax.random.key(i), (N, 6), jnp.bfloat16) for i in range(2))
WIDE_X, WIDE_DZ = np.asarray(X, np.float64), np.asarray(DZ, np.float64)


def outer_of(shared, rows):
    return Outer(*rows)


FACTORS = {
    "outer": (Outer(X, DZ), WIDE_X.T @ WIDE_DZ),
    "chunked": (Chunked(outer_of, None, (X, DZ), 1000, 2), WIDE_X.T @ WIDE_DZ),
    "total": (Total(DZ), WIDE_DZ.sum(0)),
    "scaled": (Scaled(X, DZ), (WIDE_X * WIDE_DZ).sum(0)),
    "rows": (Rows(jnp.zeros(N, jnp.int32), DZ), np.stack([WIDE_DZ.sum(0), np.zeros(6)])),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_gradient_of_bfloat16_factors_has_float32s_accuracy(name):
    factor, right = FACTORS[name]
    got = fnn.readers.gradient(factor, jnp.zeros(right.shape, jnp.float32))
    # a sum of n float32 numbers rounds at 2^-24 in each of sqrt(n) steps of its random walk
    assert got.dtype == jnp.float32
    assert np.max(np.abs(np.float64(got) - right)) <= 2.0**-24 * N**0.5 * np.max(np.abs(right))


def test_a_row_that_no_index_of_the_table_names_is_dropped():
    dz = jnp.ones((4, 2))
    got = fnn.readers.gradient(Rows(jnp.asarray([-1, 0, 5, 2]), dz), jnp.zeros((5, 2)))
    np.testing.assert_array_equal(got[:, 0], [1, 0, 1, 0, 0])


@pytest.mark.parametrize("tokens", [(), (4, 2)], ids=str)
def test_uses_of_a_param_are_joined_behind_its_examples(tokens):
    """So that every example has the gradient of all uses; a stacked param has it in each of its rows."""
    draw = partial(jax.random.normal, jax.random.key(0))
    uses, param = Outer(draw((3, 5, *tokens, 2)), draw((3, 5, *tokens, 6))), jnp.zeros((2, 6))
    joined = join(uses, param)
    assert joined.dz.shape == (5, 3, *tokens, 6)
    each = jax.vmap(fnn.readers.example_gradient, (0, None))(uses, param)
    assert_equal(fnn.readers.example_gradient(joined, param), each.sum(0))
    stacked = join(jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf], 1), uses), jnp.stack([param, param]))
    assert_equal(stacked, jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), joined))


def test_uses_without_a_batch_are_joined_and_gradients_added_up():
    for uses in (Rows(jnp.asarray([1, 0, 1]), jnp.ones((3, 2))), Outer(jnp.ones((3, 2)), jnp.ones((3, 2)))):
        assert_equal(join(uses, jnp.zeros((2, 2))), uses)
    np.testing.assert_array_equal(join(jnp.arange(6.0).reshape(3, 2), jnp.zeros(2)), [6, 9])


@pytest.mark.parametrize(("size", "largest"), [(1, 1), (3, 3), (4, 3), (9, 5)])
def test_chunks_are_equally_large_and_of_no_more_rows_than_asked_for(size, largest):
    seen = set()

    def chunk(shared, rows, widen):
        seen.add(rows.size)
        return rows.sum(), 2 * rows

    total, each = over_chunks(chunk, None, jnp.arange(5.0), size)
    assert seen == {largest} and total == 10
    np.testing.assert_array_equal(each, 2 * jnp.arange(5.0))


def test_products_have_operands_of_the_compute_dtype_and_results_of_float32():
    net = fnn.Dense(3, dtype=jnp.bfloat16)
    drawn = example(Case("low", net, (7, 5)), jnp.float32)
    low = Example(net, drawn.params, drawn.x, drawn.dy.astype(jnp.bfloat16), None)
    jax.clear_caches()  # of what a dense layer was traced to before
    program = jax.make_jaxpr(lambda low: explicit(low))(low)  # a new function: JAX remembers an old one's
    products = [q for q in every(program.jaxpr) if q.primitive.name == "dot_general"]
    assert len(products) == 3
    for q in products:
        assert {str(v.aval.dtype) for v in q.invars} == {"bfloat16"}  # pyright: ignore[reportAttributeAccessIssue]
        assert [str(v.aval.dtype) for v in q.outvars] == ["float32"]  # pyright: ignore[reportAttributeAccessIssue]


TOKENS = {
    "concatenated": fnn.Parallel(fnn.relu, fnn.activations.softplus, fnn.Dense(2), join="concatenate"),
    "gate": fnn.Gate(),
    "softmax": fnn.softmax,
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_cut_along_their_last_axis(name):
    drawn = example(Case(name, TOKENS[name], (2, 4, 6)))
    assert_equal(explicit(drawn), jax.jit(reference)(drawn))
