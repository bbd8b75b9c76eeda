"""Real params in complex arithmetic, solves with params on the left, and several right-hand sides."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import pytest

import fnn
from fnn import readers
from fnn.function import factors
from tests.function.functions import draw

X, ROWS = draw(9, 5, 4), draw(8, 5, 8, 2)


def circulant(p: Any, x: Any) -> Any:
    """A circular convolution by its spectrum."""
    return jnp.fft.ifft(jnp.fft.fft(p["c"]) * jnp.fft.fft(x)).real @ p["o"]


def spectral(p: Any, x: Any) -> Any:
    """A Fourier layer, whose complex weight is made of two real params."""
    modes = jnp.fft.rfft(x, axis=1)[:, :3]
    modes = jnp.einsum("nmc,cdm->nmd", modes, p["r"] + 1j * p["i"])
    return jnp.fft.irfft(jnp.pad(modes, ((0, 0), (0, 2), (0, 0))), n=8, axis=1)


def phases(p: Any, x: Any) -> Any:
    """Rotations in the plane of complex numbers, and a real weight that a complex input meets."""
    turned = (x[:, ::2] + 1j * x[:, 1::2]) * jnp.exp(1j * p["angle"])
    mixed = turned @ p["w"].astype(turned.dtype) + p["shift"].astype(turned.dtype)
    return jnp.abs(mixed) + mixed.imag


def solved(p: Any, x: Any) -> Any:
    """A linear system whose matrix is made of a param, with the examples as right-hand sides."""
    return jnp.linalg.solve(p["a"] @ p["a"].T + jnp.eye(4), x.T).T @ p["o"]


def solved_each(p: Any, x: Any) -> Any:
    """A system for each example, of a matrix that is made of params and of the example."""
    return jax.vmap(lambda x: jnp.linalg.solve(p["a"] + jnp.diag(5 + x), p["o"][:, 0] + x))(x)


def whitened(p: Any, x: Any) -> Any:
    """Triangular systems from both sides, with the examples as right-hand sides."""
    low = jnp.tril(p["a"], -1) + jnp.diag(jnp.exp(jnp.diag(p["a"])))
    left = jax.scipy.linalg.solve_triangular(low, (x - p["m"]).T, lower=True).T
    return left @ p["o"] + jax.lax.linalg.triangular_solve(low, x, lower=True) @ p["o"]


MATRICES = {"a": draw(0, 4, 4), "o": draw(1, 4, 2), "m": draw(2, 4)}
CASES = {
    "circulant": (circulant, {"c": draw(0, 4), "o": draw(1, 4, 2)}, X),
    "spectral": (spectral, {"r": draw(0, 2, 2, 3), "i": draw(1, 2, 2, 3)}, ROWS),
    "phases": (phases, {"angle": draw(0, 2), "w": draw(1, 2, 3), "shift": draw(2, 3)}, X),
    "solved": (solved, {"a": draw(0, 4, 4), "o": draw(1, 4, 2)}, X),
    "solved each": (solved_each, {"a": draw(0, 4, 4), "o": draw(1, 4, 2)}, X),
    "whitened": (whitened, MATRICES, X),
}


@pytest.fixture(autouse=True)
def promoting():
    """Other people's code, such as an einsum of real and complex numbers, relies on JAX's promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(("apply", "p", "x"), CASES.values(), ids=CASES)
def test_readings_are_real_and_those_of_the_examples_own_gradients(apply, p, x):
    """The gradient by a real param is the real part; squares of complex numbers are not those of norms."""

    def losses(p: Any, x: Any) -> Any:
        return jnp.sin(apply(p, x)).reshape(x.shape[0], -1).sum(1)

    each = jax.vmap(jax.grad(lambda p, x: losses(p, x[None])[0]), (None, 0))(p, x)
    flat = {name: leaf.reshape(x.shape[0], -1) for name, leaf in each.items()}
    wanted = {
        readers.squared_norm: {name: jnp.square(g).sum(1) for name, g in flat.items()},
        readers.gram: {name: g @ g.T for name, g in flat.items()},
        readers.example_gradient: each,
        fnn.gradient: {name: g.sum(0) for name, g in each.items()},
    }
    for read, right in wanted.items():
        got = jax.jit(lambda p, x, read=read: factors(losses)(p, x, read=read)[1])(p, x)
        for name, leaf in got.items():
            assert leaf.dtype == p[name].dtype, (read, name)
            np.testing.assert_allclose(leaf, right[name], rtol=1e-9, atol=1e-12, err_msg=f"{read} {name}")


def test_right_hand_sides_are_told_from_what_couples_examples():
    def mixed(p: Any, x: Any) -> Any:
        return jax.scipy.linalg.solve_triangular(jnp.eye(x.shape[0]) + 0 * p.sum(), x * p, lower=True)

    with pytest.raises(fnn.InputError, match="mixes examples|meets them again"):
        factors(lambda p, x: mixed(p, x).sum(1))(draw(0, 4), X, read=readers.squared_norm)
