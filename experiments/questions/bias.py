"""Where does the bias live?

    python -m experiments.questions.bias

Beside the weights: z = x W + b, with dW = x^T dz and db = sum dz. Or in them: with a constant one appended
to x, the bias is one more row of the weight (a last column, where examples are columns), and one product
gives both,

    z = [x 1] [W; b]          [dW; db] = [x 1]^T dz

The second has a trap. The constant one has a cotangent as well, the last column of dz [W; b]^T: no one
asked for it, and it must be cut off. Where the one is carried from layer to layer as a unit of its own (so
that all matrices are square, (k + 1, j + 1), with a last column (0, ..., 0, 1) that hands the one on), that
column has a gradient too. An optimizer that sees it makes of the one a unit that depends on the example: no
bias any longer, but another network (here one that fits better, for it has more to learn with, which is why
the mistake goes unnoticed). That "update" must be undone after every step, or, better, never be made.

Both are layers here, fifteen lines each: a layer is three methods, and fnn's `Outer` factor with its
readers serves the augmented one as it is.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.library.answer import (
    Options,
    canvas,
    deliver,
    heading,
    label,
    labels,
    run,
    table,
)
from experiments.library.figures import COOL, INK, SOFT, WARM
from experiments.library.timing import quartiles, race, speedup


def with_one(x: Any) -> Any:
    """Append a constant one: (..., k) to (..., k + 1)."""
    return jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)


@dataclass(frozen=True)
class Augmented(fnn.Leaf):
    """A dense layer whose bias is the weight's last row. params: `{"kernel": (k + 1, j)}`."""

    features: int
    needs = frozenset(("input",))

    def init(self, key: Any, x: Any) -> Any:
        p = fnn.init(fnn.Dense(self.features), key, x)
        return {"kernel": jnp.concatenate([p["kernel"], p["bias"][None]])}

    def forward(self, params: Any, x: Any, key: Any) -> Any:
        return self.recompute(params, x, ()), ()

    def recompute(self, params: Any, x: Any, extras: Any) -> Any:
        return with_one(x) @ params["kernel"]

    def backward(self, params: Any, x: Any, y: Any, extras: Any, dy: Any) -> Any:
        """[dW; db] = [x 1]^T dz, one factor; dx = dz W^T, without the cotangent of the one."""
        return {"kernel": fnn.factors.Outer(with_one(x), dy)}, dy @ params["kernel"][:-1].T


def to_augmented(params: Any) -> Any:
    """Put each bias below its weight."""
    return tuple({"kernel": jnp.concatenate([p["kernel"], p["bias"][None]])} if p else p for p in params)


def networks(widths: tuple[int, ...]) -> tuple[fnn.Serial, fnn.Serial]:
    """Give a relu network with the bias beside the weights, and one with it inside."""
    beside = fnn.Serial(*fnn.mlp(widths).layers)
    inside = [Augmented(layer.features) if isinstance(layer, fnn.Dense) else layer for layer in beside.layers]
    return beside, fnn.Serial(*inside)


def compare(widths: tuple[int, ...], n: int, seed: int) -> dict[str, float]:
    """Give the largest difference between both networks' gradients, relative to the largest entry."""
    beside, inside = networks(widths)
    x, t = (
        jax.random.normal(jax.random.key(seed + i), (n, w)) for i, w in enumerate((widths[0], widths[-1]))
    )
    params, loss = fnn.init(beside, jax.random.key(seed + 2), x), fnn.half_squared_error()
    value, grads = fnn.value_and_grad(beside, loss)(params, x, t)
    other, augmented = fnn.value_and_grad(inside, loss)(to_augmented(params), x, t)
    found = {"loss": float(abs(value - other) / abs(value))}
    pairs = zip(
        [g["kernel"] for g in to_augmented(grads) if g], [g["kernel"] for g in augmented if g], strict=True
    )
    for i, (a, b) in enumerate(pairs, 1):
        found[f"[dW{i}; db{i}]"] = float(abs(a - b).max() / abs(a).max())
    return found


