"""Adam steps at seven sizes, of every kind of network: fnn beside the best of plain JAX, Flax and Equinox.

    python -m experiments.bench.steps --rounds 15
    python -m experiments.bench.steps --rounds 15 --cores 1

Every program is a compiled step that takes and gives params and the optimizer's state, on the same numbers:
`fnn.value_and_grad`, and `jax.value_and_grad` of the network as a user of jax.numpy, of Flax's Linen and of
Equinox writes it, with optax's loss. They take turns; a turn is as many steps as take a millisecond. The
ratio is that of fnn's median time to the least of the others' medians, with the quartiles of the ratios of
the rounds; below 1 fnn is faster.

XLA divides an elementwise loop among threads where it has more operations than bytes, as fnn's activations,
and leaves shorter formulas on one; what waking a thread costs is told from the operations with `--cores 1`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import linen

import fnn
from experiments.bench.step import PLAIN
from experiments.library.timing import quartiles, race

SIZES = {  # widths, batch
    "4-8-3": ((4, 8, 3), 32),
    "64-32-10": ((64, 32, 10), 32),
    "96-48-48-7": ((96, 48, 48, 7), 64),
    "784-512-512-10": ((784, 512, 512, 10), 128),
    "1024 x 5": ((1024,) * 5 + (10,), 256),
    "512 x 8": ((512,) * 8 + (10,), 1024),
    "2048 x 4": ((2048,) * 4 + (10,), 1024),
}
KINDS = ("relu", "gelu", "gelu_tanh", "silu", "tanh", "norm", "gated", "head")
ADAM = optax.adam(1e-3)
Program = tuple[Callable[..., Any], Any]  # a function of params, x and labels, and its params


@dataclass(frozen=True)
class Options:
    """What to measure."""

    rounds: int = 15
    kinds: tuple[str, ...] = KINDS
    sizes: tuple[str, ...] = tuple(SIZES)
    cores: int | None = None  # how many of the machine's to run on; None for all


def classified(y: Any, labels: Any) -> Any:
    """Give the usual loss, by optax."""
    return optax.softmax_cross_entropy_with_integer_labels(y, labels).mean()


def dense(key: Any, *shape: int) -> Any:
    kernel = jax.random.normal(key, shape) * shape[0] ** -0.5
    return {"kernel": kernel, "bias": jnp.zeros(shape[-1])}


def product(own: Any, x: Any) -> Any:
    return x @ own["kernel"] + own["bias"]


def rms(own: Any, x: Any) -> Any:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * own["scale"]


def layer_norm(own: Any, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6) * own["scale"]
        + own["bias"]
    )


class Linen(linen.Module):
    """A network of Flax."""

    kind: str
    sizes: tuple[int, ...]

    @linen.compact
    def __call__(self, x: Any) -> Any:
        for size in self.sizes[1:-1]:
            if self.kind == "gated":
                z = linen.Dense(2 * size, use_bias=False)(linen.RMSNorm()(x))
                x = x + linen.Dense(size, use_bias=False)(linen.silu(z[..., :size]) * z[..., size:])
            elif self.kind == "norm":
                x = linen.gelu(linen.LayerNorm()(linen.Dense(size)(x)), approximate=False)
            else:
                x = PLAIN["relu" if self.kind == "head" else self.kind](linen.Dense(size)(x))
        return linen.Dense(self.sizes[-1])(x)


def ours(kind: str, sizes: tuple[int, ...]) -> tuple[Any, Any]:
    """Give fnn's network and loss."""
    loss = fnn.softmax_cross_entropy()
    if kind == "gated":
        blocks = [
            fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.gated(k), fnn.Dense(k, bias=False))) for k in sizes[1:-1]
        ]
        return fnn.Serial(*blocks, fnn.Dense(sizes[-1])), loss
    if kind == "norm":
        blocks = [fnn.Serial(fnn.Dense(k), fnn.LayerNorm(), fnn.gelu) for k in sizes[1:-1]]
        return fnn.Serial(*blocks, fnn.Dense(sizes[-1])), loss
    if kind == "head":
        layers = [layer for k in sizes[1:-1] for layer in (fnn.Dense(k), fnn.relu)]
        return fnn.Serial(*layers), fnn.LinearCrossEntropy(sizes[-1], bias=True)
    return fnn.mlp(sizes, getattr(fnn, kind)), loss


