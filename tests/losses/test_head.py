"""The head alone: against autodiff of a dense layer and its loss, in any shape, under transformations."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.losses.walk import Batch
from tests.losses.heads import (
    HEADS,
    LABEL,
    PARAMS,
    RNG,
    WEIGHTS,
    K,
    N,
    V,
    X,
    params_of,
    plain,
    run,
)
from tests.proof import assert_equal

WAYS = [
    (name, reduction, w) for name in HEADS for reduction in ("mean", "sum", "none") for w in (None, WEIGHTS)
]
BRIEF = [("all", "mean", True), ("tied", "none", True), ("plain", "sum", False)]
every_way = pytest.mark.parametrize(
    "name, reduction, weights",
    [
        pytest.param(
            *(name, reduction, w),
            id=f"{name}-{reduction}{'' if w is None else '-weighted'}",
            marks=() if (name, reduction, w is not None) in BRIEF else pytest.mark.slow,
        )
        for name, reduction, w in WAYS
    ],
)


def compare(head, params, x, label, weights=None):
    """Assert that values, gradients and pullbacks are autodiff's of the plain way."""

    def everything(f, value_and_grad):
        def given(value):  # a cotangent of its own for each row
            return jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)

        value, pull = jax.vjp(lambda *data: f(*data[:2], label, *data[2:]), params, x, *more)
        return value, value_and_grad(), pull(given(value)), f(params, x, label, *more)

    def by_autodiff():
        of_sum = jax.grad(lambda params, x: plain(head, params, x, label, weights).sum(), (0, 1))
        return plain(head, params, x, label, weights), of_sum(params, x)

    more = () if weights is None else (weights,)
    ours = partial(head.value_and_grad, params, x, label, weights)
    got, wanted = run(lambda: (everything(head, ours), everything(partial(plain, head), by_autodiff)))
    assert_equal(got, wanted)


@every_way
def test_values_and_gradients_are_those_of_the_plain_way(name, reduction, weights):
    head = dataclasses.replace(HEADS[name], reduction=reduction)
    compare(head, params_of(head), X, LABEL, weights)


def slopes(head, params):
    """Give each leaf's gradient times a direction, the difference quotient along it, and their scale."""
    leaves, structure = jax.tree.flatten((params, X))
    vs = [jnp.asarray(np.random.default_rng(i).standard_normal(leaf.shape)) for i, leaf in enumerate(leaves)]
    grads = jax.tree.leaves(head.value_and_grad(params, X, LABEL, WEIGHTS)[1])
    h = 2.0**-17

    def value(which, step):
        moved = [
            leaf + jnp.where(which == i, step, 0) * v
            for i, (leaf, v) in enumerate(zip(leaves, vs, strict=True))
        ]
        return head(*jax.tree.unflatten(structure, moved), LABEL, WEIGHTS)

    which = jnp.arange(len(leaves))
    quotients = (jax.vmap(value, (0, None))(which, h) - jax.vmap(value, (0, None))(which, -h)) / (2 * h)
    products = jnp.stack([jnp.vdot(g, v) for g, v in zip(grads, vs, strict=True)])
    norms = jnp.stack([jnp.linalg.norm(g) * jnp.linalg.norm(v) for g, v in zip(grads, vs, strict=True)])
    return products, quotients, norms


@pytest.mark.parametrize("name", ["all", pytest.param("tied", marks=pytest.mark.slow)])
def test_gradients_are_the_limits_of_central_differences(name):
    products, quotients, norms = run(lambda: slopes(HEADS[name], params_of(HEADS[name])))
    assert (np.abs(products - quotients) < 1e-8 * norms).all()


BRIEF_SHAPES = [((), 2), ((0,), 2), ((2, 3, 2), 2)]