def carried(steps: int, rate: float, seed: int) -> dict[str, list[float]]:
    """Learn with the one carried in a square weight, its column updated, restored, or neither: the losses."""
    k, n = 4, 32
    x = with_one(jax.random.normal(jax.random.key(seed), (n, k)))
    t = jnp.sin(x[:, :k]) + 0.5
    w = 0.5 * jax.random.normal(jax.random.key(seed + 1), (2, k + 1, k + 1))
    hands_on = jnp.zeros((k + 1, k + 1)).at[-1, -1].set(1)
    own = jnp.ones((k + 1, k + 1)).at[:, -1].set(0)  # all but the last column
    first, last = fnn.Dense(k + 1, bias=False), fnn.Dense(k + 1, bias=False)
    net, loss = fnn.Serial(first, fnn.relu, last), fnn.half_squared_error()
    told = {}

    @jax.jit
    def step(w: Any, made: Any, kept: Any) -> tuple[Any, Any]:
        params = {"kernel": w[0]}, (), {"kernel": w[1]}
        y, residuals = fnn.forward(net, params, x)
        value, dy = loss.value_and_grad(y[:, :k], t)
        grads, _ = fnn.backward(net, params, residuals, jnp.pad(dy, ((0, 0), (0, 1))))
        w = w - rate * made * jnp.stack([grads[0]["kernel"], grads[2]["kernel"]])
        return jnp.where(kept, w, hands_on), value

    every = jnp.ones_like(own)
    for name, made, kept in (("never made", own, every), ("undone", every, own), ("made", every, every)):
        now, losses = w * own + hands_on, []
        for _ in range(steps):
            now, value = step(now, made, kept == 1)
            losses.append(float(value))
        params: Any = {"kernel": now[0]}
        one = fnn.forward(first, params, x)[0][:, -1]
        told[f"{name}: loss"] = losses
        told[f"{name}: the one, first and last example"] = [float(one[0]), float(one[-1])]
    return told


def times(widths: tuple[int, ...], n: int, rounds: int) -> dict[str, dict[str, np.ndarray]]:
    """Give the seconds of compiled gradients: of whole networks, and of dW and db alone, one layer's."""
    found = {}
    for width in widths:
        beside, inside = networks((width, width, width, width))
        x = jax.random.normal(jax.random.key(0), (n, width), jnp.float32)
        params = fnn.init(beside, jax.random.key(1), x)
        augmented, loss = to_augmented(params), fnn.half_squared_error()
        a, b = (jax.jit(fnn.value_and_grad(net, loss)) for net in (beside, inside))
        two = jax.jit(lambda x, dz: (x.T @ dz, dz.sum(0)))
        one = jax.jit(lambda x, dz: with_one(x).T @ dz)
        runners = {
            "network, beside": lambda a=a, p=params, x=x: a(p, x, x),
            "network, inside": lambda b=b, p=augmented, x=x: b(p, x, x),
            "dW and db, two operations": lambda f=two, x=x: f(x, x),
            "dW and db, one product": lambda f=one, x=x: f(x, x),
        }
        found[width] = race(runners, rounds)
    return found


