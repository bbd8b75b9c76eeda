"""Forward mode: through `fnn.output` and `value`, and refused with that call by `apply` and called losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import jet

import fnn
from tests.cases import example
from tests.every import every_case_though_chains_are_slow
from tests.proof import assert_equal, inner

KEY = jax.random.key(0)
NET = fnn.Serial(fnn.Dense(4), fnn.tanh, fnn.Dense(3))  # of what jet has rules for: not norms, gelu, relu
X = jax.random.normal(KEY, (5, 2))
PARAMS = fnn.init(NET, KEY, X)
TARGET, LABEL = jnp.ones((5, 3)), jnp.array([0, 1, 2, 3, 4])
HEAD = fnn.LinearCrossEntropy(7)
OWN = HEAD.init(KEY, X)

# What is called, what its error says to call instead, and that.
CALLED = {
    "apply": (
        lambda x: fnn.apply(NET, PARAMS, x),
        "fnn.output(net, params, x, key)",
        lambda x: fnn.output(NET, PARAMS, x, None),
    ),
    "a loss": (
        lambda x: fnn.squared_error()(fnn.output(NET, PARAMS, x), TARGET),
        "loss.value(y, target, weights)",
        lambda x: fnn.squared_error().value(fnn.output(NET, PARAMS, x), TARGET, None),
    ),
    "a head": (
        lambda x: HEAD(OWN, x, LABEL),
        "head.value(params, x, target, weights)",
        lambda x: HEAD.value(OWN, x, LABEL, None),
    ),
}
V = jnp.cos(jnp.arange(10, dtype=X.dtype)).reshape(5, 2)
SEEN = {  # the call sees that it is differentiated in forward mode
    "jvp": lambda f: jax.jvp(f, (X,), (V,))[1],
    "jacfwd": lambda f: jax.jacfwd(f)(X),
    "compiled jacfwd": lambda f: jax.jit(jax.jacfwd(f))(X),
    "grad of jvp": lambda f: jax.grad(lambda x: jax.jvp(f, (x,), (V,))[1].sum())(X),
    "jet": lambda f: jet.jet(f, (X,), ((V, jnp.zeros_like(V)),)),
    "compiled jet": lambda f: jax.jit(lambda x: jet.jet(f, (x,), ((V, jnp.zeros_like(V)),)))(X),
}
UNSEEN = {  # JAX meets it later, in a program
    "linearize": lambda f: jax.linearize(f, X)[1](V),
    "compiled jvp": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (V,))[1])(X),
    "jvp of a compiled function": lambda f: jax.jvp(jax.jit(f), (X,), (V,))[1],
}
BOTH_MODES = {"hessian": lambda f: jax.hessian(lambda x: (f(x) ** 2).sum())(X)}


@pytest.mark.parametrize("name", CALLED)
def test_forward_mode_is_refused_by_a_call_that_works(name):
    called, suggestion, plain = CALLED[name]
    np.testing.assert_allclose(called(X), plain(X), rtol=1e-14)
    for way, run in SEEN.items():
        with pytest.raises(fnn.InputError) as raised:
            run(called)
        assert f"expected reverse mode (jax.grad, jax.vjp), got forward mode: try `{suggestion}`" in str(
            raised.value
        ), way
        if name == "apply" or "jet" not in way:  # jet knows no reduction of booleans, and no scan
            jax.block_until_ready(run(plain))
    for run in UNSEEN.values():
        with pytest.raises(TypeError, match="forward-mode"):
            run(called)
        run(plain)
    for run in BOTH_MODES.values():  # forward over reverse
        assert_equal(run(called), run(plain), 1e-11)


def test_the_coefficients_of_jet_are_the_derivatives_along_a_line():
    plain = CALLED["apply"][2]
    y, (first, second) = jet.jet(plain, (X,), ((V, jnp.zeros_like(V)),))
    along = lambda t: plain(X + t * V)  # noqa: E731
    slope = jax.jacfwd(along)
    assert_equal((y, first, second), (along(0.0), slope(0.0), jax.jacfwd(slope)(0.0)), 1e-11)


@every_case_though_chains_are_slow
def test_forward_mode_of_the_output_agrees_with_our_backward(case):
    """<dy, J v> = <J^T dy, v>, with J v by jvp and by linearize."""
    drawn = example(case)
    floats = lambda tree: jax.tree.map(lambda v: jnp.cos(v) if v.dtype != jnp.int32 else v, tree)  # noqa: E731
    params, x = floats(drawn.params), drawn.x
    moved = jax.tree.leaves(x)[0].dtype != jnp.int32 and all(v.dtype != jnp.int32 for v in jax.tree.leaves(x))

    def output(params, x):
        return fnn.output(drawn.net, params, x, drawn.key)

    @jax.jit
    def run():
        y, residuals = fnn.forward(drawn.net, drawn.params, x, drawn.key)
        grads, dx = fnn.backward(drawn.net, drawn.params, residuals, drawn.dy)
        args: Any = (drawn.params, x) if moved else (drawn.params,)
        along: Any = (params, floats(x)) if moved else (params,)
        f = output if moved else lambda p: output(p, x)
        by_linearize = jax.linearize(f, *args)[1](*along)
        wanted = inner(along[0], grads) + (inner(along[1], dx) if moved else 0)
        return inner(drawn.dy, jax.jvp(f, args, along)[1]), inner(drawn.dy, by_linearize), wanted

    by_jvp, by_linearize, wanted = run()
    scale = max(1.0, abs(float(wanted)))
    assert abs(by_jvp - wanted) <= 1e-10 * scale and abs(by_linearize - wanted) <= 1e-10 * scale
