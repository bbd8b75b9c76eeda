"""Updating in the backward pass beside the ordinary training step: temporaries, and time in turns.

Run `python -m experiments.bench.update`; `--memory` leaves the times out, `--target h100` compiles for an
accelerator that is not here (`pip install '.[targets]'`) and leaves them out, too. Every step is jitted and
donates params and optimizer state (Adam, float32): it holds one copy of them, and memory is what the
compiler reserves for temporaries beside that. All rows of a table take turns, in another order each round; a
ratio is that of the median times, its spread the quartiles over the rounds of the ratio within a round. The
rows are divided by the first.
"""

import argparse
import time
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

import fnn
from fnn.memory.targets import lower_for

LOSS = fnn.half_squared_error()
ADAM = optax.adam(1e-4)
PLAIN = {"relu": jax.nn.relu, "gelu": lambda x: jax.nn.gelu(x, approximate=False)}


def ordinary(value_and_grad: Any, optimizer: Any = ADAM) -> tuple[Any, Any]:
    """Give the step that is usual with optax, and what makes its state."""

    def step(params, state, x, target):
        value, grads = value_and_grad(params, x, target)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return step, optimizer.init


def by_autodiff(activation: str, scan: bool) -> Any:
    """Give value and gradient of the same network as a user of jax.numpy writes it."""

    def layer(x, own):
        return PLAIN[activation](x) @ own["kernel"] + own["bias"], None

    def value(params, x, target):
        if scan:
            y, _ = jax.lax.scan(layer, x, params[1])
        else:
            y = x
            for own in params[1::2]:
                y, _ = layer(y, own)
        return LOSS(y, target)

    return jax.value_and_grad(value)


def programs(activation: str, width: int, layers: int, scan: bool, x: Any) -> tuple[Any, dict]:
    """Give what makes params, and the rows: each a step, and what makes its optimizer's state."""
    block = fnn.Serial(getattr(fnn, activation), fnn.Dense(width))

    def net(every: int = 1) -> Any:
        return fnn.Repeat(block, layers, every=every) if scan else fnn.Serial(*[block] * layers)

    def in_backward(net: Any, clip: float | None = None) -> tuple[Any, Any]:
        init, step = fnn.train.update_in_backward(net, LOSS, ADAM, clip=clip)
        return step, lambda params: init(params, x)

    clipped = optax.chain(optax.clip_by_global_norm(1.0), ADAM)
    rows = {
        "fnn, then the update": ordinary(fnn.value_and_grad(net(), LOSS)),
        "jax.grad, then the update": ordinary(by_autodiff(activation, scan)),
        "update in the backward pass": in_backward(net()),
        "fnn, clipped, then the update": ordinary(fnn.value_and_grad(net(), LOSS), clipped),
        "clipped update in the backward pass": in_backward(net(), 1.0),
    }
    if scan:
        rows["update in it, every 4th boundary kept"] = in_backward(net(4))
        for bits in (8, 4):
            rows[f"update in it, {bits} bits stored"] = in_backward(
                fnn.memory.stored(net(), fnn.memory.Bits(bits))
            )
    return partial(fnn.init, net(), jax.random.key(1), x), rows


def measure(
    activation: str, width: int, layers: int, n: int, scan: bool, target: str = "here", rounds: int = 0
) -> None:
    """Print the table of one network and batch; times where there are `rounds`."""
    x = jax.random.normal(jax.random.key(0), (n, width))
    make_params, rows = programs(activation, width, layers, scan, x)
    params = jax.eval_shape(make_params)
    first, steps, held, memory = next(iter(rows)), {}, {}, {}
    for row, (step, init) in rows.items():
        state = jax.eval_shape(init, params)
        steps[row] = lower_for(target, step, params, state, x, x, donate=(0, 1)).compile()
        memory[row] = steps[row].memory_analysis().temp_size_in_bytes / 2**20
        if rounds:
            held[row] = (own := make_params()), jax.jit(init)(own)
    times: dict[str, list[float]] = {row: [] for row in steps}
    order, rng = list(steps), np.random.default_rng(0)
    for turn in range(rounds and rounds + 1):  # the first warms up
        rng.shuffle(order)
        for row in order:
            start = time.perf_counter()
            *held[row], value = steps[row](*held[row], x, x)
            jax.block_until_ready((held[row], value))
            if turn:
                times[row].append(time.perf_counter() - start)
    form = "scanned" if scan else "unrolled"
    where = jax.devices()[0].device_kind if target == "here" else target
    print(f"\n{layers} layers of width {width}, {activation}, {form}, batch {n}, on {where}; {rounds} rounds")
    print(f"{'':40}{'MiB':>9}{'ratio':>9}{'ms':>9}{'ratio':>9}{'quartiles':>16}")
    for row in steps:
        line = f"{row:40}{memory[row]:9.1f}{memory[row] / memory[first]:9.2f}"
        if rounds:
            ratio = np.array(times[row]) / np.array(times[first])
            mid, (low, high) = np.median(times[row]), np.percentile(ratio, [25, 75])
            line += f"{1e3 * mid:9.0f}{mid / np.median(times[first]):9.2f}{f'{low:.2f} - {high:.2f}':>16}"
        print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 2048])
    parser.add_argument("--activations", nargs="+", default=["relu", "gelu"], choices=sorted(PLAIN))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--memory", action="store_true", help="no times")
    parser.add_argument("--target", default="here", help='"here", "h100", or a TPU topology')
    options = parser.parse_args()
    for n in options.batches:
        for activation in options.activations:
            for scan in (True, False):
                rounds = 0 if options.memory or options.target != "here" else options.rounds
                measure(activation, options.width, options.layers, n, scan, options.target, rounds)
