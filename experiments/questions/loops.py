"""From loops to matrices: what does each step buy?

    python -m experiments.questions.loops

The classical formulation of backpropagation has a loop over layers, in it one over neurons, in it one over
weights, for one example at a time:

    for each neuron j:   z[j] = b[j] + sum over k of a[k] w[k][j]          a'[j] = f(z[j])
    for each neuron j:   dz[j] = da'[j] f'(z[j])                           db[j] = dz[j]
    for each weight:     dw[k][j] = a[k] dz[j]                             da[k] = sum over j of w[k][j] dz[j]

The loops over neurons and weights are matrix products, and a batch of examples is one more axis of them. Of
the loops only the one over layers remains, and it can be written as a recursion as well: the way down is the
forward, the way back up is the backward, and what must be kept meanwhile lies on the call stack.

    descend(i, a):   if i is past the last layer: return dloss/da
                     z = a W[i] + b[i]
                     dz = descend(i + 1, f(z)) * f'(z)        here the rest of the network runs, both ways
                     keep dW[i] = a^T dz, db[i] = sum dz; return dz W[i]^T

All forms give the same gradients, to 1e-12 and better, in float64. The times are of one gradient divided by
its examples: loops of NumPy scalars in plain Python; NumPy's matrices with one example and with a batch; fnn,
run eagerly and compiled. NumPy's products have one thread: more of them wait for each other in a spin, which
on a busy machine makes them a hundred times slower. Folklore has it that vectorisation makes backpropagation
"about 300 times" faster.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

import fnn
from experiments.library.answer import (
    Options,
    canvas,
    deliver,
    heading,
    labels,
    run,
    table,
)
from experiments.library.by_hand import Grads, Params, loops, matrices, recursion
from experiments.library.figures import COOL, GOLD, INK, SOFT, WARM
from experiments.library.timing import quartiles, race, speedup

LOSS = fnn.half_squared_error(reduction="sum")


def by_fnn(net: fnn.Serial, params: Any, x: Any, t: Any) -> Any:
    """Give the gradients by fnn's loop over layers."""
    y, residuals = fnn.forward(net, params, x)
    _, dy = LOSS.value_and_grad(y, t)
    return fnn.backward(net, params, residuals, dy)[0]


def by_fnn_recursion(layers: tuple[fnn.Layer, ...], params: tuple[Any, ...], x: Any, t: Any) -> Any:
    """Give `(grads, dx)` by a recursion over fnn's layers, each of which is a network."""
    if not layers:
        return (), LOSS.value_and_grad(x, t)[1]
    y, residuals = fnn.forward(layers[0], params[0], x)
    later, dy = by_fnn_recursion(layers[1:], params[1:], y, t)
    grads, dx = fnn.backward(layers[0], params[0], residuals, dy)
    return (grads, *later), dx


def problem(width: int, n: int, seed: int) -> tuple[fnn.Serial, Any, Params, np.ndarray, np.ndarray]:
    """Make a network width-width-10, its params for fnn and for NumPy, inputs and targets."""
    random, net = np.random.default_rng(seed), fnn.Serial(*fnn.mlp([width, width, 10]).layers)
    x, t = random.standard_normal((n, width)), random.standard_normal((n, 10))
    params = fnn.init(net, jax.random.key(seed), jnp.asarray(x))
    return net, params, [(np.asarray(p["kernel"]), np.asarray(p["bias"])) for p in params if p], x, t


def plain(grads: Any) -> Grads:
    """Give fnn's gradients in the form of the others."""
    return [(np.asarray(g["kernel"]), np.asarray(g["bias"])) for g in grads if g]


def largest_difference(some: Grads, others: Grads) -> float:
    """Give the largest difference between gradients, relative to each leaf's largest entry."""
    pairs = [pair for a, b in zip(some, others, strict=True) for pair in zip(a, b, strict=True)]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def differences(width: int, n: int, seed: int) -> dict[str, float]:
    """Give how far every form's gradients are from those of the loops, over a batch of n."""
    net, params, own, x, t = problem(width, n, seed)
    one_by_one = [loops(own, x[i], t[i]) for i in range(n)]
    total = [(sum(w for w, _ in gs), sum(b for _, b in gs)) for gs in zip(*one_by_one, strict=True)]
    data = jnp.asarray(x), jnp.asarray(t)
    forms = {
        "matrices, a loop over layers": matrices(own, x, t),
        "matrices, a recursion": recursion(own, x, t),
        "fnn, eager": plain(by_fnn(net, params, *data)),
        "fnn, compiled": plain(jax.jit(by_fnn, static_argnums=0)(net, params, *data)),
        "fnn, a recursion": plain(by_fnn_recursion(net.layers, params, *data)[0]),
    }
    return {name: largest_difference(grads, total) for name, grads in forms.items()}  # pyright: ignore


