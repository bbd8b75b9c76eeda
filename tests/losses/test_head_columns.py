"""The head's gradients in chunks of the vocabulary: against autodiff of the plain way, and what they cost."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.losses import columns
from tests.losses.heads import HEADS, LABEL, PARAMS, WEIGHTS, K, N, V, X, params_of, plain, run
from tests.losses.test_head_program import compiled, largest
from tests.proof import assert_equal

SIZES = [
    1,
    5,
    V,
    1024,
]  # of a chunk: one, some so that the last two overlap, all, too many


def over_columns(name, **options):
    return dataclasses.replace(HEADS[name], walk="vocabulary", **{"chunk": 4} | options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["plain", "no-bias", "all", "tied"])
def test_values_and_gradients_are_those_of_the_plain_way(name, size):
    for reduction, weights in (("mean", None), ("sum", WEIGHTS), ("none", WEIGHTS)):
        head = over_columns(name, reduction=reduction, chunk=size)
        params = params_of(head)

        def wanted(params, x, head=head, weights=weights):
            return plain(head, params, x, LABEL, weights).sum()

        got, values, right = run(
            lambda head=head, params=params, weights=weights, wanted=wanted: (
                head.value_and_grad(params, X, LABEL, weights),
                plain(head, params, X, LABEL, weights),
                jax.grad(wanted, (0, 1))(params, X),
            )
        )
        assert_equal(got, (values, right))


def test_rows_that_do_not_count_may_hold_anything_and_a_label_out_of_range_is_nan():
    x = X.at[2].set(jnp.nan).at[4].set(jnp.inf)
    head, rows = over_columns("all"), np.delete(np.arange(N), [2, 4, 7])
    bad = jnp.where(LABEL == -100, 0, LABEL).at[3].set(V)
    (value, (grads, dx)), fewer, (nan, (nans, dxs)) = run(
        lambda: (
            head.value_and_grad(PARAMS, x, LABEL, WEIGHTS),
            head.value_and_grad(PARAMS, X[rows], LABEL[rows], WEIGHTS[rows]),
            head.value_and_grad(PARAMS, X, bad),
        )
    )
    assert_equal((value, grads), (fewer[0], fewer[1][0]))
    np.testing.assert_array_equal(dx[jnp.array([2, 4, 7])], 0)
    assert np.isnan(nan) and np.isnan(nans["kernel"]).all() and np.isnan(dxs[3]).all()
    assert not np.isnan(np.delete(dxs, 3, 0)).any()


def test_a_sure_row_keeps_its_digits():
    params = {"kernel": jnp.array([[20.0, 0.0]], jnp.float32)}
    head = fnn.LinearCrossEntropy(2, bias=False, walk="vocabulary")
    x = jnp.array([[1.0], [1e4]], jnp.float32)
    gradient = jax.jit(head.value_and_grad)
    (value, (_, dx)), (far, _) = (gradient(params, x[i : i + 1], jnp.array([i])) for i in (0, 1))
    np.testing.assert_allclose(value, np.log1p(np.exp(-20.0)), rtol=1e-6)
    np.testing.assert_allclose(dx, -20 / (1 + np.exp(20.0)), rtol=1e-6)
    assert far == 2e5


def test_smoothing_far_from_zero_keeps_its_digits():
    """The logits are 1e6 and a little: their mean, less the largest, is that of the little."""
    head = fnn.LinearCrossEntropy(V, label_smoothing=0.5, walk="vocabulary", chunk=4)
    params = {"kernel": jnp.zeros((1, V), jnp.float32), "bias": 1e6 + jnp.arange(V, dtype=jnp.float32)}
    value, _ = run(lambda: head.value_and_grad(params, jnp.ones((1, 1), jnp.float32), jnp.array([3])))
    z = np.arange(V, dtype=np.float64)
    wanted = np.log(np.exp(z).sum()) - 0.5 * z[3] - 0.5 * z.mean()
    np.testing.assert_allclose(value, wanted, rtol=1e-6)


def test_what_is_narrow_is_walked_over_by_columns_unless_that_is_decided_otherwise():
    v = 2 * columns.COLUMNS
    head = fnn.LinearCrossEntropy(v)
    dtypes = {"rows": [(jnp.float32,) * 2], "vocabulary": [(jnp.bfloat16,) * 2, (jnp.float32, jnp.bfloat16)]}
    for walk, pairs in dtypes.items():
        for of_params, of_rows in pairs:
            params, x = {"kernel": jnp.ones((2, v), of_params)}, jnp.ones((3, 2), of_rows)
            assert head.walks(params, x) == walk
            for other in ("rows", "vocabulary"):
                assert dataclasses.replace(head, walk=other).walks(params, x) == other
    few = fnn.LinearCrossEntropy(columns.COLUMNS)
    assert few.walks({"kernel": jnp.ones((2, columns.COLUMNS), jnp.bfloat16)}, jnp.ones((3, 2))) == "rows"
    computed = fnn.LinearCrossEntropy(v, dtype=jnp.bfloat16)
    assert computed.walks({"kernel": jnp.ones((2, v))}, jnp.ones((3, 2))) == "vocabulary"
    with pytest.raises(fnn.InputError, match='try `fnn.LinearCrossEntropy\\(V, walk="vocabulary"\\)`'):
        fnn.LinearCrossEntropy(v, walk="columns")  # pyright: ignore[reportArgumentType]


def test_four_products_and_neither_all_logits_nor_a_second_gradient_of_the_weight():
    n, k, v = 96, 8, 4096
    for tied in ((), ("embedding",)):
        head = fnn.LinearCrossEntropy(v, tied=tied, bias=False, walk="vocabulary")
        params = {head.weight: jnp.ones((v, k) if tied else (k, v), jnp.bfloat16)}
        data = params, jnp.ones((n, k), jnp.bfloat16), jnp.zeros(n, jnp.int32)
        text = compiled(head.value_and_grad, *data)
        assert text.count(" dot(") + text.count("matmul") == 4
        assert largest(text) < n * v


@pytest.mark.parametrize("tied", [(), ("embedding",)], ids=["", "tied"])
def test_products_have_operands_of_the_compute_dtype_and_results_of_float32(tied):
    head = fnn.LinearCrossEntropy(6, tied=tied, dtype=jnp.bfloat16, walk="vocabulary")
    shape = (6, 4) if tied else (4, 6)
    params = {head.weight: jnp.ones(shape, jnp.float32), "bias": jnp.zeros(6, jnp.float32)}
    data = params, jnp.ones((5, 4), jnp.float32), jnp.zeros(5, jnp.int32)
    program = jax.jit(lambda *data: head.value_and_grad(*data)).lower(*data).as_text()
    kinds = [re.findall(r"x([a-z]+\d+)>", line) for line in program.splitlines() if "dot_general" in line]
    assert kinds == [["bf16", "bf16", "f32"]] * 4


def test_gradients_of_narrow_params_are_rounded_once():
    n, k, v = 512, 8, 64
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in ((n, k), (k, v)))
    head, label = fnn.LinearCrossEntropy(v, walk="vocabulary", chunk=24), jnp.arange(n) % v
    params = {"kernel": w, "bias": jnp.zeros(v, jnp.bfloat16)}
    wide, rows = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, x))
    ours, exact = run(lambda: (head.value_and_grad(params, x, label), head.value_and_grad(wide, rows, label)))
    assert {leaf.dtype for leaf in jax.tree.leaves(ours[1])} == {jnp.dtype(jnp.bfloat16)}
    # dz is rounded to 2^-9 of its size, and n such errors walk; so is each gradient, once
    size = np.sqrt(n) / n
    for name in ("kernel", "bias"):
        got, wanted = (np.float64(one[1][0][name]) for one in (ours, exact))
        largest_x = np.abs(np.float64(x)).max() if name == "kernel" else 1.0
        assert np.abs(got - wanted).max() < 2.0**-9 * (size * largest_x + np.abs(wanted).max())


def test_a_bias_in_float32_is_summed_up_in_float32():
    """Of equal labels it is nearly -1, where bfloat16 errs by 2^-9, and n errors of dz walk to less."""
    n = 512
    x = jnp.asarray(np.random.default_rng(0).standard_normal((n, K)), jnp.float32)
    head = fnn.LinearCrossEntropy(V, walk="vocabulary", dtype=jnp.bfloat16)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), PARAMS) | {"bias": jnp.zeros(V, jnp.float32)}
    label = jnp.zeros(n, jnp.int32)
    (_, (grads, _)), (_, (wanted, _)) = run(
        lambda: [h.value_and_grad(params, x, label) for h in (head, dataclasses.replace(head, walk="rows"))]
    )
    assert grads["bias"].dtype == jnp.float32
    np.testing.assert_allclose(grads["bias"], wanted["bias"], atol=2.0**-9 * np.sqrt(n) / n / 4)


def test_logits_far_below_zero_keep_their_digits():
    head = fnn.LinearCrossEntropy(V, walk="vocabulary", chunk=4)
    params = {"kernel": jnp.zeros((1, V)), "bias": jnp.arange(V, dtype=jnp.float64) - 1e4}
    value, (grads, _) = run(lambda: head.value_and_grad(params, jnp.ones((1, 1)), jnp.array([3])))
    p = np.exp(np.arange(V) - np.log(np.exp(np.arange(V)).sum()))
    np.testing.assert_allclose(value, -np.log(p[3]), rtol=1e-10)
    np.testing.assert_allclose(grads["bias"], p - np.eye(V)[3], rtol=1e-10)


def test_it_is_called_and_under_vmap_too():
    head, rows = over_columns("all"), HEADS["all"]
    params, x = (jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), tree) for tree in (PARAMS, X))

    def gradients(head):
        return jax.vmap(jax.value_and_grad(lambda p, x: 3 * head(p, x, LABEL, WEIGHTS), (0, 1)))(params, x)

    assert_equal(*run(lambda: (gradients(head), gradients(rows))))
