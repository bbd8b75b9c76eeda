"""Kronecker factors of params that are used as matrices of another layout, against those of the matrices."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fnn
from fnn.curvature import (
    eigen,
    ekfac,
    ggn_product,
    kfac,
    kronecker_factors,
    kronecker_solve,
)
from fnn.function import Function
from tests.function.functions import draw
from tests.function.test_uses import close

LOSS = fnn.softmax_cross_entropy()
X, TOKENS, IMAGES, LABELS = (
    draw(0, 6, 5),
    draw(1, 6, 3, 5),
    draw(2, 6, 4, 3, 2),
    jnp.array([0, 1, 2, 0, 1, 2]),
)
WINDOW = (2, 2)


def images(w, x):
    y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.tanh(y).sum((1, 2))


def patches(w, x):
    """The same as a product, of w (2 2 2, 3)."""
    cut = [x[:, a : a + 3, b : b + 2, :] for a in range(2) for b in range(2)]
    return jnp.tanh(jnp.concatenate(cut, -1) @ w).sum((1, 2))


# the function of the param in its layout, its shape, the function of the matrix, and the param as that matrix
PAIRS = {
    "transposed": (
        lambda w, x: jnp.einsum("jk,nk->nj", w, x),
        (3, 5),
        lambda w, x: x @ w,
        lambda w: w.T,
        X,
    ),
    "heads": (
        lambda w, x: jnp.tanh(jnp.einsum("ntk,khd->nthd", x, w)).sum((1, 3)),
        (5, 3, 2),
        lambda w, x: jnp.tanh(x @ w).reshape(*x.shape[:2], 3, 2).sum((1, 3)),
        lambda w: w.reshape(5, 6),
        TOKENS,
    ),
    "out of heads": (
        lambda w, x: jnp.einsum("nhd,hdj->nj", x, w),
        (3, 5, 4),
        lambda w, x: x.reshape(x.shape[0], 15) @ w,
        lambda w: w.reshape(15, 4),
        TOKENS,
    ),
    "axes of the inputs turned": (
        lambda w, x: jnp.einsum("nhd,dhj->nj", x, w),
        (5, 3, 4),
        lambda w, x: x.swapaxes(1, 2).reshape(x.shape[0], 15) @ w,
        lambda w: w.reshape(15, 4),
        TOKENS,
    ),
    "a linear part of several tables": (
        lambda w, x: jnp.einsum("nhd,hd->n", x, w)[:, None] * jnp.arange(1.0, 4.0)[None],
        (3, 5),
        lambda w, x: (x.reshape(x.shape[0], 15) @ w) * jnp.arange(1.0, 4.0)[None],
        lambda w: w.reshape(15, 1),
        TOKENS,
    ),
    "images": (images, (*WINDOW, 2, 3), patches, lambda w: w.reshape(8, 3), IMAGES),
    "images, kernel first": (
        lambda w, x: images(w.transpose(2, 3, 1, 0), x),
        (3, 2, *WINDOW),
        patches,
        lambda w: w.transpose(2, 3, 1, 0).reshape(8, 3),
        IMAGES,
    ),
}


def factors_of(f, w, x, fisher="exact", **options):
    def run(w):
        return kronecker_factors(Function(f), LOSS, fisher, **options)(w, x, LABELS)

    return jax.jit(run)(w)


def dense(block):
    """The block as a matrix, for the param row by row."""
    return jnp.kron(block.inputs, block.outputs)


@pytest.mark.parametrize("options", [{}, {"tokens": "reduce"}, {"bias": "joint"}, {"fisher": "empirical"}])
@pytest.mark.parametrize("name", PAIRS)
def test_a_param_used_as_a_matrix(name, options):
    f, shape, of_matrix, matrix, x = PAIRS[name]
    w = draw(3, *shape)
    ours, theirs = factors_of(f, w, x, **options), factors_of(of_matrix, matrix(w), x, **options)
    close((ours.value, ours.gradient), (theirs.value, jax.vjp(matrix, w)[1](theirs.gradient)[0]))
    place = matrix(jnp.arange(w.size).reshape(shape)).reshape(-1)  # of the matrix's elements in the param
    close(dense(ours.factors)[place][:, place], dense(theirs.factors))


@pytest.mark.parametrize("name", PAIRS)
def test_one_example_without_tokens_has_the_exact_block(name):
    f, shape, *_, x = PAIRS[name]
    if x.ndim > 2 and name not in ("out of heads", "axes of the inputs turned"):
        return
    w, x, labels = draw(3, *shape), x[:1], LABELS[:1]
    block = kronecker_factors(Function(f), LOSS)(w, x, labels).factors
    rows = jnp.eye(w.size).reshape(-1, *shape)
    exact = jax.vmap(lambda v: ggn_product(Function(f), LOSS)(w, x, labels, v).reshape(-1))(rows)
    close(dense(block), exact)


@pytest.mark.parametrize("name", PAIRS)
def test_inverses_are_of_the_params_shape(name):
    f, shape, of_matrix, matrix, x = PAIRS[name]
    w, v = draw(3, *shape), draw(4, *shape)

    def solved(f, w, v):
        blocks = eigen(kronecker_factors(Function(f), LOSS)(w, x, LABELS).factors)
        corrected = ekfac(Function(f), LOSS)(w, x, LABELS, blocks)
        return kronecker_solve(blocks, v, 1e-2), kronecker_solve(corrected, v, 1e-2)

    ours = jax.jit(lambda w, v: solved(f, w, v))(w, v)
    theirs = jax.jit(lambda w, v: solved(of_matrix, w, v))(matrix(w), matrix(v))
    close(tuple(map(matrix, ours)), theirs)


def test_layers_stacked_for_a_scan():
    def heads(w, x):
        return lax.scan(
            lambda x, w: (jnp.tanh(jnp.einsum("nk,khd->nhd", x, w)).reshape(x.shape), None), x, w
        )[0]

    def plain(w, x):
        return lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    w, x = 0.3 * draw(3, 2, 6, 3, 2), draw(4, 6, 6)
    matrix = w.reshape(2, 6, 6)
    ours, theirs = factors_of(heads, w, x).factors, factors_of(plain, matrix, x).factors
    close(tuple(ours), tuple(theirs))
    solved = kronecker_solve(eigen(ours), w, 1e-2)
    close(solved.reshape(matrix.shape), kronecker_solve(eigen(theirs), matrix, 1e-2))
    ours, theirs = (
        ekfac(Function(f), LOSS)(p, x, LABELS, eigen(factors_of(f, p, x).factors))
        for f, p in ((heads, w), (plain, matrix))
    )
    close(ours.values, theirs.values)


def test_a_layout_of_no_two_sides_is_read_by_its_gradients():
    def mixed(w, x):
        return jnp.einsum("nab,ajb->nj", x, w)

    w, v = draw(3, 3, 4, 5), draw(4, 3, 4, 5)
    block = factors_of(mixed, w, TOKENS).factors
    assert block.inputs.shape == (12, 12) and block.outputs.shape == (5, 5)
    solved = kronecker_solve(eigen(block), v, 1e-2)
    expected = jnp.linalg.solve(dense(block) + 1e-2 * jnp.eye(60), v.reshape(-1))
    close(solved.reshape(-1), expected)


def test_kfac_trains_a_function_of_heads_bias_and_scale():
    def f(p, x):
        y = jnp.einsum("nk,khd->nhd", x, p["w"]) + p["b"][None]
        return jnp.einsum("nhd,jhd->nj", jnp.tanh(y), p["out"]) * p["scale"]

    net = Function(f)
    params = {"w": draw(3, 5, 2, 4), "b": draw(4, 2, 4), "out": draw(5, 3, 2, 4), "scale": jnp.ones(())}
    optimizer = kfac(net, X, 0.3, bias="joint")
    curved = kronecker_factors(net, LOSS, "exact", bias="joint")

    @jax.jit
    def step(params, state):
        value, gradient, factors = curved(params, X, LABELS)
        updates, state = optimizer.update(gradient, state, params, factors=factors)
        return jax.tree.map(jnp.add, params, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(12):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]