def times(width: int, n: int, rounds: int, seed: int) -> dict[str, np.ndarray]:
    """Give the seconds per example of every form, round by round."""
    net, params, own, x, t = problem(width, n, seed)
    data, compiled = (jnp.asarray(x), jnp.asarray(t)), jax.jit(by_fnn, static_argnums=0)
    one: dict[str, Callable[[], Any]] = {
        "loops": lambda: loops(own, x[0], t[0]),
        "matrices, one example": lambda: matrices(own, x[:1], t[:1]),
    }
    batch: dict[str, Callable[[], Any]] = {
        "matrices, batch": lambda: matrices(own, x, t),
        "fnn eager, batch": lambda: by_fnn(net, params, *data),
        "fnn compiled, batch": lambda: compiled(net, params, *data),
    }
    many = {name: 1 if name == "loops" else 5 for name in one | batch}  # calls in a round
    runners = {name: lambda f=f, c=many[name]: [f() for _ in range(c)] for name, f in (one | batch).items()}
    with threadpool_limits(1, user_api="blas"):
        seconds = race(runners, rounds)
    return {name: values / many[name] / (n if name in batch else 1) for name, values in seconds.items()}


def main(options: Options, widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024), n: int = 128) -> Any:
    """Compare the gradients, take the times, print, draw, write."""
    with jax.enable_x64(True):
        heading("The same gradients, whatever the form: largest difference from the loops', relative")
        few = {w: differences(w, 3 if w < 256 else 1, options.seed) for w in widths}
        rows = [(form, *(f"{few[w][form]:.1e}" for w in widths)) for form in few[widths[0]]]
        print(table(("width w of the network w-w-10", *map(str, widths)), rows))
        measured = {
            w: times(w, n, (9 if w < 256 else 3) * (1 + 4 * options.full), options.seed) for w in widths
        }
    heading(
        f"Microseconds per example (float64, network w-w-10, batch {n}), and how many times faster than loops"
    )
    names = list(measured[widths[0]])
    rows = []
    for w, seconds in measured.items():
        cells = [f"{1e6 * quartiles(seconds[name]).median:,.4g}" for name in names]
        gains = [f"{speedup(seconds['loops'], seconds[name]).median:,.0f}x" for name in names[1:]]
        rows.append((w, cells[0], *(f"{c} {g:>9}" for c, g in zip(cells[1:], gains, strict=True))))
    print(table(("w", *names), rows, left=0))
    gains = {w: {k: speedup(s["loops"], s[k]) for k in names[1:]} for w, s in measured.items()}
    alone, batched, compiled = (
        {w: g[k] for w, g in gains.items()}
        for k in ("matrices, one example", "matrices, batch", "fnn compiled, batch")
    )
    near = min(widths, key=lambda w: abs(alone[w].median - 300))
    print('\nThe folklore is "about 300x". Here matrices alone, with one example, are faster than loops')
    for w in sorted({widths[0], near, widths[-1]}):
        print(f"  {alone[w]} times at width {w}" + ", the nearest to 300" * (w == near))
    ranges = [
        " to ".join(f"{f(q.median for q in told.values()):,.0f}" for f in (min, max))
        for told in (batched, compiled)
    ]
    print(
        f"So the figure is that of one width. In a batch of {n}, every number of W that is fetched serves {n}"
    )
    print(f"examples: that is {ranges[0]} times faster with NumPy, {ranges[1]} with fnn compiled.")
    print("(medians of ratios taken in turn, in brackets the quartiles; loops always take one example)")
    found = {
        "largest difference from the loops": few,
        "microseconds per example": {
            w: {k: [1e6 * q for q in quartiles(v)] for k, v in s.items()} for w, s in measured.items()
        },
        "times faster than loops": {w: {k: list(v) for k, v in g.items()} for w, g in gains.items()},
    }
    return deliver(options, "loops", found, draw(measured, n))


def draw(measured: dict[int, dict[str, np.ndarray]], n: int) -> Any:
    """Draw what each form gains over loops, by width."""
    figure, axes = canvas(
        'No single "300x": what matrices gain over loops depends on the width', size=(11, 5.4)
    )
    looks = {
        "matrices, one example": (INK, "o"),
        "matrices, batch": (GOLD, "s"),
        "fnn eager, batch": (COOL, "^"),
        "fnn compiled, batch": (WARM, "D"),
    }
    widths, ends = list(measured), []
    for name, (colour, mark) in looks.items():
        gain = np.array([speedup(measured[w]["loops"], measured[w][name]) for w in widths])
        axes.plot(widths, gain[:, 1], color=colour, marker=mark, markersize=5)
        axes.fill_between(widths, gain[:, 0], gain[:, 2], color=colour, alpha=0.2, linewidth=0)
        ends.append(((widths[-1], gain[-1, 1]), name, colour))
    axes.axhline(300, color=SOFT, linewidth=1, linestyle=":")
    axes.set(title=f"times faster than loops, per example, network w-w-10, batch of {n}; bands: quartiles")
    axes.set(xscale="log", yscale="log", xlabel="width w")
    axes.set_xticks(widths, map(str, widths))
    axes.minorticks_off()
    axes.set_xlim(widths[0] / 1.1, widths[-1] * 4)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.text(widths[-1] * 3.9, 300, "300", ha="right", va="bottom", color=SOFT)
    labels(axes, ends)
    return figure


if __name__ == "__main__":
    run(main, __doc__)
