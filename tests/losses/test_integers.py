"""Labels and indices whose dtype cannot hold the size they are compared with: nothing wraps around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.arrays import as_index
from fnn.factors import Rows
from fnn.losses.likelihoods import CATEGORICAL
from tests.proof import assert_equal

DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
V = {np.uint8: 256, np.int8: 300, np.uint16: 65536, np.int16: 40000}


def labels(dtype):
    size = V.get(dtype, 300)
    return size, np.array([1, min(int(np.iinfo(dtype).max), size - 1)], dtype)


@pytest.mark.thorough
@every_dtype
@pytest.mark.parametrize("x64", [True, False], ids=["x64", "x32"])
def test_cross_entropy_of_equal_logits_is_the_logarithm_of_their_number(dtype, x64):
    size, label = labels(dtype)
    loss = fnn.softmax_cross_entropy()
    with jax.enable_x64(x64):
        y = jnp.zeros((2, size))
        for f in (loss.value_and_grad, jax.jit(loss.value_and_grad)):
            value, dy = f(y, label)
            np.testing.assert_allclose(value, np.log(size), rtol=1e-6)
            np.testing.assert_allclose(dy[jnp.arange(2), label.astype(np.int32)], (1 / size - 1) / 2, 1e-6)
        np.testing.assert_array_equal(CATEGORICAL.root(y[:, :2], jnp.asarray(label % 2)).shape, (2, 2, 2))


@every_dtype
def test_a_label_has_its_mass_whatever_its_dtype(dtype):
    size, label = labels(dtype)
    y = jnp.zeros((2, size))
    got = CATEGORICAL.sample(jax.random.key(0), y, jnp.asarray(label))
    assert_equal(got, CATEGORICAL.sample(jax.random.key(0), y, jnp.asarray(label, jnp.int32)))
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    "dtype, x64", [(np.uint8, True), (np.uint8, False), (np.int8, True), (np.uint32, False)]
)
def test_a_head_takes_labels_of_any_integers(dtype, x64):
    label = np.array([1, 127], dtype)
    head = fnn.LinearCrossEntropy(300, bias=False, chunk=1, ignore=-100)
    with jax.enable_x64(x64):
        params, x = {"kernel": jnp.zeros((3, 300))}, jnp.ones((2, 3))
        for f in (head.value_and_grad, jax.jit(head.value_and_grad)):
            value, (_, dx) = f(params, x, label)  # pyright: ignore[reportArgumentType]
            np.testing.assert_allclose(value, np.log(300), rtol=1e-6)
            assert np.isfinite(dx).all()
        np.testing.assert_allclose(jax.jit(head)(params, x, label), np.log(300), rtol=1e-6)
        assert head.batch(x, as_index(label), jnp.ones(2), True).label.dtype.itemsize >= 4


def test_readers_of_outputs_and_curvature_take_bytes_for_labels():
    net, loss = fnn.Dense(300), fnn.softmax_cross_entropy()
    x = jnp.ones((2, 3))
    params, label = fnn.init(net, jax.random.key(0), x), np.array([1, 255], np.uint8)

    def told(label):
        return (
            fnn.attribution.el2n(net, loss)(params, x, label),
            fnn.curvature.kronecker_factors(net, loss, "sampled")(params, x, label, jax.random.key(1)),
            fnn.readers.losses_and_readings(net, loss, fnn.readers.squared_norm)(params, x, label),
        )

    assert_equal(told(label), told(label.astype(np.int32)))


TABLE = jnp.zeros((256, 3))
READERS = {
    "gradient": fnn.readers.gradient,
    "squared_norm": fnn.readers.squared_norm,
    "example_gradient": fnn.readers.example_gradient,
    "inner_product": lambda f, p: fnn.readers.inner_product(f, p, jnp.cos(jnp.arange(768.0)).reshape(256, 3)),
    "weighted_gradient": lambda f, p: fnn.readers.weighted_gradient(f, p, jnp.array([0.5, 2.0])),
    "second_moment": fnn.readers.second_moment,
    "variance": fnn.readers.variance,
    "gram": fnn.readers.gram,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("dtype, low", [(jnp.uint8, 1), (jnp.int8, -1)], ids=["uint8", "int8"])
def test_every_reader_of_a_table_takes_bytes_for_indices(name, dtype, low):
    index = jnp.array([[low, 127], [127, 0]], jnp.int32)
    index = index.at[1, 1].set(255) if dtype == jnp.uint8 else index
    dz = jnp.asarray(np.random.default_rng(0).standard_normal((2, 2, 3)))
    got = READERS[name](Rows(index.astype(dtype), dz), TABLE)
    assert_equal(got, READERS[name](Rows(index, dz), TABLE))
    if name == "squared_norm":
        each = READERS["example_gradient"](Rows(index, dz), TABLE)
        assert_equal(got, jnp.square(each).sum((1, 2)))


def test_clipped_gradients_of_an_embedding_by_bytes_stay_within_their_bound():
    net = fnn.Serial(fnn.Embedding(256, 3), fnn.Dense(2))
    x = np.array([[255], [3], [255]], np.uint8)
    params, label = fnn.init(net, jax.random.key(0), x), np.array([[0], [1], [1]], np.uint8)
    for i in range(3):
        one = fnn.privacy.clipped_gradient(net, fnn.softmax_cross_entropy(), 0.1)(
            params, x[i : i + 1], label[i : i + 1]
        )
        norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(one.gradient)))
        assert norm <= 0.1 * (1 + 1e-6)
        np.testing.assert_allclose(norm, 0.1, rtol=1e-5)


@pytest.mark.parametrize("x64", [True, False], ids=["x64", "x32"])
def test_an_embedding_by_bytes_has_rows_of_nan_where_an_index_is_negative(x64):
    net, x = fnn.Embedding(300, 2), np.array([3, 127, -1], np.int8)
    with jax.enable_x64(x64):
        params = {"embedding": jnp.arange(600, dtype=jnp.float32).reshape(300, 2)}
        y, _ = fnn.forward(net, params, x[:2])
        np.testing.assert_array_equal(y, [[6, 7], [254, 255]])
        y, residuals = jax.jit(lambda x: fnn.forward(net, params, x))(x)
        np.testing.assert_array_equal(y, [[6, 7], [254, 255], [np.nan, np.nan]])
        grads, _ = fnn.backward(net, params, residuals, jnp.ones_like(y))
        assert float(grads["embedding"].sum()) == 4
        with pytest.raises(fnn.InputError, match=r"indices in 0 .. 299, got -1 .. 127"):
            fnn.forward(net, params, x)


@every_dtype
def test_an_index_keeps_its_value_and_what_is_too_large_stays_so(dtype):
    info = np.iinfo(dtype)
    for x64 in (True, False):
        with jax.enable_x64(x64):
            given = jnp.asarray(np.array([info.min, 0, min(info.max, 2**31 - 1)], dtype))
            got = as_index(given)
            assert got.dtype in (jnp.int32, jnp.int64)
            np.testing.assert_array_equal(got, np.asarray(given, np.int64))
    assert as_index(jnp.array([2**32 - 1], jnp.uint32))[0] >= 2**31 - 1


@pytest.mark.parametrize("beyond", [2**32 + 1, -(2**33) + 1, 2**31])
def test_an_index_of_64_bits_that_is_out_of_range_names_no_row(beyond):
    """JAX narrows the indices of a lookup: 2^32 + 1 was row 1."""
    net, table = fnn.Embedding(4, 2), jnp.arange(8.0).reshape(4, 2)
    params, index = {"embedding": table}, np.array([1, beyond, 3])

    @jax.jit
    def run(index):
        y, residuals = fnn.forward(net, params, index)
        return y, fnn.backward(net, params, residuals, jnp.ones_like(y))[0]["embedding"]

    y, grad = run(index)
    np.testing.assert_array_equal(y, jnp.stack([table[1], jnp.full(2, jnp.nan), table[3]]))
    np.testing.assert_array_equal(grad, np.repeat([[0.0], [1.0], [0.0], [1.0]], 2, 1))
    factor = Rows(jnp.asarray(index)[None], jnp.ones((1, 3, 2)))
    np.testing.assert_array_equal(fnn.readers.example_gradient(factor, table)[0], grad)
    np.testing.assert_array_equal(fnn.readers.squared_norm(factor, table), [4.0])
    np.testing.assert_array_equal(fnn.readers.inner_product(factor, table, table), [18.0])
    loss = fnn.softmax_cross_entropy(reduction="none")
    value, dy = jax.jit(loss.value_and_grad)(jnp.zeros((3, 4)), index)
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])
    np.testing.assert_array_equal(np.isnan(dy).all(1), [False, True, False])
    with pytest.raises(fnn.InputError, match=r"indices in 0 \.\. 3"):
        fnn.forward(net, params, index)