@pytest.mark.parametrize(
    "shape, chunk",
    [
        pytest.param(shape, chunk, marks=() if (shape, chunk) in BRIEF_SHAPES else pytest.mark.slow)
        for shape in [(), (1,), (0,), (3, 2), (2, 0), (2, 3, 2)]
        for chunk in (None, 2)
    ],
)
def test_any_batch_shape(shape, chunk):
    head = dataclasses.replace(HEADS["all"], chunk=chunk)
    x, label = jnp.asarray(RNG.standard_normal((*shape, K))), jnp.asarray(RNG.integers(0, V, shape))
    if 0 in shape:
        mean, (grads, dx) = run(lambda: head.value_and_grad(PARAMS, x, label))
        assert mean == 0 and dx.shape == x.shape
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))
        return
    wanted = run(lambda: jax.value_and_grad(partial(plain, head), (0, 1))(PARAMS, x, label))
    assert_equal(run(lambda: head.value_and_grad(PARAMS, x, label)), wanted)
    rows = dataclasses.replace(head, reduction="none")
    losses = jax.eval_shape(lambda *data: rows(*data), PARAMS, x, label)  # anew: JAX remembers an old one's
    assert losses.shape == shape


def test_transformations():
    head = HEADS["all"]
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), (PARAMS, X))

    def f(params, x):
        return head(params, x, LABEL, WEIGHTS)

    def scanned(two):
        return jax.lax.scan(lambda total, data: (total + f(*data), None), jnp.zeros(()), two)[0]

    grad = jax.grad(f, (0, 1))
    of_plain = jax.vmap(jax.grad(lambda p, x: plain(head, p, x, LABEL, WEIGHTS), (0, 1)))
    wanted, many, through, again = run(
        lambda: (
            of_plain(*two),
            jax.vmap(grad)(*two),
            jax.grad(scanned)(two),
            jax.grad(jax.checkpoint(scanned))(two),
        )
    )
    for got in (many, through, again):
        assert_equal(got, wanted)
    assert_equal(jax.tree.map(lambda leaf: leaf[0], wanted), grad(PARAMS, X))  # eagerly


def test_forward_mode_through_the_gradient_gives_the_hessian():
    head, v = HEADS["all"], jax.tree.map(jnp.cos, PARAMS)
    ours, plain_one = (
        lambda p: head.value_and_grad(p, X, LABEL)[1][0],
        jax.grad(lambda p: plain(head, p, X, LABEL)),
    )
    got, wanted = run(lambda: [jax.jvp(f, (PARAMS,), (v,))[1] for f in (ours, plain_one)])
    assert_equal(got, wanted, 1e-11)


@pytest.mark.parametrize(
    "shape, chunk, examples",
    [((6, 8), None, 128), ((6, 3, 1000), None, 166), ((6, 3, 8), 7, 2), ((6, 3, 8), 2, 1), ((6, 0, 8), 5, 5)],
)
def test_a_chunk_holds_as_many_examples_as_have_its_rows(shape, chunk, examples):
    head = fnn.LinearCrossEntropy(V, chunk=chunk)
    assert head.examples(Batch(jax.ShapeDtypeStruct(shape, jnp.float32), None, None)) == examples


def test_a_multiple_of_the_value_has_that_multiple_of_the_gradients():
    x = X.astype(jnp.bfloat16)
    by_call, (_, ours) = run(
        lambda: (
            jax.grad(lambda params, x: 4 * HEADS["plain"](params, x, LABEL), (0, 1))(PARAMS, x),
            HEADS["plain"].value_and_grad(PARAMS, x, LABEL),
        )
    )
    assert_equal(by_call, jax.tree.map(lambda leaf: 4 * leaf, ours))


def test_a_sure_row_keeps_its_digits():
    params = {"kernel": jnp.array([[20.0, 0.0]], jnp.float32)}
    head = fnn.LinearCrossEntropy(2, bias=False)
    x = jnp.array([[1.0], [1e4]], jnp.float32)
    gradient = jax.jit(head.value_and_grad)
    (value, (_, dx)), (far, _) = (gradient(params, x[i : i + 1], jnp.array([i])) for i in (0, 1))
    np.testing.assert_allclose(value, np.log1p(np.exp(-20.0)), rtol=1e-6)
    np.testing.assert_allclose(dx, -20 / (1 + np.exp(20.0)), rtol=1e-6)
    assert far == 2e5


