"""Stochastic, mini-batch or full batch?

    python -m experiments.questions.batch_size

Batch size and learning rate are data here, so that every pair of them is one run of a single vmapped
experiment on scikit-learn's digits: stochastic (one example a step), mini-batch, and full batch. All runs
walk through the examples in ticks of the smallest batch and add up gradients; a run whose batch is full makes
its step and begins a new sum. So each sees the same examples at the same tick, and costs the same.

What the vmapped run cannot tell is time: one product over 256 examples is much faster than 256 products.
That is timed apart, for each batch size by itself as a scan over steps, and turns examples seen into
seconds.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps

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
from experiments.library.data import from_scikit_learn
from experiments.library.timing import quartiles, race

LOSS = fnn.softmax_cross_entropy()
BATCHES = (1, 4, 16, 64, 256, 1437)  # one example; all of them
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def learn(
    net: Any, x: Any, t: Any, batches: Any, rates: Any, epochs: int, tick: int, seed: int
) -> np.ndarray:
    """Learn for every batch size (multiples of `tick`) and rate: losses (batches, rates, epochs + 1)."""
    value_and_grad, ticks = fnn.value_and_grad(net, LOSS), len(x) // tick
    first = fnn.init(net, jax.random.key(seed), x)

    def curve(batch: Any, rate: Any) -> Any:
        def one(state: Any, rows: Any) -> tuple[Any, None]:
            params, total, count = state
            _, grads = value_and_grad(params, x[rows], t[rows])
            total, count = jax.tree.map(jnp.add, total, grads), count + tick
            full = count >= batch  # a batch is full: step by the mean of its ticks' gradients
            factor = jnp.where(full, rate * tick / batch, 0).astype(x.dtype)
            params = jax.tree.map(lambda p, g: p - factor * g, params, total)
            total = jax.tree.map(lambda g: jnp.where(full, 0, g), total)
            return (params, total, jnp.where(full, 0, count)), None

        def epoch(state: Any, key: Any) -> tuple[Any, Any]:
            rows = jax.random.permutation(key, len(x))[: ticks * tick].reshape(ticks, tick)
            state, _ = jax.lax.scan(one, state, rows)
            return state, loss(state[0])

        def loss(params: Any) -> Any:
            return LOSS(fnn.forward(net, params, x)[0], t)

        start = first, jax.tree.map(jnp.zeros_like, first), jnp.int32(0)
        losses = jax.lax.scan(epoch, start, jax.random.split(jax.random.key(seed + 1), epochs))[1]
        return jnp.concatenate([loss(first)[None], losses])

    every = jax.jit(jax.vmap(jax.vmap(curve, (None, 0)), (0, None)))
    return np.asarray(every(jnp.asarray(batches, jnp.int32), jnp.asarray(rates, x.dtype)))


def seconds_per_epoch(net: Any, x: Any, t: Any, batches: Any, rounds: int) -> dict[int, np.ndarray]:
    """Give the seconds of an epoch of each batch size by itself, compiled as a scan over its steps."""
    params, value_and_grad = fnn.init(net, jax.random.key(0), x), fnn.value_and_grad(net, LOSS)

    def epoch(params: Any, rows: Any) -> Any:
        def step(params: Any, rows: Any) -> tuple[Any, None]:
            _, grads = value_and_grad(params, x[rows], t[rows])
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), None

        return jax.lax.scan(step, params, rows)[0]

    compiled, runners = jax.jit(epoch), {}
    for batch in batches:
        rows = jnp.arange(len(x) // batch * batch).reshape(-1, batch)
        runners[str(batch)] = lambda rows=rows: compiled(params, rows)
    return {int(name): values for name, values in race(runners, rounds).items()}


def main(options: Options, epochs: int = 30, batches: tuple[int, ...] = BATCHES) -> dict[str, Any]:
    """Run the experiment, time each batch size, print, draw, write."""
    digits = from_scikit_learn(options.seed)
    x, t = jnp.asarray(digits.x[: batches[-1]]), jnp.asarray(digits.t[: batches[-1]])
    net = fnn.mlp([64, 32, 10])
    epochs *= 1 + 4 * options.full
    losses = learn(net, x, t, batches, RATES, epochs, batches[0], options.seed)
    seconds = {b: quartiles(v) for b, v in seconds_per_epoch(net, x, t, batches, 31).items()}
    heading(f"Loss over all {len(x):,} digits after {epochs} epochs, {losses[..., 0].size} runs as one")
    rows = [(b, *(f"{v:.4f}" for v in losses[i, :, -1])) for i, b in enumerate(batches)]
    print(table(("batch", *(f"rate {r:g}" for r in RATES)), rows, left=0))
    best = np.nanargmin(losses[:, :, -1], axis=1)
    goal = 0.2
    told, reached = [], {}
    for i, b in enumerate(batches):
        curve = losses[i, best[i]]
        epoch = int(np.argmax(curve < goal)) if (curve < goal).any() else None
        reached[b] = epoch
        time = "-" if epoch is None else f"{1e3 * epoch * seconds[b].median:.3g}"
        shown = "-" if epoch is None else f"{epoch * len(x):,}"
        told.append(
            (b, f"{RATES[best[i]]:g}", f"{curve[-1]:.4f}", shown, f"{1e3 * seconds[b].median:.3g}", time)
        )
    heading(f"Each batch size at its best rate, and what it takes to a loss below {goal}")
    print(table(("batch", "rate", "last loss", "examples seen", "ms per epoch", "ms"), told, left=0))
    took = {b: epoch * seconds[b].median for b, epoch in reached.items() if epoch is not None}
    if took:
        first, fastest = min(took, key=lambda b: (reached[b], b)), min(took, key=lambda b: took[b])
        slow = seconds[batches[0]].median / seconds[fastest].median
        print(f"\nFewest examples to there: batch {first}. Least time: batch {fastest}: an epoch of batch")
        print(
            f"{batches[0]} takes {slow:.1f} times as long as of {fastest}. Full batch, an epoch is one step:"
        )
        print(f"after {epochs} of them the loss is {losses[-1, best[-1], -1]:.2f}, at its best rate.")
    found = {
        "loss after each epoch": {b: losses[i].tolist() for i, b in enumerate(batches)},
        "best rate": {b: RATES[best[i]] for i, b in enumerate(batches)},
        f"epochs to a loss below {goal}": reached,
        "seconds per epoch": {b: list(q) for b, q in seconds.items()},
        "rates": RATES,
    }
    return deliver(options, "batch_size", found, draw(losses, best, seconds, len(x)))


def draw(losses: np.ndarray, best: np.ndarray, seconds: dict[int, Any], n: int) -> Any:
    """Draw each batch size at its best rate, over examples and over time."""
    batches, epoch = list(seconds), [q.median for q in seconds.values()]
    far = int(np.nanargmin([losses[i, b, -1] for i, b in enumerate(best)]))
    quick = batches[int(np.argmin(epoch))]
    slow = f"its epoch takes {epoch[far] / min(epoch):.1f} times as long as that of {quick}"
    message = f"Batch {batches[far]} comes furthest with the same examples; {slow}"
    figure, (left, right) = canvas(message, 2, size=(13, 5))
    shades = colormaps["viridis"](
        np.linspace(0, 0.78, len(best))
    )  # from small to large, for the colour-blind too
    ends, timed = [], []
    for (batch, q), i, colour in zip(seconds.items(), range(len(best)), shades, strict=True):
        curve = losses[i, best[i]]
        epochs = np.arange(len(curve))
        left.plot(epochs * n / 1000, curve, color=colour)
        ends.append(((epochs[-1] * n / 1000, curve[-1]), f"batch {batch}, rate {RATES[best[i]]:g}", colour))
        right.plot(epochs[1:] * q.median * 1e3, curve[1:], color=colour)
        timed.append(((epochs[-1] * q.median * 1e3, curve[-1]), f"{batch}", colour))
    left.set(
        yscale="log", xlabel="examples seen, in thousands", title="loss over examples, each at its best rate"
    )
    left.set_xlim(0, left.get_xlim()[1] * 1.55)
    right.set(yscale="log", xscale="log", xlabel="milliseconds", title="loss of the same runs over time")
    labels(left, ends)
    for end in timed:
        label(right, *end)
    return figure


if __name__ == "__main__":
    run(main, __doc__)
