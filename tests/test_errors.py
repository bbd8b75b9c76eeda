"""Bad input gets an error that says where, what was expected, what came, and the call that would be right."""

# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import Dense, Dropout, Embedding, LayerNorm, Parallel, Repeat, Serial, Skip

KEY = jax.random.key(0)
X = jnp.ones((4, 5), jnp.float32)
DEEP = Serial(Dense(8), Skip(Serial(LayerNorm(), Dense(8))), Dense(3))


def raises(*parts: str):
    """Expect an InputError whose text has all of `parts`."""
    return pytest.raises(fnn.InputError, match="(?s)" + "".join(f"(?=.*{part})" for part in parts))


def test_wrong_feature_count_names_layer_shapes_and_fix():
    params = fnn.init(DEEP, KEY, X)
    with raises(
        r"net\.layers\[0\]: Dense\(8\)",
        r"\(\.\.\., 5\)",
        r"float32\[4,6\]",
        r"try `params = fnn\.init\(net, key, x\)",
    ):
        fnn.forward(DEEP, params, jnp.ones((4, 6), jnp.float32))
    with raises(r"net\.layers\[0\]"):
        jax.jit(lambda x: fnn.apply(DEEP, params, x))(jnp.ones((4, 6), jnp.float32))
    with raises("inputs=7", r"\(\.\.\., 7\)"):
        fnn.init(fnn.mlp([7, 3]), KEY, X)
    with raises(r"x of shape \(\.\.\., k\)"):
        fnn.init(Dense(3), KEY, jnp.float32(1))


def test_params_of_another_network():
    params = fnn.init(DEEP, KEY, X)
    with raises("Serial", "3 layers", "params = fnn.init"):
        fnn.forward(DEEP, params[:2], X)
    wrong = (
        params[0],
        params[1],
        {"kernel": jnp.ones((8, 4), jnp.float32), "bias": jnp.ones(4, jnp.float32)},
    )
    with raises(r"net\.layers\[2\]: Dense\(3\)", r"kernel: \(8, 3\)", r"float32\[8,4\]"):
        fnn.forward(DEEP, wrong, X)
    with raises(r"net\.layers\[1\]\.layer\.layers\[1\]", r"bias: \(8,\)"):
        fnn.forward(
            DEEP, (params[0], ({**params[1][0]}, {"kernel": jnp.ones((8, 8), jnp.float32)}), params[2]), X
        )
    with raises("stacked 3 times"):
        fnn.forward(Repeat(Dense(5), 3), fnn.init(Repeat(Dense(5), 2), KEY, X), X)
    with raises(r"Parallel", "2 layers"):
        fnn.forward(Parallel(Dense(5), Dense(5)), fnn.init(Dense(5), KEY, X), X)


def test_dtypes():
    params = fnn.init(Dense(3), KEY, X)
    with raises(r"Dense\(3\)", "floating-point x", r"int32\[4,5\]", r"x\.astype\(jnp\.float32\)"):
        fnn.forward(Dense(3), params, jnp.ones((4, 5), jnp.int32))
    for layer in (LayerNorm(), fnn.RMSNorm(), fnn.relu, fnn.softmax, fnn.Scale(), Dropout(0.1), fnn.Gate()):
        with raises("floating-point x"):
            fnn.init(layer, KEY, jnp.ones((4, 6), jnp.int32))
    with raises(r"Embedding\(7, 3\)", "integer x", r"x\.astype\(jnp\.int32\)"):
        fnn.init(Embedding(7, 3), KEY, X)
    with raises("an array as x", r"jnp\.asarray\(x\)"):
        fnn.forward(Dense(3), params, [1.0] * 5)


def test_cotangents():
    params = fnn.init(DEEP, KEY, X)
    y, residuals = fnn.forward(DEEP, params, X)
    with raises(r"net\.layers\[2\]: Dense\(3\)", r"dy like y, float32\[4,3\]", r"float32\[4\]"):
        fnn.backward(DEEP, params, residuals, y[:, 0])
    with raises("dy like y", "float64"):
        fnn.backward(DEEP, params, residuals, y.astype(jnp.float64))


def test_an_index_out_of_range():
    net = Embedding(7, 3)
    params = fnn.init(net, KEY, jnp.zeros(2, jnp.int32))
    for index in ([0, 7], [-1, 2]):
        with raises(r"Embedding\(7, 3\)", r"indices in 0 \.\. 6"):
            fnn.forward(net, params, jnp.array(index, jnp.int32))
    index = jnp.array([0, 7, -1], jnp.int32)
    y, residuals = jax.jit(lambda x: fnn.forward(net, params, x))(index)
    assert np.isfinite(y[0]).all() and np.isnan(y[1:]).all()
    grads, _ = fnn.backward(net, params, residuals, jnp.ones_like(y))
    np.testing.assert_array_equal(grads["embedding"], np.eye(7, 3)[:, :1] * 1.0 @ np.ones((1, 3)))