def plain(kind: str, sizes: tuple[int, ...]) -> Program:
    """Give the network as a user of jax.numpy writes it."""
    keys = iter(jax.random.split(jax.random.key(0), 3 * len(sizes)))
    params, f = [], PLAIN.get(kind, jax.nn.relu)
    for k, j in zip(sizes, sizes[1:-1], strict=False):
        if kind == "gated":
            params.append(
                {
                    "norm": {"scale": jnp.ones(k)},
                    "up": dense(next(keys), k, 2 * j),
                    "down": dense(next(keys), j, j),
                }
            )
            del params[-1]["up"]["bias"], params[-1]["down"]["bias"]
        elif kind == "norm":
            params.append(
                {"dense": dense(next(keys), k, j), "norm": {"scale": jnp.ones(j), "bias": jnp.zeros(j)}}
            )
        else:
            params.append(dense(next(keys), k, j))
    params.append(dense(next(keys), sizes[-2], sizes[-1]))

    def run(params: Any, x: Any) -> Any:
        for own in params[:-1]:
            if kind == "gated":
                gate, value = jnp.split(rms(own["norm"], x) @ own["up"]["kernel"], 2, -1)
                x = x + (jax.nn.silu(gate) * value) @ own["down"]["kernel"]
            elif kind == "norm":
                x = PLAIN["gelu"](layer_norm(own["norm"], product(own["dense"], x)))
            else:
                x = f(product(own, x))
        return product(params[-1], x)

    return jax.value_and_grad(lambda p, x, labels: classified(run(p, x), labels)), params


def programs(kind: str, sizes: tuple[int, ...], x: Any) -> dict[str, Program]:
    """Give the gradient functions by the name of their library; fnn's is the first."""
    key = jax.random.key(0)
    net, loss = ours(kind, sizes)
    made = fnn.init(net, key, x)
    if kind == "head":
        made = (made, loss.init(key, jax.eval_shape(partial(fnn.output, net), made, x)))
    module = Linen(kind, sizes)
    found: dict[str, Program] = {
        "fnn": (fnn.value_and_grad(net, loss), made),
        "JAX": plain(kind, sizes),
        "Flax": (
            jax.value_and_grad(lambda p, x, labels: classified(module.apply(p, x), labels)),
            module.init(key, x),
        ),
    }
    if kind in PLAIN:
        layers = [eqx.nn.Linear(k, j, key=key) for k, j in zip(sizes, sizes[1:], strict=False)]

        def run(layers: Any, x: Any) -> Any:
            for layer in layers[:-1]:
                x = PLAIN[kind](layer(x))
            return layers[-1](x)

        found["Equinox"] = (
            jax.value_and_grad(lambda p, x, labels: classified(jax.vmap(partial(run, p))(x), labels)),
            layers,
        )
    return found


def loop(program: Program, x: Any, labels: Any, options: Any = None) -> Callable[[int], None]:
    """Compile a step, by options of the compiler, and give what runs it some times."""
    grad, params = program
    state = [params, ADAM.init(params)]

    def step(params: Any, state: Any, x: Any, labels: Any) -> Any:
        _, gradient = grad(params, x, labels)
        updates, state = ADAM.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, compiler_options=options).lower(*state, x, labels).compile()

    def run(times: int) -> None:
        for _ in range(times):
            state[:] = compiled(*state, x, labels)
        jax.block_until_ready(state)

    return run


def turns(loops: dict[str, Callable[[int], None]], rounds: int) -> dict[str, np.ndarray]:
    """Let the programs take turns of a millisecond or more: give the seconds of a step, one a round."""
    for run in loops.values():
        run(2)
    start = time.perf_counter()
    loops["JAX"](4)
    times = max(1, int(4e-3 / (time.perf_counter() - start)))
    taken = race({key: partial(run, times) for key, run in loops.items()}, rounds)
    return {key: seconds / times for key, seconds in taken.items()}


def main(options: Options) -> None:
    """Print one line for each kind and size."""
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    os.sched_setaffinity(0, cores)  # before XLA counts them
    device = f"{jax.devices()[0].device_kind} on {len(cores)} cores"
    print(f"jax {jax.__version__}, {device}; Adam steps, float32")
    print(f"{'kind':10} {'size':16} {'ms of the best other':>30}   fnn / it (quartiles)    all others")
    for kind in options.kinds:
        for name in options.sizes:
            sizes, batch = SIZES[name]
            if kind == "gated":  # a residual stream has one width
                sizes = (sizes[1],) * (len(sizes) - 1) + sizes[-1:]
            x = jax.random.normal(jax.random.key(1), (batch, sizes[0]))
            labels = jnp.arange(batch) % sizes[-1]
            loops = {key: loop(p, x, labels) for key, p in programs(kind, sizes, x).items()}
            seconds = turns(loops, options.rounds)
            own, medians = seconds.pop("fnn"), {key: np.median(t) for key, t in seconds.items()}
            best = min(medians, key=lambda key: medians[key])
            spread, ratio = quartiles(own / seconds[best]), np.median(own) / medians[best]
            others = ", ".join(f"{key} {1e3 * ms:.3g}" for key, ms in medians.items())
            print(
                f"{kind:10} {name + ', ' + str(batch):20} {1e3 * medians[best]:10.3g} {best:8}"
                f" {ratio:10.2f} ({spread.low:.2f} - {spread.high:.2f})    {others}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Options))
