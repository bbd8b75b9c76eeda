"""When are the weights updated?

    python -m experiments.questions.when_to_update

A backward pass visits each layer once, and two things are read there: dW = x^T dz, and dx = dz W^T for the
layer below. An update W - rate dW may happen

    at the end          all gradients are held until the last is there: as many bytes as the params
    after the last use  dx first, then W: nothing reads this W again, so its gradient need not be kept
    too soon            W first, then dx = dz W_new^T: what goes down is the derivative of no function

The second is the first, in less memory: block by block, a gradient lives no longer than its update. In fnn
it is a reader, applied where a factor is born: `read(factor, param)` gives the new param. In one compiled
step the compiler frees as it goes anyway, and in a scan both write a stack of new params.

The third is off by -rate dz dW^T = -rate (dz dz^T) x in every layer, and the error travels down with dx. It
is not small and random but points along x itself: descending it, each layer below makes its output larger,
and that makes the next error larger. How much it is, and what it does to learning, is measured here on
scikit-learn's digits.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import PercentFormatter

import fnn
from experiments.library.answer import (
    Options,
    canvas,
    deliver,
    heading,
    label,
    run,
    table,
)
from experiments.library.data import from_scikit_learn
from experiments.library.figures import COOL, SOFT, WARM
from experiments.library.live_arrays import live_bytes

LOSS = fnn.softmax_cross_entropy()
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


def step(net: fnn.Serial, params: Any, x: Any, t: Any, rate: Any, too_soon: bool) -> tuple[Any, Any, Any]:
    """Update each layer on the way back: give the loss, the new params and the gradients that were used."""
    v, kept = x, []
    for layer, p in zip(net.layers, params, strict=True):
        v, residuals = fnn.forward(layer, p, v)
        kept.append(residuals)
    value, dv = LOSS.value_and_grad(v, t)
    new, grads = [], []
    for layer, p, residuals in reversed(list(zip(net.layers, params, kept, strict=True))):
        gradient, dx = fnn.backward(layer, p, residuals, dv)
        moved = jax.tree.map(lambda p, g: p - rate * g, p, gradient)
        if too_soon:  # what goes down is read off the weights that were just changed
            _, dx = fnn.backward(layer, moved, residuals, dv)
        new.insert(0, moved)
        grads.insert(0, gradient)
        dv = dx
    return value, tuple(new), tuple(grads)


def errors(net: fnn.Serial, params: Any, x: Any, t: Any) -> dict[float, list[float]]:
    """Give for each rate how far each dW is off, |wrong - right| / |right|, first layer first."""

    def error(rate: Any) -> Any:
        right, wrong = (step(net, params, x, t, rate, too_soon)[2] for too_soon in (False, True))
        pairs = [(a["kernel"], b["kernel"]) for a, b in zip(right, wrong, strict=True) if a]
        return jnp.stack([jnp.linalg.norm(b - a) / jnp.linalg.norm(a) for a, b in pairs])

    found = jax.jit(jax.vmap(error))(jnp.array(RATES))
    return {rate: np.asarray(row).tolist() for rate, row in zip(RATES, found, strict=True)}


def learn(net: fnn.Serial, params: Any, x: Any, t: Any, steps: int, batch: int, seed: int) -> dict[str, Any]:
    """Learn by both, every rate at once: give the loss of each step, (rates, steps)."""
    rows = jax.random.randint(jax.random.key(seed), (steps, batch), 0, len(x))

    def run(rate: Any, too_soon: bool) -> Any:
        def one(params: Any, rows: Any) -> tuple[Any, Any]:
            value, params, _ = step(net, params, x[rows], t[rows], rate, too_soon)
            return params, value

        return jax.lax.scan(one, params, rows)[1]

    names = {"after the last use": False, "too soon": True}
    both = {n: jax.jit(jax.vmap(lambda r, s=s: run(r, s)))(jnp.array(RATES)) for n, s in names.items()}
    return {name: np.asarray(losses) for name, losses in both.items()}


def scanned(depth: int, width: int, n: int) -> dict[str, float]:
    """Give the compiler's temporaries of a scanned step, the params' buffers given back, over the params."""
    net = fnn.Repeat(fnn.Serial(fnn.relu, fnn.Dense(width)), depth)
    x = jax.ShapeDtypeStruct((n, width), jnp.float32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))

    def at_the_end(params: Any, x: Any) -> Any:
        y, residuals = fnn.forward(net, params, x)
        grads, _ = fnn.backward(net, params, residuals, y)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    def after_the_last_use(params: Any, x: Any) -> Any:
        y, residuals = fnn.forward(net, params, x)
        return fnn.backward(net, params, residuals, y, read=descend)[0]

    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    found = {}
    for name, f in (("at the end", at_the_end), ("after the last use", after_the_last_use)):
        told: Any = jax.jit(f, donate_argnums=0).lower(params, x).compile().memory_analysis()
        found[name] = told.temp_size_in_bytes / size
    return found


def descend(factor: Any, param: Any) -> Any:
    """Give the new param: a reader."""
    return param - 0.1 * fnn.readers.gradient(factor, param)


def eager(depth: int, width: int, n: int) -> dict[str, list[float]]:
    """Give the live bytes beyond params and input, over the params, after each backward and update."""
    block = fnn.Serial(fnn.relu, fnn.Dense(width))
    x = jax.random.normal(jax.random.key(0), (n, width), jnp.float32)
    first = [fnn.init(block, key, x) for key in jax.random.split(jax.random.key(1), depth)]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(first))
    found = {}
    for name, read in (("at the end", fnn.readers.gradient), ("after the last use", descend)):
        params: Any = jax.tree.map(jnp.array, first)
        residuals: Any = None
        before, v, kept = live_bytes(), x, []
        for p in params:
            v, residuals = fnn.forward(block, p, v)
            kept.append(residuals)
        dv, told = v, []
        v = residuals = None
        held: Any = [None] * depth
        for i in reversed(range(depth)):
            read_off, dv = fnn.backward(block, params[i], kept.pop(), dv, read=read)
            if read is fnn.readers.gradient:
                held[i] = read_off
            else:
                params[i] = read_off
            del read_off
            told.append((live_bytes() - before) / size)
        if read is fnn.readers.gradient:
            for i in reversed(range(depth)):
                params[i] = jax.tree.map(lambda p, g: p - 0.1 * g, params[i], held[i])
                held[i] = None
                told.append((live_bytes() - before) / size)
        found[name] = told
        dv = params = None
    return found


def main(options: Options, width: int = 64, steps: int = 400, batch: int = 64) -> dict[str, Any]:
    """Measure errors, learning and memory; print, draw, write."""
    digits = from_scikit_learn(options.seed)
    net = fnn.Serial(*fnn.mlp([64, *[width] * 5, 10]).layers)
    x, t = jnp.asarray(digits.x), jnp.asarray(digits.t)
    params = fnn.init(net, jax.random.key(options.seed), x)
    off = errors(net, params, x[:256], t[:256])
    heading("Updated too soon: how far each weight's gradient is off, at the first step")
    names = [f"W{i}" for i in range(1, len(off[RATES[0]]) + 1)]
    print(table(("rate", *names), [(r, *(f"{e:.2%}" for e in row)) for r, row in off.items()], left=0))
    losses = learn(net, params, x, t, steps * (1 + 4 * options.full), batch, options.seed)
    heading(f"What it does to learning: mean loss of the last 50 of {len(losses['too soon'][0])} steps")
    last = {name: values[:, -50:].mean(1) for name, values in losses.items()}
    print(
        table(
            ("rate", *last),
            [(r, *(f"{v[i]:.4f}" for v in last.values())) for i, r in enumerate(RATES)],
            left=0,
        )
    )
    blow_ups = [
        int(np.argmin(np.isfinite(v))) if not np.isfinite(v).all() else None for v in losses["too soon"]
    ]
    told = [f"{rate:g}: step {i}" for rate, i in zip(RATES, blow_ups, strict=True) if i is not None]
    print(f"Updated too soon, the loss stops being a number at rate {', '.join(told) or 'none'}.")
    lives, temporaries = eager(16, width * 4, 32), scanned(16, width * 4, 32)
    heading("Bytes of a step beyond params and input, in sizes of the params (16 equal blocks)")
    rows = [(n, f"{max(lives[n]):.3f}", f"{temporaries[n]:.3f}") for n in lives]
    print(table(("update", "most live arrays, eager", "compiler's temporaries, scanned"), rows))
    held, all_held = (max(lives[name]) for name in ("after the last use", "at the end"))
    print(f"\nUpdate a layer after its last use: that is gradient descent, and holds {held:.2f} instead of")
    print(
        f"{all_held:.2f} sizes of the params. Updated too soon dW1 is {off[0.1][0]:.0%} off at a rate of 0.1."
    )
    found = {
        "relative error of each weight's gradient": off,
        "mean loss of the last 50 steps": {n: v.tolist() for n, v in last.items()},
        "rates": RATES,
        "first step without a loss": blow_ups,
        "live bytes over params": lives,
        "temporaries over params, scanned": temporaries,
    }
    return deliver(options, "when_to_update", found, draw(off, losses, lives))


def draw(off: dict[float, list[float]], losses: dict[str, np.ndarray], lives: dict[str, list[float]]) -> Any:
    """Draw the errors by layer, the loss at each rate, and the temporaries."""
    figure, (left, middle, right) = canvas(
        "After its last use a weight can be updated at once; before it, the gradients behind are wrong",
        3,
        size=(15, 4.8),
    )
    layers = np.arange(1, len(off[RATES[0]]))  # the last layer's gradient has no error
    for shade, (rate, row) in zip(np.linspace(0.4, 1, len(off)), off.items(), strict=True):
        left.plot(layers, row[:-1], color=WARM, alpha=shade, marker="o", markersize=4)
        label(left, (layers[-1], row[-2]), f"rate {rate:g}", WARM)
    left.set(yscale="log", xlabel="layer", title="too soon: dW is off by so much of it", xticks=layers)
    left.yaxis.set_major_formatter(PercentFormatter(1))
    left.set_xlim(right=len(layers) + 1.6)
    right_way = losses["after the last use"]
    for i, style in ((1, "-"), (2, "--")):
        for name, colour in (("after the last use", COOL), ("too soon", WARM)):
            curve = losses[name][i]
            middle.plot(
                curve, color=colour, linestyle=style, linewidth=1.2, label=f"rate {RATES[i]:g}, {name}"
            )
            end = int(np.argmin(np.isfinite(curve))) - 1
            if end >= 0:
                seen = min(curve[end], 40 if i == 1 else 6)
                middle.plot(end, seen, "x", color=colour, markersize=9)  # the last loss that is a number
                label(middle, (end, seen), f"no number\nafter step {end}", colour)
    least = np.nanmin(right_way[1:3])
    middle.set(yscale="log", xlabel="step", ylim=(least / 60, 100), title="too soon: the loss runs away")
    middle.legend(fontsize=10, loc="lower left")
    for (name, told), colour in zip(lives.items(), (SOFT, COOL), strict=True):
        right.step(range(1, len(told) + 1), told, where="mid", color=colour, linewidth=2.4)
        most = int(np.argmax(told))
        label(right, (most + 1, told[most]), f"{name}: {max(told):.2f}", colour, xytext=(10, 6))
    right.set(title="live bytes of gradients and\nupdates, over those of the params", ylim=(0, 1.15))
    right.set(xlabel="block's backward or update", xlim=(0, 1.5 * max(map(len, lives.values()))))
    return figure


if __name__ == "__main__":
    run(main, __doc__)