def main(
    options: Options, widths: tuple[int, ...] = (64, 128, 256, 512, 1024), n: int = 512
) -> dict[str, Any]:
    """Compare, show the trap, time, draw, write."""
    with jax.enable_x64(True):
        same = compare((5, 7, 4, 3), 11, options.seed)
    heading("Bias beside the weights and inside: largest difference, relative, in float64")
    print(table(("", "beside and inside"), [(name, f"{value:.1e}") for name, value in same.items()]))
    trap = carried(60, 0.1, options.seed)
    heading("The update of the column that hands the one on (gradient descent, 60 steps)")
    rows = [
        (name, *(f"{trap[f'{name}: loss'][i]:.4f}" for i in (0, 1, 10, -1)),
         *(f"{v:+.3f}" for v in trap[f"{name}: the one, first and last example"]))
        for name in ("never made", "undone", "made")
    ]  # fmt: skip
    print(table(("update", "loss", "step 1", "step 10", "last", "the one: example 1", f"example {32}"), rows))
    apart = max(abs(a - b) for a, b in zip(trap["never made: loss"], trap["undone: loss"], strict=True))
    print(f"Undone after every step it is as if never made: the losses differ by {apart:.0e} at most. Made,")
    print("the one is a unit that depends on the example: the loss is lower, but it is another network's.")
    seconds = times(widths, n, 31 * (1 + options.full))
    ratios = {
        w: {"network": speedup(s["network, inside"], s["network, beside"]),
            "dW and db": speedup(s["dW and db, one product"], s["dW and db, two operations"])}
        for w, s in seconds.items()
    }  # fmt: skip
    heading(f"Time with the bias inside, over that with it beside (float32, {n} examples; quartiles)")
    print(table(("width", "three layers, whole gradient", "dW and db alone: one product over two operations"),
                [(w, r["network"], r["dW and db"]) for w, r in ratios.items()]))  # fmt: skip
    sure = sum(r["dW and db"].high < 1 for r in ratios.values())
    print(f"One product for dW and db pays at {sure} of {len(ratios)} widths (upper quartile below 1),")
    sure = sum(r["network"].high < 1 for r in ratios.values())
    print(f"and in a whole gradient, where the one must be appended going forward, too, at {sure}.")
    found = {
        "largest difference": same,
        "one carried along": trap,
        "microseconds": {w: {k: 1e6 * quartiles(v).median for k, v in s.items()} for w, s in seconds.items()},
        "time inside over beside": {w: {k: list(v) for k, v in r.items()} for w, r in ratios.items()},
    }
    return deliver(options, "bias", found, draw(trap, ratios))


def draw(trap: dict[str, list[float]], ratios: Any) -> Any:
    """Draw the loss with the one kept and spoiled, and the ratios of times."""
    figure, (left, right) = canvas(
        "A bias that is a carried one must not be updated; that apart, both are one network",
        2,
        size=(12, 4.6),
    )
    for name, colour in (("never made", COOL), ("made", WARM)):
        losses = trap[f"{name}: loss"]
        left.plot(losses, color=colour)
        shown = "never made, or undone" if name == "never made" else name
        label(left, (len(losses) - 1, losses[-1]), shown, colour)
    left.set(title="the update of the carried one is ...", xlabel="step", ylabel="loss", yscale="log")
    left.set_xlim(right=1.7 * len(trap["made: loss"]))
    left.set_xticks(range(0, len(trap["made: loss"]) + 1, 20))
    left.set_yticks([0.3, 0.5, 1, 2], ["0.3", "0.5", "1", "2"])
    left.minorticks_off()
    widths, ends = list(ratios), []
    for name, colour, text in (("network", INK, "whole gradient"), ("dW and db", WARM, "dW and db alone")):
        q = np.array([ratios[w][name] for w in widths])
        right.plot(widths, q[:, 1], color=colour, marker="o", markersize=3)
        right.fill_between(widths, q[:, 0], q[:, 2], color=colour, alpha=0.2, linewidth=0)
        ends.append(((widths[-1], q[-1, 1]), text, colour))
    right.axhline(1, color=SOFT, linewidth=0.8)
    right.set(
        title="time with the bias inside the weights, over beside them",
        xlabel="width",
        xscale="log",
        ylim=(0, None),
    )
    right.set_xticks(widths, map(str, widths))
    right.minorticks_off()
    right.set_xlim(right=widths[-1] * 6)
    labels(right, ends)
    return figure


if __name__ == "__main__":
    run(main, __doc__)
