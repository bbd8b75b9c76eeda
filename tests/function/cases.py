"""Functions whose factors are known: each with its params, its arguments, and the form of every factor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

KEY = jax.random.key(7)


def draw(number: int, *shape: int) -> Any:
    return jax.random.normal(jax.random.fold_in(KEY, number), shape)


class Case(NamedTuple):
    f: Any  # f(params, *args) -> (n,)
    params: dict[str, Any]
    args: tuple[Any, ...]
    forms: dict[str, str]  # of each param, the type of its factor; that of a view's matrix behind a colon


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


W = {"w": draw(0, 5, 4), "b": draw(1, 4)}
SQUARE = {"w": draw(0, 5, 5), "b": draw(1, 5)}

CASES = {
    "dense": Case(dense, W, (X,), {"w": "Outer", "b": "Total"}),
    "as many examples as features": Case(dense, SQUARE, (X[:5],), {"w": "Outer", "b": "Total"}),
    "transposed": Case(
        transposed, {"w": draw(0, 4, 5), "b": draw(1, 4)}, (X,), {"w": "Viewed:Outer", "b": "Total"}
    ),
    "elementwise": Case(
        elementwise,
        {"s": draw(0, 5), "c": draw(1), "d": draw(2, 5), "e": draw(3), "m": draw(4, 5)},
        (X,),
        {"s": "Scaled", "c": "Viewed:Scaled", "d": "Total", "e": "Viewed:Total", "m": "Total"},
    ),
    "heads": Case(
        heads,
        {"w": draw(0, 5, 2, 3), "b": draw(1, 2, 3), "o": draw(2, 2, 3, 4)},
        (TOKENS,),
        {"w": "Viewed:Outer", "b": "Viewed:Total", "o": "Viewed:Outer"},
    ),
    "experts": Case(experts, {"w": draw(0, 3, 5, 2)}, (TOKENS,), {"w": "Outer"}),
    "lookup": Case(lookup, {"t": draw(0, 4, 5)}, (IDS,), {"t": "Rows"}),
    "tied": Case(tied, {"t": draw(0, 4, 5)}, (IDS,), {"t": "Outer"}),
    "made": Case(made, {"w": draw(0, 5, 4), "m": draw(1, 5, 4)}, (X,), {"w": "Called", "m": "Called"}),
    "low rank": Case(
        low_rank,
        {"w": draw(0, 5, 4), "a": draw(1, 5, 2), "b": draw(2, 2, 4)},
        (X,),
        {"w": "Called", "a": "Called", "b": "Called"},
    ),
    "twice": Case(twice, SQUARE, (X,), {"w": "Outer", "b": "Scaled"}),
    "positions": Case(positions, {"e": draw(0, 7, 5)}, (TOKENS,), {"e": "Part"}),
    "class token": Case(
        class_token, {"c": draw(0, 5), "w": draw(1, 5, 2)}, (TOKENS,), {"c": "Total", "w": "Outer"}
    ),
    "merged": Case(merged, W, (TOKENS,), {"w": "Outer", "b": "Total"}),
    "merged behind": Case(merged_behind, W, (TOKENS,), {"w": "Outer", "b": "Total"}),
    "slices": Case(
        slices, {"w": draw(0, 3, 5, 5), "v": draw(1, 2, 2, 5)}, (X,), {"w": "Outer", "v": "Several"}
    ),
    "scanned": Case(scanned, {"w": draw(0, 3, 5, 5), "b": draw(1, 5)}, (X,), {"w": "Outer", "b": "Total"}),
    "nested": Case(
        nested, {"w": draw(0, 2, 3, 5, 5), "s": draw(1)}, (X,), {"w": "Outer", "s": "Viewed:Scaled"}
    ),
    "recurrent": Case(
        recurrent,
        {"w": draw(0, 5, 4), "u": draw(1, 4, 4), "b": draw(2, 4)},
        (TOKENS,),
        {"w": "Outer", "u": "Outer", "b": "Total"},
    ),
    "branches": Case(
        branches,
        {"w": draw(0, 5, 4), "b": draw(1, 5), "s": draw(2)},
        (X,),
        {"w": "Outer", "b": "Scaled", "s": "Viewed:Total"},
    ),
    "indexed": Case(indexed, {"w": draw(0, 3, 5, 5)}, (X,), {"w": "Called"}),
    "mapped": Case(mapped, {"w": draw(0, 5, 5), "b": draw(1, 5)}, (X,), {"w": "Several", "b": "Scaled"}),
    "remat": Case(remat, {"w": draw(0, 5, 4)}, (X,), {"w": "Outer"}),
    "laplacian": Case(
        laplacian,
        {"w": draw(0, 2, 5), "b": draw(1, 5), "v": draw(2, 5, 1)},
        (draw(3, 6, 2),),
        {"w": "Outer", "b": "Total", "v": "Outer"},
    ),
    "convolution": Case(
        convolution,
        {"k": draw(0, 3, 2, 2, 6), "b": draw(1, 6)},
        (draw(2, 3, 7, 8, 4),),
        {"k": "Viewed:Convolved", "b": "Total"},
    ),
    "line": Case(line, {"k": draw(0, 3, 2, 4)}, (draw(1, 3, 2, 9),), {"k": "Convolved"}),
    "inner step": Case(inner_step, {"w": draw(0, 5, 3)}, (X,), {"w": "Several"}),
    "stopped": Case(stopped, SQUARE, (X,), {"w": "Viewed:Total", "b": "Scaled"}),
    "lora": Case(
        lora,
        {"w": draw(0, 5, 4), "a": draw(1, 5, 2), "b": draw(2, 2, 4)},
        (X,),
        {"w": "Viewed:Total", "a": "Outer", "b": "Outer"},
    ),
}
