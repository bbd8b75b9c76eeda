"""Wrong calls of `fnn.function`."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import fnn
from fnn.function import Function, factors
from tests.suggestions.row import KEY, Row, X

W, N = jnp.ones((6, 2), jnp.float32), jnp.ones((5,), jnp.float32)


def losses_of(params: Any, x: Any) -> Any:
    return jnp.square(x @ params).sum(1)


def coupled(params: Any, x: Any) -> Any:
    y = x @ params
    return jnp.square(y - y.mean(0, keepdims=True)).sum(1)


def looped(params: Any, x: Any) -> Any:
    y = jax.lax.while_loop(
        lambda y: (y < 10).all(), lambda y: y + 1 + jnp.abs(x @ params), jnp.abs(x @ params)
    )
    return y.sum(1)


MODEL = eqx.nn.MLP(6, 2, 3, 1, key=KEY, dtype=jnp.float32)
OF_MODEL = Function(lambda model, x: jax.vmap(model)(x))


def partitioned(parts: Any) -> Any:
    """Train a model's arrays, which its other parts are put to."""
    params, static = parts
    return trains(Function(lambda params, x: jax.vmap(eqx.combine(params, static))(x)), params)


def of_pairs(params: Any, x: Any) -> Any:
    pairs = x.reshape(x.shape[0] // 2, 2, -1)
    return jax.lax.map(lambda pair: losses_of(params, pair), pairs).reshape(-1)


def with_constant(params: Any, x: Any, constant: Any) -> Any:
    return losses_of(params, x) * constant.sum()


def printing(params: Any, x: Any) -> Any:
    jax.debug.print("{}", x)
    return losses_of(params, x)


def trains(layer: Any, params: Any = W) -> Any:
    """Run a layer forwards and backwards."""
    y, residuals = fnn.forward(layer, params, X)
    return fnn.backward(layer, params, residuals, jnp.ones_like(y))


def gives(f: Any) -> Any:
    """Read the norms of a function of losses."""
    return factors(f)(W, X, read=fnn.readers.squared_norm)


def ran(value: Any) -> Any:
    """Ask no more of a suggestion than that it runs."""
    return value


def noisy(w, x, key):
    return x @ w + jax.random.normal(key, (x.shape[0], w.shape[1]), w.dtype)


ROWS = {
    "no function": Row(lambda: Function(3), trains, {"model": type("Model", (), {"apply": lambda self, p, x: x @ p})()}),
    "no key for a function": Row(
        lambda: fnn.forward(Function(noisy), W, X), lambda key: fnn.forward(Function(noisy), W, X, key)
    ),
    "no init": Row(lambda: fnn.init(Function(losses_of), KEY, X), trains, {"f": lambda p, x: x @ p, "params": W}),
    "no axis of examples": Row(
        lambda: fnn.forward(Function(lambda p, x: x * p), W[0, 0], X[0, 0]), ran, {"x": X[0]}
    ),
    "outputs that are no arrays": Row(lambda: factors(lambda p, x: "loss")(W, X), ran, {"y": 1.0}),
    "a loop over pairs of examples": Row(lambda: factors(of_pairs)(W, X), names={"f": lambda x: (x @ W).sum(), "x": X}),
    "side effects": Row(lambda: factors(printing)(W, X), lambda f: trains(Function(f))),
    "a whole model for params": Row(lambda: trains(OF_MODEL, MODEL), partitioned, {"eqx": eqx, "params": MODEL}),
    "integer params": Row(
        lambda: factors(lambda p, x: losses_of(p["w"], x) * jnp.float32(p["n"]))({"w": W, "n": 2}, X),
        lambda found: found({"w": W, "n": 2}, X),
        {"f": lambda p, x: losses_of(p["w"], x) * jnp.float32(p["n"])},
    ),
    "an output of params alone": Row(
        lambda: trains(Function(lambda p, x: p.sum())), lambda f: (trains(Function(f)), trains(Function(f), jnp.float32(2.0)))
    ),
    "losses of tokens": Row(
        lambda: factors(lambda p, x: x @ p)(W, X), lambda losses: losses.shape == (4,), {"losses": X @ W}
    ),
    "losses of pairs of examples": Row(
        lambda: factors(lambda p, x, t: (x @ p[:, :1] - t[None]) ** 2)(W, X, X[:, 0]),
        lambda target: factors(lambda p, x, t: ((x @ p[:, :1] - t) ** 2)[:, 0])(W, X, target),
        {"target": X[:, 0], "y": X[:, :1]},
    ),
    "losses that couple": Row(
        lambda: factors(coupled)(W, X, read=fnn.readers.squared_norm), ran, {"f": coupled, "params": W, "x": X}
    ),
    "other numbers of examples": Row(
        lambda: factors(with_constant)(W, X, N), gives, {"f": with_constant, "c": N, "functools": functools}
    ),
    "a number of examples that is built in": Row(
        lambda: factors(lambda p, x: losses_of(p, x).reshape(4))(W, X), gives
    ),
    "one example of a layer that reads their number": Row(
        lambda: factors(lambda p, x: losses_of(p, jnp.broadcast_to(x[:1], x.shape)) / x.shape[0])(W, X[:1]), gives
    ),
    "several examples in a step of a loop": Row(
        lambda: gives(lambda p, x: jax.lax.map(lambda row: jnp.square(row @ p).sum(), x, batch_size=2)),
        lambda found: found.shape == (4,),
        {"f": jnp.sum, "x": X},
    ),
    "a loop of unknown length": Row(lambda: factors(looped)(W, X), ran, {"body": lambda i, y: y + i, "x": 1}),
}  # fmt: skip