def test_dropout_without_a_key_passes_its_input():
    y, residuals = fnn.forward(Dropout(0.5), (), X)
    np.testing.assert_array_equal(y, X)
    assert not jax.tree.leaves(residuals)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: Dense(-1), ("Dense", "features", ">= 1", "-1")),
        (lambda: Dense(2.5), ("Dense", "2.5")),
        (lambda: Embedding(0, 3), ("vocabulary", ">= 1")),
        (lambda: Repeat(Dense(3), 0), ("Repeat", "n to be an integer")),
        (lambda: Repeat(3, 3), ("Repeat", "layers, which derive")),
        (lambda: Skip([Dense(3)]), ("Skip", "layers, which derive")),
        (lambda: Dropout(1.0), ("0 <= rate < 1",)),
        (lambda: LayerNorm(eps=0), ("eps > 0",)),
        (lambda: fnn.mlp([5]), ("two or more sizes",)),
        (lambda: fnn.mlp([5, 0, 3]), ("each size", "0")),
        (lambda: fnn.mlp([5, 4, 4, 3], [fnn.relu]), ("each of 2 hidden layers",)),
        (lambda: Serial([Dense(3)]), (r"fnn\.Serial\(\*layers\)",)),
        (lambda: Serial(jnp.tanh), (r"fnn\.activation\(f\)",)),
        (lambda: Parallel(), ("one or more layers",)),
        (lambda: Parallel(Dense(3), join="mean"), ("join", "'mean'")),
        (lambda: fnn.huber(delta=0), ("delta > 0",)),
        (lambda: fnn.softmax_cross_entropy(1.5), ("0 <= label_smoothing < 1",)),
        (lambda: fnn.squared_error("average"), ("reduction", "'average'", r'reduction="mean"')),
        (lambda: fnn.value_and_grad(Dense(3), fnn.squared_error), (r"try `fnn\.losses\.squared_error\(\)`",)),
        (lambda: fnn.init(Dense(3), 0, X), (r"jax\.random\.key\(0\)",)),
        (lambda: fnn.init(Dense(3), KEY, [1.0]), (r"jnp\.asarray\(x\)",)),
        (lambda: fnn.init(Skip(Dense(3)), KEY, X), ("output like its input", r"float32\[4,3\]", "Parallel")),
        (lambda: fnn.init(Repeat(Dense(3), 2), KEY, X), ("output like its input", r"try `fnn\.Dense\(5\)`")),
        (lambda: fnn.init(Parallel(Dense(3), Dense(4)), KEY, X), ("outputs alike", r"float32\[4,4\]")),
        (lambda: fnn.init(fnn.Gate(), KEY, X), (r"\(\.\.\., 2j\)", r"fnn\.gated\(j\)")),
        (lambda: fnn.init(Serial(Dense(3), Skip(Dense(2))), KEY, X), (r"net\.layers\[1\]: Skip",)),
    ],
)  # fmt: skip
def test_a_wrong_call(make, parts):
    with raises(*parts):
        make()


Y = jnp.ones((4, 3), jnp.float32)


@pytest.mark.parametrize(
    ("loss", "y", "target", "weights", "parts"),
    [
        (fnn.softmax_cross_entropy(), Y, jnp.array([0, 1, 2, 3]), None, (r"labels in 0 \.\. 2", r"0 \.\. 3")),
        (fnn.softmax_cross_entropy(), Y, jnp.array([0, 1, -1, 1]), None, (r"-1 \.\. 1",)),
        (fnn.softmax_cross_entropy(), Y, jnp.zeros((4, 1), jnp.int32), None, (r"\(4,\)", r"target\.reshape")),
        (fnn.softmax_cross_entropy(), Y, jnp.zeros(4), None, (r"integer target", r"target\.astype\(jnp\.int32\)")),
        (fnn.squared_error(), Y, jnp.ones(4), None, (r"y's shape \(4, 3\)", r"target\[\.\.\., None\]")),
        (fnn.squared_error(), Y, jnp.ones((4, 2)), None, (r"y's shape \(4, 3\)", r"float(32|64)\[4,2\]")),
        (fnn.squared_error(), jnp.ones((4, 3), jnp.int32), Y, None, ("floating-point y",)),
        (fnn.squared_error(), jnp.float32(1), jnp.float32(1), None, (r"y of shape \(\.\.\., k\)",)),
        (fnn.squared_error(), Y, Y, jnp.ones((4, 3)), (r"weights of shape \(4,\)", "one for each row")),
        (fnn.squared_error(), Y, [1.0], None, ("an array as target",)),
    ],
)  # fmt: skip
def test_a_loss_on_what_does_not_fit(loss, y, target, weights, parts):
    with raises(repr(loss).split("(")[0], *parts):
        loss(y, target, weights)


def test_a_label_out_of_range_under_jit_is_nan_not_garbage():
    loss = fnn.softmax_cross_entropy(reduction="none")
    value, dy = jax.jit(loss.value_and_grad)(Y, jnp.array([0, 3, -1, 2]))
    np.testing.assert_array_equal(np.isnan(value), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(dy).all(1), [False, True, True, False])


def test_an_empty_batch_works():
    x, labels = X[:0], jnp.zeros(0, jnp.int32)
    params = fnn.init(DEEP, KEY, X)
    value, grads = fnn.value_and_grad(DEEP, fnn.softmax_cross_entropy())(params, x, labels)
    assert value == 0
    for grad in jax.tree.leaves(grads):
        np.testing.assert_array_equal(grad, 0)