def test_low_precision_accumulates_in_float32():
    """Products of bfloat16 numbers are exact in float32, so dW errs by the roundings of dz, not of sums."""
    n, k, v = 512, 16, 32
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in ((n, k), (k, v)))
    label, head = jnp.arange(n) % v, fnn.LinearCrossEntropy(v, bias=False, chunk=8)
    compute, once = dataclasses.replace(head, dtype=jnp.bfloat16), dataclasses.replace(head, chunk=n)
    wide = w.astype(jnp.float32)
    (value, (grads, dx)), low, whole, exact, computed = run(
        lambda: (
            head.value_and_grad({"kernel": wide}, x, label),
            head.value_and_grad({"kernel": w}, x, label),
            once.value_and_grad({"kernel": w}, x, label),
            head.value_and_grad({"kernel": w.astype(jnp.float64)}, x.astype(jnp.float64), label),
            compute.value_and_grad({"kernel": wide}, x.astype(jnp.float32), label),
        )
    )
    assert value.dtype == grads["kernel"].dtype == jnp.float32 and dx.dtype == jnp.bfloat16
    # float32 sums of k + V + n terms; each dz is rounded to 2^-9 of its size, and n such errors walk
    assert abs(float(value) - float(exact[0])) < 2.0**-24 * (k + v + n) * float(exact[0])
    size = np.sqrt(n) * np.abs(np.float64(x)).max() / n
    error = np.abs(np.float64(grads["kernel"]) - exact[1][0]["kernel"]).max()
    assert error < 2.0**-9 * size
    assert low[1][0]["kernel"].dtype == jnp.bfloat16
    assert_equal(low[1][0], whole[1][0], 2.0**-8)  # rounded once at the end, not with every chunk
    assert {leaf.dtype for leaf in jax.tree.leaves(computed)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(computed[1][0]["kernel"], grads["kernel"], atol=1e-6)


def test_bad_input_is_named():
    head = fnn.LinearCrossEntropy(V)
    label = jnp.zeros(N, jnp.int32)
    for options in (
        {"chunk": 0},
        {"reduction": "max"},
        {"label_smoothing": 1.0},
        {"z_loss": -1.0},
        {"tied": "table"},
    ):
        with pytest.raises(fnn.InputError, match="LinearCrossEntropy"):
            fnn.LinearCrossEntropy(V, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(fnn.InputError, match="params {kernel: \\(5, 13\\), b"):
        head({"kernel": PARAMS["kernel"].T, "bias": PARAMS["bias"]}, X, label)
    with pytest.raises(fnn.InputError, match="integer target of shape"):
        head(PARAMS, X, label[None])
    with pytest.raises(fnn.InputError, match="weights of shape"):
        head(PARAMS, X, label, jnp.ones((N, 1)))
    net = fnn.Dense(K)
    with pytest.raises(fnn.InputError, match="a pair"):
        fnn.value_and_grad(net, head)(fnn.init(net, jax.random.key(0), X), X, label)
    tied = fnn.LinearCrossEntropy(V, tied=(0, "embedding"))
    with pytest.raises(fnn.InputError, match="lead to a table"):
        fnn.value_and_grad(net, tied)((fnn.init(net, jax.random.key(0), X), {}), X, label)
    params = fnn.init(net, jax.random.key(0), X[0]), PARAMS
    with pytest.raises(fnn.InputError, match="examples on axis 0"):
        fnn.value_and_grad(net, head, fnn.readers.squared_norm)(params, X[0], label[0])
    with pytest.raises(fnn.InputError, match="a loss"):
        fnn.curvature.kronecker_factors(net, head)  # pyright: ignore[reportArgumentType]
    with pytest.raises(fnn.InputError, match="x of shape"):
        head.init(jax.random.key(0), jnp.zeros((), jnp.float32))
