"""Does it learn when it is a hundred layers deep?

    python -m experiments.questions.deep

Equal blocks are one `fnn.Repeat`: a scan over stacked params, so that compile time does not grow with
depth. Then whether a hundred layers learn is decided before the first step, by what becomes of a gradient
on its way down: in each layer it is multiplied by W^T and f', and a factor of 0.9 or 1.1 becomes 3e-5 or
1e4. Drawn are the norms of dW by layer, for six initializations and four activations: plain; with a skip
around each block, where the gradient has a way past it; with skip and norm, where no block's input can
grow. They are computed in float64, whose numbers reach further than what becomes of them: beyond 1e-45 and
3e38, float32 has nothing left but zero and infinity.

Last a sweep of learning rates, as one vmapped run, of the plain network with the best of its
initializations and of the one with skips and norms.
"""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

import fnn
from experiments.library.answer import Options, canvas, deliver, heading, run, table
from experiments.library.data import from_scikit_learn
from experiments.library.figures import COOL, GOLD, SOFT, WARM

INITS = {
    "normal 0.01": initializers.normal(0.01),
    "normal 0.1": initializers.normal(0.1),
    "normal 1": initializers.normal(1.0),
    "Glorot": initializers.glorot_normal(),
    "He": initializers.he_normal(),
    "orthogonal": initializers.orthogonal(),
}  # fmt: skip  (LeCun's is Glorot's where a layer has as many inputs as outputs)
ACTIVATIONS = {"relu": fnn.relu, "tanh": fnn.tanh, "gelu": fnn.gelu, "sigmoid": fnn.sigmoid}
KINDS = ("plain", "skip", "skip and norm")
LOST, BURST = 1e-6, 1e6  # norms of a gradient in the first layer
RATES = np.logspace(-4, 0.5, 10)


def network(
    depth: int, width: int, activation: fnn.Layer, init: Any, kind: str, scan: bool = True
) -> fnn.Serial:
    """Make dense, `depth` blocks (activation, dense), dense."""
    block: fnn.Layer = fnn.Serial(activation, fnn.Dense(width, kernel_init=init))
    if kind == "skip and norm":
        block = fnn.Skip(fnn.Serial(fnn.LayerNorm(), block))
    elif kind == "skip":
        block = fnn.Skip(block)
    blocks = (fnn.Repeat(block, depth),) if scan else (block,) * depth
    return fnn.Serial(fnn.Dense(width), *blocks, fnn.Dense(10))


def compile_seconds(depth: int, width: int, scan: bool) -> float:
    """Give the seconds of lowering and compiling a gradient."""
    net = network(depth, width, fnn.relu, INITS["He"], "plain", scan)
    x, t = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    start = time.perf_counter()
    jax.jit(fnn.value_and_grad(net, fnn.softmax_cross_entropy())).lower(params, x, t).compile()
    return time.perf_counter() - start


@partial(jax.jit, static_argnums=0)
def norms_of(net: fnn.Serial, params: Any, x: Any, t: Any) -> Any:
    """Give the norm of every gradient: read inside the scan, so that no stack of them exists."""

    def norm(factor: Any, param: Any) -> Any:
        g = fnn.readers.gradient(factor, param)
        size = jnp.abs(g).max()  # scaled by it, no square underflows
        return size * jnp.linalg.norm(g / jnp.where(size == 0, 1, size))

    return fnn.value_and_grad(net, fnn.softmax_cross_entropy(), read=norm)(params, x, t)[1][1]


def gradient_norms(net: fnn.Serial, x: Any, t: Any, seed: int, like: fnn.Serial | None = None) -> np.ndarray:
    """Give the norm of dW of each repeated layer, first layer first.

    `like` is the same network but for its initializer: what is compiled for it serves all initializers.
    """
    found = norms_of(like or net, fnn.init(net, jax.random.key(seed), x), x, t)
    weights = [
        leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found) if "'kernel'" in str(path[-1])
    ]
    return np.asarray(weights[0])


def every_norm(depth: int, width: int, x: Any, t: Any, seed: int) -> dict[str, np.ndarray]:
    """Give the norms of dW by layer for every kind, activation and initializer."""
    norms: dict[str, np.ndarray] = {}
    for kind in KINDS:
        for name, activation in ACTIVATIONS.items():
            like = network(depth, width, activation, None, kind)
            for init_name, init in INITS.items():
                net = network(depth, width, activation, init, kind)
                norms[f"{kind}, {name}, {init_name}"] = gradient_norms(net, x, t, seed, like)
    return norms


def sweep(net: fnn.Serial, x: Any, t: Any, steps: int, seed: int) -> np.ndarray:
    """Learn at every rate at once, in one vmapped run: give the loss of each step, (rates, steps)."""
    value_and_grad = fnn.value_and_grad(net, fnn.softmax_cross_entropy())
    params = fnn.init(net, jax.random.key(seed), x)

    def learn(rate: Any) -> Any:
        def step(params: Any, rows: Any) -> tuple[Any, Any]:
            value, grads = value_and_grad(params, x[rows], t[rows])
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), value

        rows = jax.random.randint(jax.random.key(seed + 1), (steps, 64), 0, len(x))
        return jax.lax.scan(step, params, rows)[1]

    return np.asarray(jax.jit(jax.vmap(learn))(jnp.asarray(RATES, jnp.float32)))


