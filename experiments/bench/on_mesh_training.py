"""What trains with less memory, on a mesh: fnn beside what one writes around jax.grad for the same."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType

import fnn
from experiments.bench.networks import product, rms_norm
from experiments.bench.on_mesh import LAYOUTS, Counts, Network, Sizes, counted, networks, placed, shaped
from experiments.bench.step import PLAIN

PARTS = 4  # microbatches
ADAM = optax.adam(1e-3)


class Program(NamedTuple):
    """A gradient or a step of a network, plain and by fnn, and the presets under which it is counted.

    Args:
        network: the network.
        plain: `plain(params, x, target)`, or `plain(params, state, x, target)` with an optimizer's state.
        ours: the same by fnn.
        layouts: the names of the presets.
        init: `init(params)` makes the state, None where there is none.
    """

    network: Network
    plain: Callable[..., Any]
    ours: Callable[..., Any]
    layouts: tuple[str, ...]
    init: Callable[..., Any] | None = None


def reversible(sizes: Sizes) -> Network:
    """Return reversible blocks between two dense layers, and the same with `jax.checkpoint` around each."""
    d, gelu = sizes.width, PLAIN["gelu"]

    def half() -> fnn.Serial:
        return fnn.Serial(fnn.RMSNorm(), fnn.Dense(sizes.hidden), fnn.gelu, fnn.Dense(d // 2))

    def of_half(x: Any, own: Any) -> Any:
        return product(gelu(product(rms_norm(x, own[0]), own[1])), own[3])

    @jax.checkpoint
    def block(x: Any, own: Any) -> Any:
        x1, x2 = jnp.split(x, 2, -1)
        y1 = x1 + of_half(x2, own[0])
        return jnp.concatenate([y1, x2 + of_half(y1, own[1])], -1)

    def run(params: Any, x: Any, target: Any) -> Any:
        x = product(x, params["first"])
        x = jax.lax.scan(lambda x, own: (block(x, own), None), x, params["blocks"])[0]
        y = product(rms_norm(x, params["norm"]), params["output"]).astype(jnp.float32)
        return -jnp.take_along_axis(jax.nn.log_softmax(y), target[..., None], -1).mean()

    blocks = fnn.Repeat(fnn.Reversible(half(), half()), sizes.layers)
    net = fnn.Serial(first=fnn.Dense(d), blocks=blocks, norm=fnn.RMSNorm(), output=fnn.Dense(d))
    return networks(sizes)["blocks"]._replace(net=net, plain=run)


def programs(sizes: Sizes) -> dict[str, Program]:
    """Return the programs by name."""
    blocks, halves = networks(sizes)["blocks"], reversible(sizes)
    init, in_backward = fnn.train.update_in_backward(blocks.net, blocks.loss, ADAM)
    n = blocks.x.shape[0]
    step = fnn.train.make_step(blocks.net, blocks.loss, ADAM, microbatch=n // PARTS)

    def updated(params: Any, state: Any, grads: Any) -> Any:
        updates, state = ADAM.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def plain(params: Any, state: Any, x: Any, target: Any) -> Any:
        value, grads = jax.value_and_grad(blocks.plain)(params, x, target)
        return *updated(params, state, grads), value

    def plain_in_parts(params: Any, state: Any, x: Any, target: Any) -> Any:
        def cut(leaf: Any) -> Any:  # every part has rows of all devices
            return jnp.moveaxis(leaf.reshape(n // PARTS, PARTS, *leaf.shape[1:]), 1, 0)

        def add(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(blocks.plain)(params, *part)), None

        start = jnp.float32(0), jax.tree.map(jnp.zeros_like, params)
        value, grads = jax.tree.map(
            lambda sum: sum / PARTS, jax.lax.scan(add, start, (cut(x), cut(target)))[0]
        )
        return *updated(params, state, grads), value

    def in_parts(params: Any, state: Any, x: Any, target: Any) -> Any:
        params, state, metrics = step.updates(params, state, (x, target, None), None, None)
        return params, state, metrics["loss"]

    bits = fnn.memory.stored(blocks.net, fnn.memory.Bits(4))
    return {
        "update in backward": Program(blocks, plain, in_backward, ("data", "fsdp", "fsdp+tensor"), init),
        "microbatches": Program(
            blocks, plain_in_parts, in_parts, ("data", "fsdp"), lambda params, x: ADAM.init(params)
        ),
        "Bits(4)": Program(
            blocks,
            jax.value_and_grad(blocks.plain),
            fnn.value_and_grad(bits, blocks.loss),
            ("data", "fsdp", "tensor", "fsdp+tensor"),
        ),
        "Reversible": Program(
            halves,
            jax.value_and_grad(halves.plain),
            fnn.value_and_grad(halves.net, halves.loss),
            ("data", "fsdp", "tensor", "fsdp+tensor"),
        ),
    }


def trained(program: Program, layout: str, devices: list[Any]) -> Iterator[Counts]:
    """Count a program by jax.grad on Auto axes, and by fnn on Auto and on Explicit ones."""
    for f, init, kind in (
        (program.plain, lambda params, x: ADAM.init(params), AxisType.Auto),
        (program.ours, program.init, AxisType.Auto),
        (program.ours, program.init, AxisType.Explicit),
    ):
        (params, x, target), lie = placed(program.network, LAYOUTS[layout], devices, kind)
        auto = kind == AxisType.Auto
        if init is None or program.init is None:
            yield counted(f, (params, x, target), **({"out_shardings": (None, lie)} if auto else {}))
            continue
        state = jax.eval_shape(init, params, x)
        there = fnn.train.shardings_like(state, params, lie)
        out = {"out_shardings": (lie, there, None)} if auto else {}
        yield counted(f, (params, shaped(state, there), x, target), donate_argnums=(0, 1), **out)
