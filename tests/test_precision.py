"""Low-precision compute, float32 params: every product is accumulated in float32, weight gradients too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.cases import Case, Example, example
from tests.proof import explicit, replace


def errors_of_weight_gradients(rows: int) -> tuple[float, float]:
    """Give the relative errors of our gradient and of autodiff's, in bfloat16, against float64."""
    exact = example(Case("exact", fnn.mlp([64, 96, 80, 10], fnn.gelu), (rows, 64)))
    params = jax.tree.map(lambda p: p.astype(jnp.float32), exact.params)
    net = fnn.mlp([64, 96, 80, 10], fnn.gelu, dtype=jnp.bfloat16)

    def plain(params):
        """The same network as a user of jax.numpy writes it, for autodiff."""
        y = exact.x.astype(jnp.bfloat16)
        for i, p in enumerate((params["first"], params["hidden"][0]["dense"], params["output"])):
            z = y @ p["kernel"].astype(jnp.bfloat16) + p["bias"].astype(jnp.bfloat16)[None]
            y = jax.nn.gelu(z, approximate=False) if i < 2 else z
        return jnp.vdot(y.astype(jnp.float32), exact.dy.astype(jnp.float32))

    low = Example(net, params, exact.x.astype(jnp.bfloat16), exact.dy.astype(jnp.bfloat16), None)
    ours, theirs = jax.jit(explicit)(low)[0], jax.jit(jax.grad(plain))(params)
    wanted = explicit(replace(exact, dy=low.dy.astype(jnp.float64), x=low.x.astype(jnp.float64)))[0]

    def error(grads):
        pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(wanted), strict=True)
        return float(
            np.mean([np.linalg.norm(np.float64(a) - b) / np.linalg.norm(b) for a, b in pairs if b.ndim == 2])
        )

    return error(ours), error(theirs)


def test_our_weight_gradient_is_nearer_to_float64_than_autodiffs():
    ours, theirs = errors_of_weight_gradients(rows=512)
    assert ours < theirs


def test_the_rounding_of_the_weight_gradient_itself_is_gone():
    """One layer, so that nothing but dW's own accumulation and rounding is at stake."""
    x = jax.random.normal(jax.random.key(0), (4096, 8), jnp.bfloat16)
    dy = jax.random.normal(jax.random.key(1), (4096, 8), jnp.bfloat16)
    exact = np.asarray(x, np.float64).T @ np.asarray(dy, np.float64)
    drawn = Example(fnn.Dense(8, bias=False), {"kernel": jnp.zeros((8, 8), jnp.float32)}, x, dy, None)
    got = explicit(drawn)[0]["kernel"]
    # float32 products of bfloat16 numbers are exact; their sum rounds at 2^-24 for each of sqrt(4096) walks
    assert got.dtype == jnp.float32
    ours = np.abs(np.float64(got) - exact).max()
    assert ours <= 2.0**-24 * 64 * np.abs(exact).max()
    theirs = jax.grad(
        lambda w: jnp.vdot((x @ w.astype(x.dtype)).astype(jnp.float32), dy.astype(jnp.float32))
    )(jnp.zeros((8, 8), jnp.float32))
    assert np.abs(np.float64(theirs) - exact).max() > 10 * ours


def test_statistics_are_float32_and_outputs_keep_the_inputs_dtype():
    x = 1000 + jax.random.normal(jax.random.key(0), (4, 256), jnp.float32)
    for norm in (fnn.LayerNorm(), fnn.RMSNorm()):
        params = fnn.init(norm, jax.random.key(0), x)
        y, residuals = fnn.forward(norm, params, x.astype(jnp.bfloat16))
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(residuals.extras)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_gate_is_rounded_once(dtype):
    """Its value and its gradient are as near to the exact ones as the dtype has numbers."""
    exact = example(Case("exact", fnn.Gate(), (64, 20)))
    x, dy = exact.x.astype(dtype), exact.dy.astype(dtype)
    got = explicit(Example(fnn.Gate(), (), x, dy, None))
    wanted = explicit(replace(exact, x=x.astype(jnp.float64), dy=dy.astype(jnp.float64)))
    values = (fnn.apply(fnn.Gate(), (), each) for each in (x, x.astype(jnp.float64)))
    info = jnp.finfo(dtype)
    for a, b in ((got[1], wanted[1]), values):
        assert a.dtype == dtype
        unit = np.maximum(float(info.eps) * np.abs(b), float(info.smallest_subnormal)) / 2
        assert np.all(np.abs(np.float64(a) - b) <= 1.01 * unit)


def test_params_and_gradients_keep_their_dtype_under_a_compute_dtype():
    net = fnn.mlp([6, 5, 4], dtype=jnp.float16)
    x = jnp.ones((3, 6), jnp.float32)
    params = fnn.init(net, jax.random.key(0), x)
    y, residuals = fnn.forward(net, params, x)
    grads, dx = fnn.backward(net, params, residuals, jnp.ones_like(y))
    assert y.dtype == jnp.float16
    assert dx.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((params, grads))} == {jnp.dtype(jnp.float32)}
