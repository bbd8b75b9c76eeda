"""A deep network on a slice of a TPU pod: what one device holds, and what all exchange, by each plan.

    python -m experiments.bench.on_pod                               v5e:16x16, which need not be there
    python -m experiments.bench.on_pod --target v5e:2x2 --layers 8

Eighty blocks of RMSNorm, Dense(16384), gelu, Dense(8192) and a skip in a scan, 65,536 rows, bfloat16; params
and rows lie by the preset "fsdp+tensor". fnn keeps a boundary for each block, or for every eighth; beside it
stand jax.grad, jax.checkpoint around each block with and without its policy `dots_saveable`, and
jax.checkpoint around eight blocks, each as its documentation says. Counts are the compiler's. The target
wants `pip install '.[targets]'`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from experiments.bench.devices import devices_of
from experiments.bench.networks import product, rms_norm
from experiments.bench.on_mesh import counted, shaped
from experiments.bench.step import PLAIN
from experiments.library.results import machine


@dataclass(frozen=True)
class Options:
    """What is compiled, and for what."""

    target: str = "v5e:16x16"
    tensor: int = 8  # devices along the features; the others along the rows
    layers: int = 80
    width: int = 8192
    hidden: int = 16384
    rows: int = 65536
    every: int = 8


def plain(policy: str, every: int) -> Callable[..., Any]:
    """Write the loss as a user of jax.numpy does, with jax.checkpoint by a policy."""

    def block(x: Any, own: Any) -> tuple[Any, None]:
        return x + product(PLAIN["gelu"](product(rms_norm(x, own[0]), own[1])), own[3]), None

    def blocks(x: Any, own: Any) -> tuple[Any, None]:
        return jax.lax.scan(block, x, own)

    body: Any = {
        "jax.grad": block,
        "jax.checkpoint": jax.checkpoint(block),
        "dots_saveable": jax.checkpoint(block, policy=jax.checkpoint_policies.dots_saveable),
        "jax.checkpoint over several": jax.checkpoint(blocks),
    }[policy]

    def loss(params: Any, x: Any, target: Any) -> Any:
        if body is not block and "several" in policy:
            params = jax.tree.map(lambda leaf: leaf.reshape(-1, every, *leaf.shape[1:]), params)
        y = jax.lax.scan(body, x, params)[0]
        return jnp.square((y - target).astype(jnp.float32)).mean()

    return jax.value_and_grad(loss)


def network(o: Options, every: int | None = None) -> fnn.Repeat:
    """Give the blocks, of which every so many-th boundary is kept."""
    block = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.Dense(o.hidden), fnn.gelu, fnn.Dense(o.width)))
    return fnn.Repeat(block, o.layers) if every is None else fnn.Repeat(block, o.layers, every=every)


def ways(o: Options) -> Iterator[tuple[str, Callable[..., Any], AxisType]]:
    """Give the gradients by name, and the axes on which they are compiled."""
    loss = fnn.squared_error()
    for kind in (AxisType.Auto, AxisType.Explicit):
        for every in (None, o.every):
            name = f"fnn{'' if every is None else f', every={every}'}, {kind.name}"
            yield name, fnn.value_and_grad(network(o, every), loss), kind
    for policy in ("jax.grad", "dots_saveable", "jax.checkpoint", "jax.checkpoint over several"):
        yield policy, plain(policy, o.every), AxisType.Auto


def main(o: Options) -> None:
    """Print a row for each way."""
    print(machine(("fnn", "jax")))
    devices = np.array(devices_of(o.target)).reshape(-1, o.tensor)
    print(f"{devices.shape[0]} x {o.tensor} devices of {o.target}; {o}")
    print(f"{'':34}{'MB':>10}{'number':>8}{'GB exchanged':>14}   by kind")
    net = network(o)
    x = jax.ShapeDtypeStruct((devices.shape[0], o.rows // devices.shape[0], o.width), jnp.bfloat16)
    made = jax.eval_shape(partial(fnn.init, net, jax.random.key(0)), x)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, x.dtype), made)
    for name, f, kind in ways(o):
        mesh = Mesh(devices, ("fsdp", "tensor"), axis_types=(kind,) * 2)
        lie = fnn.shardings(net, params, mesh, "fsdp+tensor", x=x)
        data = shaped((x, x), NamedSharding(mesh, P("fsdp")))
        options = {"out_shardings": (None, lie)} if kind == AxisType.Auto else {}
        try:
            found = counted(f, (shaped(params, lie), *data), **options)
        except jax.errors.JaxRuntimeError as error:
            if "Ran out of memory" not in str(error):
                raise
            print(
                f"{name:34}does not fit: {re.sub('.*the total memory', 'the total memory', str(error))[:90]}"
            )
            continue
        kinds: dict[str, float] = {}
        for one in found.collectives:
            kinds[one.op] = kinds.get(one.op, 0) + one.times * one.bytes / 1e9
        shown = ", ".join(f"{kind} {amount:.2f}" for kind, amount in sorted(kinds.items()))
        print(
            f"{name:34}{found.temporaries / 1e6:10.0f}{found.number:8}{found.bytes / 1e9:14.2f}   {shown}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
