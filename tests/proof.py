"""What it means that a backward pass is right: assertions that the tests walk over the table of cases."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from tests.cases import Example
from vjpcheck.jaxprs import every


def plain(case: Example) -> Callable[[Any, Any], Any]:
    """Give the scalar <dy, forward(params, x)>, which autodiff differentiates operation by operation."""
    return lambda params, x: inner(fnn.forward(case.net, params, x, case.key)[0], case.dy)


def inner(y: Any, dy: Any) -> Any:
    """Give <y, dy>, over all arrays of a tree."""
    return sum(map(jnp.vdot, jax.tree.leaves(y), jax.tree.leaves(dy)))


def without_float0(tree: Any) -> Any:
    """Put None in the place of the cotangents of integers."""
    return jax.tree.map(lambda leaf: None if leaf.dtype == jax.dtypes.float0 else leaf, tree)


def reference(case: Example) -> tuple[Any, Any]:
    """Give autodiff's gradients by params and by input (None for an integer input)."""
    return without_float0(jax.grad(plain(case), (0, 1), allow_int=True)(case.params, case.x))


def explicit(case: Example, keep_float0: bool = False) -> tuple[Any, Any]:
    """Give our gradients: forward, then backward."""
    _, residuals = fnn.forward(case.net, case.params, case.x, case.key)
    grads, dx = fnn.backward(case.net, case.params, residuals, case.dy)
    return grads, dx if keep_float0 else without_float0(dx)


def through_apply(case: Example, around: Callable[[Any], Any] = lambda f: f) -> tuple[Any, Any]:
    """Give our gradients as a caller of `jax.grad` gets them, with a transformation around the network."""

    def f(params: Any, x: Any) -> Any:
        return inner(around(lambda p, x: fnn.apply(case.net, p, x, case.key))(params, x), case.dy)

    return without_float0(jax.grad(f, (0, 1), allow_int=True)(case.params, case.x))


def replace(case: Example, x: Any = ..., dy: Any = ..., key: Any = ..., params: Any = ...) -> Example:
    """Give the case with other data."""
    new = {"x": x, "dy": dy, "key": key, "params": params}
    return dataclasses.replace(case, **{name: value for name, value in new.items() if value is not ...})


def assert_equal(got: Any, wanted: Any, relative: float = 1e-12) -> None:
    """Assert the same tree, shapes and dtypes, and every leaf within `relative` of its largest element."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        name = jax.tree_util.keystr(path)
        assert a.shape == b.shape and a.dtype == b.dtype, (
            f"{name}: {a.shape} {a.dtype}, not {b.shape} {b.dtype}"
        )
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        error, scale = np.max(np.abs(a - b), initial=0), np.max(np.abs(b), initial=0)
        assert error <= relative * max(scale, 1e-3), f"{name}: off by {error:.1e} of {scale:.1e}"


def assert_central_differences(case: Example, grads: Any, dx: Any, relative: float = 1e-7) -> None:
    """Assert that the gradients' products with random directions are the differences' limits.

    One direction a leaf, so that no small leaf hides behind a large one. The step is so short that no kink is
    met and the error of order h^2 is 1e-12; rounding costs 1e-9.
    """
    leaves, structure = jax.tree.flatten((case.params, case.x))
    slopes = jax.tree.leaves((grads, dx), is_leaf=lambda leaf: leaf is None)
    random = np.random.default_rng(0)
    directions = [jnp.asarray(random.standard_normal(leaf.shape)) for leaf in leaves]
    h = 2.0**-19

    @jax.jit
    def value(which: Any, step: Any) -> Any:
        moved = [
            leaf if grad is None else leaf + jnp.where(which == i, step, 0) * v
            for i, (leaf, grad, v) in enumerate(zip(leaves, slopes, directions, strict=True))
        ]
        return plain(case)(*jax.tree.unflatten(structure, moved))

    for i, (v, grad) in enumerate(zip(directions, slopes, strict=True)):
        if grad is None:
            continue
        slope, wanted = np.vdot(grad, v), float(value(i, h) - value(i, -h)) / (2 * h)
        scale = np.linalg.norm(grad) * np.linalg.norm(v) + 1e-3
        assert abs(slope - wanted) <= relative * scale, f"leaf {i}: slope {slope}, differences {wanted}"


def occurrences(name: str, program: Any) -> int:
    """Count a primitive in a traced program: in a function each time it is called, in a loop's body once."""
    return sum(equation.primitive.name == name for equation in every(program))


def count_products(f: Callable, case: Example) -> int:
    """Count the matrix products in the program of `f`; one in a loop's body counts once.

    In the optimized program; but where there is no batch axis, before optimization, which turns some
    outer products into elementwise ones.
    """
    if min(leaf.ndim for leaf in jax.tree.leaves(case.x)) < 2:
        return occurrences("dot_general", jax.make_jaxpr(f)(case).jaxpr)
    text = str(jax.jit(f).lower(case).compile().as_text())
    return text.count(" dot(") + text.count("matmul")
