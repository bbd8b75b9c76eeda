"""Functions of params and a batch, of every kind of use."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

KEY = jax.random.key(7)


def draw(number: int, *shape: int) -> Any:
    """Draw normal numbers with NumPy, which compiles nothing."""
    return jnp.asarray(np.random.default_rng([7, number]).standard_normal(shape))


X = draw(99, 6, 5)  # six examples of five numbers
TOKENS = draw(98, 6, 3, 5)
IDS = jnp.array([[0, 1, 1], [2, 3, 0], [1, 1, 1]])


def _sum(y: Any) -> Any:
    return jnp.tanh(y).sum(range(1, y.ndim))


def dense(p: Any, x: Any) -> Any:
    return _sum(x @ p["w"] + p["b"][None])


def transposed(p: Any, x: Any) -> Any:
    return jax.vmap(lambda x: jnp.tanh(p["w"] @ x + p["b"]).sum())(x)


def elementwise(p: Any, x: Any) -> Any:
    return _sum(jnp.maximum(x * p["s"][None] * p["c"] / p["d"][None] - p["e"], p["m"][None]))


def heads(p: Any, x: Any) -> Any:
    y = jnp.tanh(jnp.einsum("ntk,khd->nthd", x, p["w"]) + p["b"][None, None])
    return _sum(jnp.einsum("nthd,hdj->ntj", y, p["o"]))


def experts(p: Any, x: Any) -> Any:
    return _sum(jnp.einsum("nek,ekj->nej", x, p["w"]))


def lookup(p: Any, ids: Any) -> Any:
    return _sum(p["t"][ids]) + _sum(jnp.take(p["t"], ids, axis=0, mode="clip") * 2.0)


def tied(p: Any, ids: Any) -> Any:
    return _sum(jnp.tanh(p["t"][ids]) @ p["t"].T)


def made(p: Any, x: Any) -> Any:
    return _sum(x @ (jax.nn.softplus(p["w"]) * p["m"]))


def low_rank(p: Any, x: Any) -> Any:
    return _sum(x @ (p["w"] + p["a"] @ p["b"]))


def scaled_adapters(p: Any, x: Any) -> Any:
    """Sums, differences and quotients of params: rows, columns and numbers that scale them."""
    delta = -(p["a"].T @ p["b"]) * 0.5 / p["s"][None]
    w = (p["w"] - delta) * p["r"][:, None] * p["c"]
    return _sum(x @ w)


def weight_norm(p: Any, x: Any) -> Any:
    w = p["g"][None] * p["v"] / jnp.linalg.norm(p["v"], axis=0)[None]
    return _sum(jnp.tanh(x @ w) + x[..., :4] * (1.0 + p["d"])[None, None])


def norms(p: Any, x: Any) -> Any:
    ids = jnp.argmax(x, 1) % 4
    return _sum(x * (1.0 + p["s"])[None] - (p["b"] / 3.0)[None] + (p["t"] * 2.0)[ids])


def twice(p: Any, x: Any) -> Any:
    return _sum(jnp.tanh(x @ p["w"]) @ p["w"] + p["b"][None] + x * p["b"][None])


def positions(p: Any, x: Any) -> Any:
    return _sum(x + p["e"][None, : x.shape[1]])


def class_token(p: Any, x: Any) -> Any:
    first = jnp.broadcast_to(p["c"], (x.shape[0], 1, x.shape[2]))
    return _sum(jnp.concatenate([first, x], 1) @ p["w"])


def merged(p: Any, x: Any) -> Any:
    return (
        (jnp.tanh(x.reshape(-1, x.shape[2]) @ p["w"] + p["b"][None]))
        .reshape(x.shape[0], x.shape[1] * p["b"].size)
        .sum(1)
    )


def merged_behind(p: Any, x: Any) -> Any:
    y = jnp.tanh(x.swapaxes(0, 1).reshape(-1, x.shape[2]) @ p["w"] + p["b"][None])
    return y.reshape(x.shape[1], x.shape[0], y.shape[1]).sum((0, 2))


def slices(p: Any, x: Any) -> Any:
    for w in p["w"]:
        x = jnp.tanh(x @ w)
    return _sum(x + p["v"][0, 1][None]) + _sum(x * p["v"][:, 0].sum())


def scanned(p: Any, x: Any) -> Any:
    def step(c: Any, w: Any) -> Any:
        return jnp.tanh(c @ w + p["b"][None]), c.sum(1)

    y, ys = lax.scan(step, x, p["w"])
    return y.sum(1) + ys.sum(0)


def nested(p: Any, x: Any) -> Any:
    def outer(c: Any, w: Any) -> Any:
        return lax.scan(lambda c, w: (jnp.tanh(c @ w * p["s"]), None), c, w)[0], None

    return lax.scan(outer, x, p["w"])[0].sum(1)


def recurrent(p: Any, x: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = jnp.tanh(x @ p["w"] + h @ p["u"] + p["b"][None])
        return h, h

    h = jnp.zeros((x.shape[0], p["u"].shape[0]))
    return lax.scan(step, h, x.swapaxes(0, 1), reverse=True)[1].sum((0, 2))


def branches(p: Any, x: Any) -> Any:
    return lax.cond(p["s"] > 0, lambda: _sum(x @ p["w"]), lambda: _sum(x * p["b"][None]))


def indexed(p: Any, x: Any) -> Any:
    return lax.fori_loop(0, 3, lambda i, c: jnp.tanh(c @ p["w"][i]), x).sum(1)


def mapped(p: Any, x: Any) -> Any:
    def one(x: Any) -> Any:
        return jnp.tanh(jax.nn.softplus(p["w"]) @ x + p["b"] * x + p["w"] @ x).sum()

    return lax.map(one, x)


def remat(p: Any, x: Any) -> Any:
    return jax.checkpoint(lambda x: jnp.tanh(x @ p["w"]))(x).sum(1)


def laplacian(p: Any, x: Any) -> Any:
    def u(x: Any) -> Any:
        return (jnp.tanh(x @ p["w"] + p["b"][None]) @ p["v"])[:, 0]

    out: Any = 0.0
    for i in range(2):
        e = jnp.zeros_like(x).at[:, i].set(1.0)

        def along(x: Any, e: Any = e) -> Any:
            return jax.jvp(u, (x,), (e,))[1]

        out = out + jax.jvp(along, (x,), (e,))[1]
    return out**2


def convolution(p: Any, x: Any) -> Any:
    y = lax.conv_general_dilated(
        x,
        p["k"],
        (2, 1),
        "SAME",
        rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
    )
    return _sum(y + p["b"][None, None, None])


def line(p: Any, x: Any) -> Any:
    return _sum(lax.conv_general_dilated(x, p["k"], (1,), ((2, 0),), lhs_dilation=(2,)))


def inner_step(p: Any, x: Any) -> Any:
    def one(x: Any) -> Any:
        grad = jax.grad(lambda p: jnp.sum(jnp.tanh(x @ p["w"]) ** 2))(p)
        return jnp.sum(jnp.cos(x @ (p["w"] - 0.1 * grad["w"])))

    return jax.vmap(one)(x)


@jax.custom_vjp
def doubling(w: Any, x: Any) -> Any:
    return x @ w


doubling.defvjp(lambda w, x: (doubling(w, x), (w, x)), lambda r, g: (2.0 * r[1].T @ g, g @ r[0].T))


def ruled(p: Any, x: Any) -> Any:
    return _sum(doubling(p["w"], x))


def stopped(p: Any, x: Any) -> Any:
    return _sum(x @ lax.stop_gradient(p["w"]) + x * p["b"][None])


def lora(p: Any, x: Any) -> Any:
    return _sum(x @ lax.stop_gradient(p["w"]) + (x @ p["a"]) @ p["b"] * 0.5)
