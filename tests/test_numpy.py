"""NumPy's arrays, in NumPy's default dtypes, at every door: what comes out is what JAX's arrays give."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.arrays import canonical

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
X, INDEX = RANDOM.standard_normal((5, 4)), RANDOM.integers(0, 7, 5)
LABEL, SOFT, WEIGHTS = RANDOM.integers(0, 3, 5), RANDOM.uniform(size=(5, 3)), RANDOM.uniform(size=5)
DY = RANDOM.standard_normal((5, 3))
CROSS, HEAD, SQUARED = fnn.softmax_cross_entropy(), fnn.LinearCrossEntropy(3), fnn.squared_error()
BLOCK = fnn.Serial(fnn.Dense(4), fnn.tanh)
END = fnn.Dense(3)
NETS = {
    "dense": fnn.Serial(END),
    "activations": fnn.Serial(fnn.gelu, fnn.activation(jnp.sin), fnn.relu, fnn.softmax, END),
    "skip": fnn.Serial(fnn.Skip(fnn.Dense(4)), END),
    "repeat": fnn.Serial(fnn.Repeat(BLOCK, 3), END),
    "shared": fnn.Serial(fnn.Repeat(BLOCK, 4, shared=True, every=2), END),
    "norms": fnn.Serial(fnn.LayerNorm(), fnn.RMSNorm(), fnn.Scale(), fnn.Bias(), fnn.gated(3)),
    "reversible": fnn.Serial(fnn.Reversible(fnn.Dense(2), fnn.Dense(2)), END),
    "parallel": fnn.Serial(fnn.Parallel(fnn.Dense(2), fnn.relu, join="concatenate"), END),
    "remat": fnn.Serial(fnn.Remat(BLOCK), fnn.Dropout(0.3), END),
    "stored": fnn.Serial(fnn.memory.stored(BLOCK, fnn.memory.Bits(8)), END),
    "embedding": fnn.Serial(fnn.Parallel(fnn.Embedding(7, 4), fnn.Embedding(7, 4)), END),
}


def of_numpy(tree):
    """Give the params as NumPy's arrays in its own floating dtype, as a file may hold them."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def backward(net, params, x, *trees, read=fnn.gradient):
    _, residuals = fnn.forward(net, params, x, KEY)
    return fnn.backward(net, params, residuals, DY, *trees, read=read)


def update(net, loss, params, x, clip=None):
    init, step = fnn.train.update_in_backward(net, loss, optax.adam(1e-3), clip=clip)
    return step(params, init(params, x), x, LABEL, KEY, WEIGHTS)


def curved(net, params, x, bias):
    loss = CROSS
    found = fnn.curvature.kronecker_factors(net, loss, bias=bias)(params, x, LABEL)
    blocks = fnn.curvature.eigen(found.factors)
    blocks = fnn.curvature.ekfac(net, loss)(params, x, LABEL, blocks)
    return found, fnn.curvature.kronecker_solve(blocks, params, np.float64(0.1))


def kfac(net, params, x):
    optimizer = fnn.curvature.kfac(net, x, 0.1, bias="joint")
    found = fnn.curvature.kronecker_factors(net, CROSS, bias="joint")(params, x, LABEL)
    return optimizer.update(found.gradient, optimizer.init(params), params, factors=found.factors)


