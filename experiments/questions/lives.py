"""What must be kept besides the weights, and when may it be freed?

    python -m experiments.questions.lives

A layer's Z = A W + b and A' = f(Z) are both made on the way forward. The backward of the dense layer reads
its input A, that of an activation one of its two sides: Z for gelu, A' for relu, whose slope its output
tells. (A tanh's slope is 1 - A'^2, and could be read there; but where A' has rounded to 1 it is lost, so fnn
reads Z.) A chain is described by its boundaries, and what must be kept is the smallest set of them from which
the others follow without a matrix product: with relu each A (the next dense layer reads it anyway), with
gelu each Z (the next layer's A is made again from it).

A residual may be freed after the last line of the backward that reads it; `fnn.explain` says which that is.
Three policies are measured here, on a network of equal blocks (gelu, dense):

    (a) as the backward goes: each block's residuals are let go when its backward has run
    (b) at the end: all are held until the gradients are there
    (c) never: the buffers are given to the next step, which writes its residuals into them (donation)

Eagerly, the bytes are those of all live arrays after every block, beyond params, input and cotangent. A
caller that holds `residuals` over the whole of `fnn.backward` has policy (b), whatever the inside does: to
have (a), run block by block, each of which is a network. Compiled, they are the compiler's own buffers for
one step, the blocks in a `fnn.Repeat`: its temporaries, and the outputs, among them the residuals where
they outlive the step. The buffers that (c) reuses have the same addresses step after step.
"""

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
    run,
    table,
)
from experiments.library.figures import COOL, INK, SOFT, WARM
from experiments.library.live_arrays import addresses, donated, eager

ACTIVATIONS = [
    name
    for name, f in vars(fnn).items()
    if isinstance(f, fnn.activations.Activation | fnn.activations.Softmax)
]
POLICIES = {"a": "freed as the backward goes", "b": "freed at its end", "c": "given to the next step"}


def sides(activation: fnn.Layer) -> tuple[str, str]:
    """Tell what an activation's backward reads, and what a chain dense-activation-dense keeps inside."""
    net = fnn.Serial(fnn.Dense(4), activation, fnn.Dense(4))
    x = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    params = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    _, residuals = jax.eval_shape(lambda p, x: fnn.forward(net, p, x), params, x)
    kept = {1: "Z", 2: "A"}
    reads = {"input": "Z", "output": "A"}
    return ", ".join(reads[s] for s in activation.needs) or "neither", ", ".join(
        kept[i] for i in residuals.extras[0]
    )


def values(net: fnn.Serial, params: Any, x: Any) -> dict[str, Any]:
    """Give every Z and A of a chain by name: a layer is a network, so run them one by one and look."""
    found, v = {"A0": x}, x
    number = 0
    for layer, p in zip(net.layers, params, strict=True):
        number += bool(p)
        v, _ = fnn.forward(layer, p, v)
        found[("Z" if p else "A") + str(number)] = v
    return found


def network(depth: int, width: int, n: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Make equal blocks (gelu, dense), params, input, and the cotangent of the output."""
    block = fnn.Serial(fnn.gelu, fnn.Dense(width))
    keys = jax.random.split(jax.random.key(seed), depth + 1)
    x = jax.random.normal(keys[-1], (n, width), jnp.float32)
    params = [fnn.init(block, key, x) for key in keys[:-1]]
    return [block] * depth, params, x, jnp.full_like(x, 1 / n)


def compiled(blocks: Any, params: Any, x: Any, dy: Any) -> dict[str, dict[str, int]]:
    """Give the compiler's buffers, in bytes: temporaries, outputs, and outputs that reuse an argument."""
    net = fnn.Repeat(blocks[0], len(blocks))
    flat = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)

    def step(params: Any, x: Any, dy: Any) -> Any:
        _, residuals = fnn.forward(net, params, x)
        return fnn.backward(net, params, residuals, dy)[0]

    def keeping(params: Any, x: Any, dy: Any) -> Any:
        _, residuals = fnn.forward(net, params, x)
        return fnn.backward(net, params, residuals, dy)[0], residuals.extras

    def reusing(params: Any, x: Any, dy: Any, old: Any) -> Any:
        return keeping(params, x, dy)

    old = jax.eval_shape(keeping, flat, x, dy)[1]
    lowered = {
        "a": jax.jit(step).lower(flat, x, dy),
        "b": jax.jit(keeping).lower(flat, x, dy),
        "c": jax.jit(reusing, donate_argnums=3, keep_unused=True).lower(flat, x, dy, old),
    }
    found = {}
    for policy, program in lowered.items():
        memory: Any = program.compile().memory_analysis()
        found[policy] = {
            "temporaries": memory.temp_size_in_bytes,
            "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
            "reused": memory.alias_size_in_bytes,
        }
    return found


