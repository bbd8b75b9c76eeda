"""Losses at the edges: sure rows, targets of zero, masked logits, rows that are nearly parallel or huge."""

import decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

SOFTMAX, KL, COSINE = fnn.softmax_cross_entropy(), fnn.losses.kl_divergence(), fnn.losses.cosine()
SURE = 1 / (1 + np.exp(20.0))


@pytest.mark.parametrize(
    "target", [jnp.array([0]), jnp.array([[1.0, 0.0]], jnp.float32)], ids=["label", "soft"]
)
def test_a_sure_row_keeps_the_digits_of_its_gradient(target):
    y = jnp.array([[20.0, 0.0]], jnp.float32)
    np.testing.assert_allclose(SOFTMAX.value_and_grad(y, target)[1], [[-SURE, SURE]], rtol=1e-6)


@pytest.mark.parametrize("loss", [SOFTMAX, KL], ids=repr)
def test_a_target_of_zero_has_a_gradient(loss):
    y = jnp.array([[0.0, 1.0, 2.0]])
    got = jax.grad(lambda t: loss(y, t))(jnp.array([[0.0, 0.0, 1.0]]))
    wanted = -jax.nn.log_softmax(y) + (jnp.array([[0.0, 0.0, 1.0]]) if loss == KL else 0)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


@pytest.mark.parametrize("loss", [SOFTMAX, KL], ids=repr)
def test_a_masked_logit_with_a_target_of_zero_adds_nothing(loss):
    y, t = jnp.array([[0.0, 1.0, -jnp.inf]]), jnp.array([[0.25, 0.75, 0.0]])
    got = jax.value_and_grad(lambda y, t: loss(y, t), (0, 1))(y, t)
    wanted = jax.value_and_grad(lambda y, t: loss(y, t), (0, 1))(y[:, :2], t[:, :2])
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-12)
    for a, b in zip(got[1], wanted[1], strict=True):
        np.testing.assert_allclose(a, np.pad(b, [(0, 0), (0, 1)]), rtol=1e-12)
    assert loss(y, jnp.array([[0.0, 0.5, 0.5]])) == np.inf


INFINITE = (  # loss, output, target, and what value and gradient converge to
    ("binary_cross_entropy", np.inf, 1.0, 0.0, 0.0),
    ("binary_cross_entropy", -np.inf, 0.0, 0.0, 0.0),
    ("binary_cross_entropy", np.inf, 0.0, np.inf, 1.0),
    ("binary_cross_entropy", -np.inf, 1.0, np.inf, -1.0),
    ("binary_cross_entropy", np.inf, 0.25, np.inf, 0.75),
    ("poisson", -np.inf, 0.0, 0.0, 0.0),
    ("poisson", -np.inf, 2.0, np.inf, -2.0),
    ("poisson", np.inf, 0.0, np.inf, np.inf),
    ("poisson", np.inf, 2.0, np.inf, np.inf),
)


@pytest.mark.parametrize("compile", (lambda f: f, jax.jit), ids=("eager", "jit"))
@pytest.mark.parametrize("dtype", ("float16", "bfloat16", "float32", "float64"))
def test_an_infinite_output_gives_the_limit(dtype, compile):
    for name, y, target, value, dy in INFINITE:
        y, t = jnp.full((1, 2), y, dtype).at[0, 1].set(0), jnp.full((1, 2), target, dtype)
        loss = getattr(fnn.losses, name)("sum")
        got, gradient = compile(jax.value_and_grad(loss))(y, t)
        other = loss(y[:, 1:], t[:, 1:])  # the second output is an ordinary one
        np.testing.assert_allclose(got, value + other, 1e-2 if y.dtype.itemsize < 4 else 1e-6)
        assert gradient[0, 0] == dy and jnp.isfinite(gradient[0, 1])


def test_a_cosine_of_nearly_parallel_or_huge_rows():
    def of(y, t):
        return COSINE.value_and_grad(jnp.array([y], jnp.float32), jnp.array([t], jnp.float32))

    value, dy = of([1.0, 1e-4], [1.0, 0.0])
    np.testing.assert_allclose(value, 5e-9, rtol=1e-6)
    np.testing.assert_allclose(dy[0, 1], 1e-4, rtol=1e-6)
    for y, t in (([3e38, 3e38], [1.0, 0.0]), ([3e38, 3e38], [3e38, 0.0]), ([1e-37, 1e-37], [3e38, 0.0])):
        value, dy = of(y, t)
        np.testing.assert_allclose(value, 1 - 0.5**0.5, rtol=1e-6)
        assert np.isfinite(dy).all()
    assert of([0.0, 0.0], [1.0, 0.0])[0] == of([1.0, 0.0], [0.0, 0.0])[0] == 1


@pytest.mark.parametrize("switch", ["jax_debug_nans", "jax_debug_infs"])
def test_debugging_switches_find_nothing(switch):
    y, x = jnp.array([[0.0, 1.0, -jnp.inf]]), jnp.ones((3, 4))
    head = fnn.LinearCrossEntropy(5, ignore=-1)
    params, label = head.init(jax.random.key(0), x), jnp.array([0, 1, -1])
    t = jnp.array([[0.25, 0.75, 0.0]])
    jax.config.update(switch, True)
    try:
        head(params, x, label)
        head.value_and_grad(params, x, label)
        SOFTMAX.value_and_grad(y, jnp.array([1]))
        jax.grad(lambda y: SOFTMAX(y, t))(y)
        KL.value_and_grad(y, t)
    finally:
        jax.config.update(switch, False)


TIES = [
    ([20.0, 20.0, 0.0], [0.5, 0.5, 0.0]),
    ([20.0, 20.0, 0.0], [1.0, 0.0, 0.0]),
    ([0.0] * 7 + [-20.0], [1 / 7] * 7 + [0.0]),
]


@pytest.mark.parametrize("loss", [SOFTMAX, KL], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("y", "t"), TIES)
def test_ties_among_the_largest_logits_keep_the_digits_of_their_gradients(y, t, dtype, loss):
    """p_i sum(t) - t_i = sum over j of p_i t_j - p_j t_i, in numbers of 60 digits."""
    with decimal.localcontext(prec=60):
        e = [decimal.Decimal(v).exp() for v in y]
        exact = [decimal.Decimal(float(np.asarray(v, dtype))) for v in t]
        p = [v / sum(e) for v in e]
        wanted = [float(a * sum(exact) - b) for a, b in zip(p, exact, strict=True)]
    rows = jnp.asarray([y], dtype), jnp.asarray([t], dtype)
    np.testing.assert_allclose(loss.value_and_grad(*rows)[1][0], wanted, rtol=4 * float(np.finfo(dtype).eps))
    hessian = jax.jacfwd(lambda y: loss.value_and_grad(y[None], rows[1])[1][0])(rows[0][0])
    p = np.array([float(v) for v in p])
    np.testing.assert_allclose(hessian, sum(t) * (np.diag(p) - np.outer(p, p)), atol=np.finfo(dtype).eps)
