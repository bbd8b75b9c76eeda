"""All readers under a user's own jit and vmap, and what they cost by the compiler's account."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from tests.proof import assert_equal
from tests.readers.brute import LOSS, direction, run
from tests.readers.explicit import soft_target

NETWORKS = {
    "dense": fnn.Dense(3),
    "scanned": fnn.mlp([4, 5, 5, 5, 5, 5, 3], fnn.tanh, scan=True),
    "norm-gated-skip-tokens": fnn.Serial(
        fnn.Dense(4), fnn.LayerNorm(), fnn.Repeat(fnn.Skip(fnn.gated(4)), 2), fnn.Dense(3)
    ),
    "shared-tokens": fnn.Serial(fnn.Repeat(fnn.Serial(fnn.Dense(4), fnn.tanh), 2, shared=True), fnn.Dense(3)),
}
ONE_PASS = (fnn.readers.squared_norm, fnn.readers.gradient, fnn.readers.second_moment, fnn.readers.gram)


def is_eigen(value):
    return isinstance(value, fnn.curvature.Eigen)


def everything(net, x, target, v, key):
    """Give a function of the params that reads all there is to read."""

    def read(params):
        data = params, x, target
        several = fnn.readers.zip_readers(*ONE_PASS, fnn.readers.example_gradient, fnn.readers.variance)
        curved = fnn.curvature.kronecker_factors(net, LOSS, "sampled", bias="joint")(*data, key)
        blocks = fnn.curvature.eigen(curved.factors)
        corrected = jax.tree.leaves(fnn.curvature.ekfac(net, LOSS)(*data, blocks), is_leaf=is_eigen)
        optimizer = fnn.curvature.kfac(net, x, 0.1)
        state = optimizer.init(params)
        by_blocks = fnn.attribution.influence(
            net, LOSS, lambda v: fnn.curvature.kronecker_solve(blocks, v, 0.1)
        )
        return {
            "examples": fnn.readers.losses_and_readings(net, LOSS, several)(*data),
            "products": fnn.readers.losses_and_readings(net, LOSS, fnn.readers.inner_product)(
                *data, trees=(v,)
            ),
            "kernel": fnn.readers.tangent_kernel(net)(params, x, x[:1]),
            "clipped": fnn.privacy.clipped_gradient(net, LOSS, 0.1, per="layer")(*data),
            "in parts": fnn.privacy.clipped_gradient(net, LOSS, 0.1, microbatch=2)(*data),
            "private": fnn.privacy.private_gradient(net, LOSS, 0.1, 1.0, 4)(*data, key),
            "diagonal": fnn.curvature.ggn_diagonal(net, LOSS)(*data),
            "of examples": fnn.curvature.ggn_diagonal(net, LOSS, "sampled", per_example=True)(*data, key),
            "factors": (curved.value, curved.gradient, curved.factors),
            "step": optimizer.update(curved.gradient, state, params, factors=curved.factors)[0],
            "hessian": fnn.curvature.hessian_product(net, LOSS)(*data, v),
            "ggn": fnn.curvature.ggn_product(net, LOSS)(*data, v),
            "fisher": fnn.curvature.fisher_product(net, LOSS)(*data, v),
            # Sampled factors lack rank, and the basis of what they lack is anyone's: the traces are not.
            "corrected": [block.values.sum((-1, -2)) for block in corrected],
            "influence": by_blocks(*data, x[:1], target[:1]),
            "tracin": fnn.attribution.tracin(net, LOSS)([(params, 0.1)], x, target, x[:1], target[:1]),
            "grand": fnn.attribution.grand(net, LOSS)(*data),
            "el2n": fnn.attribution.el2n(net, LOSS)(*data),
            "feedback": fnn.feedback.feedback_alignment(net, LOSS)(params, v, x, target),
        }

    return read


@pytest.mark.parametrize(
    "name", ["dense", *(pytest.param(name, marks=pytest.mark.slow) for name in list(NETWORKS)[1:])]
)
def test_an_ensemble_of_params_under_jit_and_vmap(name):
    """The readings of two networks at once are those of each by itself."""
    net = NETWORKS[name]
    shape = (4, 2, 4) if name.endswith("tokens") else (4, 4)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape))
    params = direction(jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x)))
    params = jax.tree.map(lambda p: 0.3 * p, params)  # so that curvatures are not far beyond the damping
    target = soft_target(fnn.forward(net, params, x)[0])
    read = everything(net, x, target, direction(params, 1), jax.random.key(1))
    several = jax.tree.map(lambda p: jnp.stack([p, -p]), params)

    def each():
        return jax.lax.map(read, several)

    assert_equal(run(lambda: jax.vmap(read)(several)), run(each), 1e-9)


def compiled(f, sizes, n):
    """Compile for an MLP in float32 from shapes alone."""
    net = fnn.mlp(sizes)
    x, label = jax.ShapeDtypeStruct((n, sizes[0]), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    return jax.jit(f(net)).lower(params, x, label).compile()


def products(program) -> int:
    text = str(program.as_text())
    return text.count(" dot(") + text.count("matmul")


@pytest.mark.parametrize("sizes, n", [((5120, 2560, 1280), 32), ((784, 512, 512, 10), 128)], ids=str)
def test_norms_cost_no_product_and_no_room(sizes, n):
    """Several readings are one pass: beside the gradient, norms take 5% of its temporaries at most."""
    plain = compiled(lambda net: fnn.value_and_grad(net, LOSS), sizes, n)
    read = fnn.readers.zip_readers(fnn.readers.squared_norm, fnn.readers.gradient)
    both = compiled(lambda net: fnn.readers.losses_and_readings(net, LOSS, read), sizes, n)
    alone = compiled(
        lambda net: fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm), sizes, n
    )
    layers = len(sizes) - 1
    assert products(plain) == products(both) == 3 * layers - 1
    assert products(alone) == 2 * layers - 1
    rooms: Any = [program.memory_analysis() for program in (both, plain)]
    assert rooms[0].temp_size_in_bytes <= 1.05 * rooms[1].temp_size_in_bytes


def test_numbers_of_a_users_step_may_be_traced():
    """A clipping norm that a step adapts, and KFAC's damping as optax's injected hyperparameter."""
    net, x, label = fnn.mlp([4, 5, 3]), jnp.ones((4, 4)), jnp.arange(4) % 3
    params = fnn.init(net, jax.random.key(0), x)

    def clipped(norm):
        return fnn.privacy.private_gradient(net, LOSS, norm, norm, norm)(params, x, label, jax.random.key(1))[
            0
        ]

    assert_equal(jax.jit(clipped)(jnp.float32(0.5)), run(lambda: clipped(0.5)), 1e-6)

    def damped(v, damping):
        return fnn.curvature.conjugate_gradients(lambda v: v, damping)(v)

    assert_equal(jax.jit(damped)(params, 1.0), damped(params, 1.0), 1e-6)
    optimizer = optax.inject_hyperparams(
        lambda damping, learning_rate: fnn.curvature.kfac(net, x, learning_rate, damping=damping)
    )(damping=0.1, learning_rate=0.5)

    def step(optimizer, params):
        _, gradient, factors = fnn.curvature.kronecker_factors(net, LOSS, bias="joint")(params, x, label)
        return optimizer.update(gradient, optimizer.init(params), params, factors=factors)[0]

    plain = fnn.curvature.kfac(net, x, 0.5, damping=0.1)
    got, wanted = run(lambda: (step(optimizer, params), step(plain, params)))
    assert_equal(got, wanted, 1e-5)