def main(options: Options, depth: int = 8, width: int = 128, n: int = 4096) -> dict[str, Any]:
    """Print what is needed and where it is freed; measure the three policies; draw, write."""
    heading("Which of Z and A each activation's backward reads, and what dense-activation-dense keeps")
    needs = {name: sides(getattr(fnn, name)) for name in ACTIVATIONS}
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, told in needs.items():
        grouped.setdefault(told, []).append(name)
    rows = [(*told, ", ".join(names)) for told, names in sorted(grouped.items())]
    print(table(("reads", "kept inside", "A = f(Z) with f one of"), rows, left=3))
    for activation in (fnn.relu, fnn.gelu):
        heading(f"A network with {activation}: where each boundary is kept and freed (v are A and Z in turn)")
        print(fnn.explain(fnn.mlp([5, 4, 4, 3], activation), jax.ShapeDtypeStruct((7, 5), jnp.float32)))
    heading("Every Z and A by name, for debugging; Z3 is the output before its activation")
    small = fnn.Serial(*fnn.mlp([5, 4, 4, 3]).layers, fnn.sigmoid)
    x = jax.random.normal(jax.random.key(options.seed), (7, 5), jnp.float32)
    named = values(small, fnn.init(small, jax.random.key(options.seed), x), x)
    spans = [(k, str(v.shape), f"{float(v.min()):+.3f}", f"{float(v.max()):+.3f}") for k, v in named.items()]
    print(table(("", "shape", "least", "largest"), spans))

    blocks, params, x, dy = network(depth * (1 + options.full), width, n, options.seed)
    unit = x.nbytes
    lives = {policy: list(eager(blocks, params, x, dy, free=policy == "a")) for policy in "ab"}
    _, kept = donated(blocks, params, x, dy, None)
    here = addresses(kept)
    lives["c"], kept = donated(blocks, params, x, dy, kept)
    same = sum(a == b for a, b in zip(here, addresses(kept), strict=True))
    heading(
        f"Live bytes in an eager run, in units of one boundary ({unit / 2**20:.3g} MiB): {len(blocks)} blocks"
    )
    moments = [name for name, _ in lives["a"]]
    rows = [(name, *(f"{lives[p][i][1] / unit:.2f}" for p in "abc")) for i, name in enumerate(moments)]
    print(table(("after", *(f"({p}) {told}" for p, told in POLICIES.items())), rows))
    print(f"(c) {same} of {len(here)} residuals lie where those of the step before lay.")
    heading("The compiler's buffers for one step, in the same units")
    buffers = compiled(blocks, params, x, dy)
    head = ("", "temporaries", "new outputs", "outputs in reused buffers")
    print(
        table(
            head,
            [(f"({p}) {POLICIES[p]}", *(f"{v / unit:.2f}" for v in b.values())) for p, b in buffers.items()],
        )
    )
    told = (f"{p}: {max(v for _, v in lives[p]) / unit:.2f}, {lives[p][-2][1] / unit:.2f}" for p in "abc")
    print(f"\nMost boundaries alive, and at the end of the backward: {'; '.join(told)}.")
    print("To free residuals as the backward goes leaves the peak where it is, at the turn, but makes room")
    print(
        "on the way down. Compiled as a scan, they are one stack until it ends; donated, it is the last one."
    )
    found = {
        "reads, keeps": needs,
        "bytes of a boundary": unit,
        "live bytes": {p: [v for _, v in told] for p, told in lives.items()},
        "moments": moments,
        "residuals at the same address": [same, len(here)],
        "compiler's buffers": buffers,
    }
    return deliver(options, "lives", found, draw(found))


def draw(found: dict[str, Any]) -> Any:
    """Draw the live bytes over time, and the compiler's buffers."""
    unit = found["bytes of a boundary"]
    buffers = {p: {k: v / unit for k, v in b.items()} for p, b in found["compiler's buffers"].items()}
    whole = [sum(parts.values()) for parts in buffers.values()]
    figure, (left, right) = canvas(
        "Residuals freed as the backward goes make room on the way down", 2, size=(13, 5)
    )
    colours = {"a": COOL, "b": WARM, "c": INK}
    steps = np.arange(len(found["moments"]))
    for policy, width, style in (("c", 1.6, "-"), ("b", 4.5, "-"), ("a", 2, "--")):
        level = np.array(found["live bytes"][policy]) / unit
        left.step(steps, level, where="mid", color=colours[policy], linewidth=width, linestyle=style)
    half, most = len(steps) // 2, max(max(values) for values in found["live bytes"].values()) / unit
    at = half + half // 2
    for policy, away in (("b", -14), ("c", 12)):
        level = found["live bytes"][policy][at] / unit
        text = f"({policy}) {POLICIES[policy]}"
        label(left, (at, level), text, colours[policy], xytext=(0, away), ha="center")
    label(left, (half - 0.8, 0.16 * most), "(a) freed as the\nbackward goes", COOL, xytext=(0, 0), ha="right")
    left.axvline(half - 0.5, color=SOFT, linewidth=0.8, linestyle=":")
    left.set(title="eager, block by block: bytes of live arrays", ylabel="boundaries", ylim=(0, 1.15 * most))
    ticks = [0, half - 1, half, 2 * half - 1]
    left.set_xticks(ticks, ["forward 1", str(half), f"backward {half}", "1"])
    for mark, side in zip(left.get_xticklabels(), ("left", "right", "left", "right"), strict=True):
        mark.set_ha(side)
    start = np.zeros(len(buffers))
    shades = {"temporaries": COOL, "outputs": WARM, "reused": "#c9cdd1"}
    for kind, shade in shades.items():
        size = np.array([parts[kind] for parts in buffers.values()])
        title = {"outputs": "new outputs", "reused": "outputs in reused buffers"}.get(kind, kind)
        right.barh(
            [f"({p}) {POLICIES[p]}" for p in buffers], size, left=start, color=shade, height=0.5, label=title
        )
        start += size
    for i, total in enumerate(whole):
        label(right, (total, i), f"{total:.1f}")
    alike = max(whole) - min(whole) < 0.01 * max(whole)
    right.invert_yaxis()
    right.set(xlabel="boundaries", xlim=(0, 1.12 * max(whole)))
    right.set_title("compiled for one step: " + ("as many bytes each way" if alike else "bytes of buffers"))
    right.legend(loc="upper center", bbox_to_anchor=(0.3, -0.14), ncols=3, columnspacing=1)
    return figure


if __name__ == "__main__":
    run(main, __doc__)