readings = fnn.readers.losses_and_readings
DOORS = {
    "init": lambda net, p, x: fnn.init(net, KEY, x),
    "forward": lambda net, p, x: fnn.forward(net, p, x, KEY),
    "apply": lambda net, p, x: fnn.apply(net, p, x, KEY),
    "backward": backward,
    "value_and_grad": lambda net, p, x: fnn.value_and_grad(net, CROSS)(p, x, LABEL, KEY, WEIGHTS),
    "soft targets": lambda net, p, x: fnn.value_and_grad(net, SQUARED)(p, x, SOFT, KEY, WEIGHTS),
}
DOORS_OF_ONE_NET = {
    "norms": lambda net, p, x: readings(net, CROSS, fnn.readers.squared_norm)(p, x, LABEL, weights=WEIGHTS),
    "a tree": lambda net, p, x: readings(net, CROSS, fnn.readers.inner_product)(p, x, LABEL, trees=(p,)),
    "update": lambda net, p, x: update(net, CROSS, p, x),
    "kernel": lambda net, p, x: fnn.readers.tangent_kernel(net)(p, x, x[:2]),
    "clipped": lambda net, p, x: fnn.privacy.clipped_gradient(net, CROSS, np.float64(0.1), per="layer")(
        p, x, LABEL, KEY, np.ones(5)
    ),
    "influence": lambda net, p, x: fnn.attribution.influence(net, CROSS, lambda v: v)(
        p, x, LABEL, x[:2], LABEL[:2]
    ),
    "head": lambda net, p, x: fnn.value_and_grad(net, HEAD)(
        (p, {"kernel": np.ones((3, 3)), "bias": np.ones(3)}), x, LABEL, KEY, WEIGHTS
    ),
    "head's norms": lambda net, p, x: readings(net, HEAD, fnn.readers.squared_norm)(
        (p, {"kernel": np.ones((3, 3)), "bias": np.ones(3)}), x, LABEL, weights=WEIGHTS
    ),
    "grad of apply": lambda net, p, x: jax.grad(lambda x: fnn.apply(net, p, x).sum())(canonical(x)),
    "update, clipped": lambda net, p, x: update(net, CROSS, p, x, np.float64(1.0)),
    "microbatches": lambda net, p, x: fnn.privacy.clipped_gradient(net, CROSS, 0.1, microbatch=1)(
        p, x, LABEL
    ),
    "joined blocks": lambda net, p, x: curved(net, p, x, "joint"),
    "kfac": kfac,
    "tracin": lambda net, p, x: fnn.attribution.tracin(net, CROSS)(
        [(p, np.float64(0.1))], x, LABEL, x[:2], LABEL[:2]
    ),
    "grand": lambda net, p, x: fnn.attribution.grand(net, CROSS)(p, x, LABEL),
    "el2n": lambda net, p, x: fnn.attribution.el2n(net, CROSS)(p, x, LABEL),
    "ggn_diagonal": lambda net, p, x: fnn.curvature.ggn_diagonal(net, CROSS)(p, x, LABEL),
    "hessian": lambda net, p, x: fnn.curvature.hessian_product(net, CROSS)(p, x, LABEL, p),
    "ggn": lambda net, p, x: fnn.curvature.ggn_product(net, CROSS)(p, x, LABEL, p),
    "fisher": lambda net, p, x: fnn.curvature.fisher_product(net, CROSS)(p, x, LABEL, p),
    "cg": lambda net, p, x: fnn.curvature.conjugate_gradients(lambda v: v, np.float64(0.1), steps=2)(p),
    "feedback": lambda net, p, x: fnn.feedback.feedback_alignment(net, CROSS)(p, p, x, LABEL),
}
SHOWN = {
    "explain": lambda net, p, x: fnn.explain(net, x),
    "summary": lambda net, p, x: fnn.summary(net, x),
    "report": lambda net, p, x: fnn.memory.report(net, p, x, optax.adam(1e-3)),
    "fit": lambda net, p, x: fnn.memory.fit(net, x, 10**6),
}


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), tree)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_every_door_takes_numpys_arrays(name, x64):
    """By shapes alone: an array closed over is as much NumPy's under a trace as in eager code."""
    net, x = NETS[name], INDEX if name == "embedding" else X
    doors = DOORS | (DOORS_OF_ONE_NET if name == "skip" else {})
    with jax.enable_x64(x64):
        ours = jax.eval_shape(lambda: fnn.init(net, KEY, jnp.asarray(x)))
        theirs = jax.tree.map(lambda leaf: RANDOM.standard_normal(leaf.shape), ours)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf), theirs)
        for door, run in doors.items():
            try:
                assert kinds(jax.eval_shape(lambda run=run: run(net, theirs, x))) == kinds(
                    jax.eval_shape(lambda run=run: run(net, params, jnp.asarray(x)))
                ), door
            except fnn.InputError as error:
                raise AssertionError(f"{door}: {error}") from error
        for door, run in SHOWN.items():
            assert str(run(net, theirs, x)) == str(run(net, params, jnp.asarray(x))), door


def test_in_eager_code():
    net = fnn.Serial(fnn.Skip(fnn.Dense(4)), fnn.Dense(3))
    with jax.enable_x64(False):
        params, run = fnn.init(net, KEY, X), DOORS["value_and_grad"]
        got, wanted = run(net, of_numpy(params), X), run(net, params, jnp.asarray(X))
        assert kinds(got) == kinds(wanted)
        jax.tree.map(np.testing.assert_allclose, got, wanted)


def test_the_bytes_of_a_file_may_be_in_the_other_order():
    other = X.astype(X.dtype.newbyteorder())
    np.testing.assert_array_equal(canonical(other), X)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.uint32])
def test_an_integer_that_would_wrap_around_is_refused(dtype):
    label = np.array([0, 2**32 - 1 if dtype == np.uint32 else 2**32 + 1], dtype)
    with jax.enable_x64(False):
        if dtype == np.uint32:
            assert canonical(label).dtype == jnp.uint32
            return
        with pytest.raises(
            fnn.InputError, match=r"expected integers that u?int32 holds, got 0 \.\. 4294967297"
        ):
            fnn.softmax_cross_entropy()(np.zeros((2, 3)), label)


@pytest.mark.parametrize(
    ("x", "got"),
    [
        ([[1.0, 2.0]], "an array (or shape )?as x"),
        (np.ones((2, 4), bool), "floating-point x, got bool"),
        (np.ones((2, 4), int), "floating-point x, got int64"),
        (np.ones((2, 4), complex), "floating-point x, got complex128"),
        (np.array([["a", "b"]]), "an array of numbers as x"),
        (np.array([[1.0, None]], object), "an array of numbers as x, got object"),
        (np.float64(1), r"x of shape \(\.\.\., k\)"),
        (1.0, "an array (or shape )?as x"),
        (None, "an array (or shape )?as x"),
    ],
)
def test_what_is_no_array_of_floating_numbers_gets_a_sentence(x, got):
    net, params = fnn.Dense(3), {"kernel": np.ones((4, 3)), "bias": np.ones(3)}
    for run in (
        lambda: fnn.init(net, KEY, x),
        lambda: fnn.forward(net, params, x),
        lambda: fnn.value_and_grad(net, SQUARED)(params, x, SOFT),
    ):
        with pytest.raises(fnn.InputError, match=got):
            run()


def test_sizes_of_numpy_are_shown_as_numbers():
    assert repr(fnn.Embedding(np.int64(2), np.int32(3))) == "Embedding(2, 3)"  # pyright: ignore[reportArgumentType]
    assert repr(fnn.Dropout(np.float64(0.5))) == "Dropout(0.5)"
    assert fnn.Dense(np.int64(2)) == fnn.Dense(2)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("x", [np.zeros(2, bool), np.zeros(2), [0, 1], np.array(["a", "b"])])
def test_an_embedding_takes_integers_alone(x):
    with pytest.raises(fnn.InputError, match="expected (integer x|an array (of numbers )?as x)"):
        fnn.forward(fnn.Embedding(3, 2), {"embedding": np.ones((3, 2))}, x)