def main(options: Options, depth: int = 100, width: int = 32, steps: int = 150) -> dict[str, Any]:
    """Time compiling, take gradient norms, sweep rates; print, draw, write."""
    digits = from_scikit_learn(options.seed)
    x, t = jnp.asarray(digits.x), jnp.asarray(digits.t)
    depths = [d for d in (1, 4, 16, depth) if d <= depth]
    compile_seconds(1, width, False)  # what comes first pays for what all need
    seconds = {
        name: {d: compile_seconds(d, width, scan) for d in depths}
        for name, scan in (("scanned", True), ("unrolled", False))
    }
    heading("Seconds to compile a gradient, over depth")
    print(table(("", *map(str, depths)), [(n, *(f"{s[d]:.2f}" for d in depths)) for n, s in seconds.items()]))
    with jax.enable_x64(True):
        norms = every_norm(depth, width, jnp.asarray(x[:64], jnp.float64), t[:64], options.seed)
    heading(f"Norm of dW in the first and in the last of {depth} layers")
    for kind in KINDS:
        rows = []
        for name in ACTIVATIONS:
            ends = (norms[f"{kind}, {name}, {init}"][[0, -1]] for init in INITS)
            rows.append((name, *(f"{a:.0e} {b:.0e}" for a, b in ends)))
        print(table((kind, *INITS), rows), "\n")
    for kind in KINDS:
        first = np.array([values[0] for name, values in norms.items() if name.startswith(f"{kind},")])
        lost, burst = np.sum(first < LOST), np.sum(~(first < BURST))
        told = f"{lost} have a gradient below 1e-6, {burst} one above 1e6"
        print(f"{kind:13}  of {len(first)} first layers, {told}")
    nets = {
        "plain, tanh, orthogonal": network(depth, width, fnn.tanh, INITS["orthogonal"], "plain"),
        "skip and norm, relu, Glorot": network(depth, width, fnn.relu, INITS["Glorot"], "skip and norm"),
    }
    steps *= 1 + 4 * options.full
    curves = {name: sweep(net, x, t, steps, options.seed) for name, net in nets.items()}
    last = {name: c[:, -20:].mean(1) for name, c in curves.items()}
    heading(
        f"Loss after {steps} steps of gradient descent, {depth} layers, {len(RATES)} rates in one vmapped run"
    )
    rows = [(f"{r:.1e}", *(f"{losses[i]:.2f}" for losses in last.values())) for i, r in enumerate(RATES)]
    print(table(("rate", *last), rows))
    found = {
        "seconds to compile": seconds,
        "norm of dW, first and last layer": {k: [float(v[0]), float(v[-1])] for k, v in norms.items()},
        "loss at each rate": {name: values.tolist() for name, values in last.items()},
        "rates": RATES.tolist(),
    }
    return deliver(options, "deep", found, draw(norms))


def draw(norms: dict[str, np.ndarray]) -> Any:
    """Draw the gradient norms by layer, a panel for each kind, coloured by how they end."""
    depth = len(next(iter(norms.values())))
    firsts = {kind: [v[0] for name, v in norms.items() if name.startswith(f"{kind},")] for kind in KINDS}
    spoiled = ", ".join(f"{sum(not LOST <= v < BURST for v in of)} {kind}" for kind, of in firsts.items())
    figure, axes = canvas(
        f"{depth} layers deep, so many of {len(firsts[KINDS[0]])} gradients vanish or burst: {spoiled}",
        len(KINDS), size=(14, 5), sharey=True,
    )  # fmt: skip
    lowest, highest = 1e-30, 1e30
    for part, kind in zip(axes, KINDS, strict=True):
        own = [values for name, values in norms.items() if name.startswith(f"{kind},")]
        fates = {"lost": WARM, "burst": GOLD, "kept": COOL}
        counts = dict.fromkeys(fates, 0)
        for values in own:
            fate = "lost" if values[0] < LOST else "kept" if values[0] < BURST else "burst"
            counts[fate] += 1
            shown = np.clip(np.nan_to_num(values, nan=highest, posinf=highest), lowest, highest)
            part.plot(range(1, depth + 1), shown, color=fates[fate], linewidth=1.3, alpha=0.8)
        part.axhspan(LOST, BURST, color=SOFT, alpha=0.12, linewidth=0)
        part.set(yscale="log", ylim=(lowest, highest), xlim=(1, depth), xlabel="layer", title=kind)
        for (fate, colour), height in zip(fates.items(), (0.06, 0.9, 0.5), strict=True):
            if counts[fate]:
                part.text(0.96, height, f"{counts[fate]} of {len(own)} {fate}", color=colour, ha="right",
                          transform=part.transAxes, fontweight="bold")  # fmt: skip
    axes[0].set_ylabel("norm of dW; grey: 1e-6 to 1e6")
    return figure


if __name__ == "__main__":
    run(main, __doc__)
