"""Solve Poisson's equation by a network, by Gauss-Newton steps without a Jacobian.

The Laplacian of u = -2 pi^2 sin(pi x) sin(pi y) on the unit square, u = 0 on its edge; a network 2-32-1 of
float64, 256 points inside and 64 on the edge. `fnn.function.factors` gives the factors of every residual in
one backward pass, although the residual holds derivatives of the network; their Gram matrix K, one row for
each point, is all that Gauss-Newton asks for: the step is J^T (K + damping I)^-1 r, without a Jacobian J.

Run `python -m experiments.readers.pinn`; `--steps 400` goes on. It writes into `experiments/results/pinn/`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments.library.figures import COOL, INK, WARM, png
from experiments.library.results import as_json, machine, writable, write
from fnn.factors import is_factor
from fnn.function import factors
from fnn.readers import gram, weighted_gradient

SIZES = (2, 32, 1)
HALVINGS = 12
INSIDE, EDGE = 256, 64


def network(params: Any, x: Any) -> Any:
    """u(x): (n, 2) -> (n,)"""
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b[None])
    w, b = params[-1]
    return (x @ w + b[None])[:, 0]


def laplacian(params: Any, x: Any) -> Any:
    """The sum of u's second derivatives by forward mode twice: (n,)."""

    def second(axis: int) -> Any:
        e = jnp.zeros_like(x).at[:, axis].set(1.0)

        def along(x: Any) -> Any:
            return jax.jvp(lambda x: network(params, x), (x,), (e,))[1]

        return jax.jvp(along, (x,), (e,))[1]

    return second(0) + second(1)


def solution(x: Any) -> Any:
    return jnp.prod(jnp.sin(jnp.pi * x), -1)


def residuals(params: Any, x: Any, on_edge: Any) -> Any:
    """Of each point, divided by the root of their number: the equation's inside, u itself on the edge."""
    inside = laplacian(params, x) + 2 * jnp.pi**2 * solution(x)
    return jnp.where(on_edge, network(params, x) / EDGE**0.5, inside / INSIDE**0.5)


def points() -> tuple[Any, Any]:
    """256 points inside and 64 on the edge, and which are on it."""
    line = (jnp.arange(16) + 0.5) / 16
    inside = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)
    zero, one = jnp.zeros(16), jnp.ones(16)
    edges = [(line, zero), (line, one), (zero, line), (one, line)]
    edge = jnp.concatenate([jnp.stack(pair, 1) for pair in edges])
    return jnp.concatenate([inside, edge]), jnp.arange(INSIDE + EDGE) >= INSIDE


def init(key: Any) -> Any:
    keys = jax.random.split(key, len(SIZES) - 1)
    pairs = zip(keys, SIZES, SIZES[1:], strict=False)
    return [(jax.random.normal(k, (a, b)) * a**-0.5, jnp.zeros(b)) for k, a, b in pairs]


def gauss_newton(x: Any, on_edge: Any) -> Callable[[Any, Any], Any]:
    """Make `(params, damping) -> (params, loss, damping)`: a step, halved until the loss is least."""

    def loss(params: Any) -> Any:
        return jnp.sum(jnp.square(residuals(params, x, on_edge)))

    def step(params: Any, damping: Any) -> Any:
        r, found = factors(residuals)(params, x, on_edge)
        pairs = jax.tree.map(lambda f, p: gram(f, p, f), found, params, is_leaf=is_factor)
        values, vectors = jnp.linalg.eigh(sum(jax.tree.leaves(pairs)))
        a = vectors @ ((vectors.T @ r) / (jnp.maximum(values, 0) + damping))
        direction = jax.tree.map(lambda f, p: weighted_gradient(f, p, a), found, params, is_leaf=is_factor)

        def moved(size: Any) -> Any:
            return jax.tree.map(lambda p, d: p - size * d, params, direction)

        sizes = 0.5 ** jnp.arange(float(HALVINGS))
        tried = jax.lax.map(lambda size: loss(moved(size)), sizes)
        size = sizes[jnp.argmin(tried)]
        factor = jnp.where(size >= 0.5, 0.3, jnp.where(size < 0.1, 3.0, 1.0))
        return moved(size), tried.min(), jnp.maximum(damping * factor, 1e-14)

    return jax.jit(step)


def error(params: Any) -> Any:
    """The L2 error on a grid of 100 x 100, relative to the solution."""
    line = (jnp.arange(100) + 0.5) / 100
    grid = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)
    off = network(params, grid) - solution(grid)
    return jnp.sqrt(jnp.mean(off**2) / jnp.mean(solution(grid) ** 2))


def descend(optimizer: Any, params: Any, x: Any, on_edge: Any, steps: int, every: int) -> tuple[list, float]:
    """Run an optax optimizer: the errors, every so many steps, and the seconds for all."""

    def loss(params: Any) -> Any:
        return jnp.sum(jnp.square(residuals(params, x, on_edge)))

    def one(carry: Any, _: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda carry: jax.lax.scan(one, carry, length=every)[0])
    carry, errors = (params, optimizer.init(params)), [float(error(params))]
    start = time.perf_counter()
    for _ in range(steps // every):
        carry = run(carry)
        errors.append(float(error(carry[0])))
    return errors, time.perf_counter() - start


def draw(curves: dict[str, tuple[list[int], list[float]]]) -> bytes:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (name, (steps, errors)), color in zip(curves.items(), (WARM, COOL, INK), strict=True):
        axes.plot(np.maximum(steps, 1), errors, color=color, label=name)
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="relative L2 error")
    axes.legend(frameon=False)
    return png(figure)


def main(steps: int, first_order: int, folder: Path) -> dict[str, Any]:
    writable(folder)
    x, on_edge = points()
    start = init(jax.random.key(0))
    step, params, damping = gauss_newton(x, on_edge), start, jnp.asarray(1e-2)
    errors = [float(error(params))]
    clock = time.perf_counter()
    for k in range(steps):
        params, _, damping = step(params, damping)
        errors.append(float(error(params)))
        if k + 1 in (10, 100, 400, steps):
            print(f"Gauss-Newton, {k + 1} steps: relative L2 error {errors[-1]:.2e}", flush=True)
    seconds = {"Gauss-Newton": time.perf_counter() - clock}
    curves = {"Gauss-Newton": (list(range(steps + 1)), errors)}
    every = max(1, first_order // 100)
    rules = {"Adam": optax.adam(3e-3), "L-BFGS": optax.lbfgs()}
    for name, optimizer in rules.items():
        own, seconds[name] = descend(optimizer, start, x, on_edge, first_order, every)
        curves[name] = (list(range(0, every * len(own), every)), own)
        print(f"{name}, {first_order} steps: relative L2 error {own[-1]:.2e}", flush=True)
    found = {"errors": {name: own[-1] for name, (_, own) in curves.items()}, "seconds": seconds}
    found |= {"steps": {name: own[-1] for name, (own, _) in curves.items()}} | machine(["jax", "optax"])
    write(folder, {"pinn.png": draw(curves), "pinn.json": as_json(found)})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=100, help="of Gauss-Newton")
    parser.add_argument("--first-order", type=int, default=2000, help="steps of Adam and of L-BFGS")
    parser.add_argument("--results", type=Path, default=Path("experiments/results/pinn"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    main(options.steps, options.first_order, options.results)
