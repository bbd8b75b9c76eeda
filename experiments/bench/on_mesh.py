"""Networks on a mesh, by fnn and as users of jax.numpy write them, and the compiler's counts of a program."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from experiments.bench.networks import gated as plain_gated
from experiments.bench.networks import product, rms_norm
from experiments.bench.step import PLAIN
from fnn.memory.hlo import Collective, collectives_of

Gradient = Callable[[Any, Any, Any], Any]


class Layout(NamedTuple):
    """A preset, and the axes of the mesh that it is for with their shares of the devices."""

    preset: str
    axes: tuple[str, ...]
    rows: str | None  # the axis over which the rows of data are sharded

    def mesh(self, devices: list[Any], kind: AxisType) -> Mesh:
        """Return the mesh of these devices, of two axes one as near to the square root as the devices let."""
        sizes = (len(devices),)
        if len(self.axes) == 2:
            first = max(n for n in range(1, len(devices)) if len(devices) % n == 0 and n * n <= len(devices))
            sizes = first, len(devices) // first
        return Mesh(np.array(devices).reshape(sizes), self.axes, axis_types=(kind,) * len(sizes))


LAYOUTS = {
    "data": Layout("data", ("data",), "data"),
    "fsdp": Layout("fsdp", ("data",), "data"),
    "tensor": Layout("tensor", ("tensor",), None),
    "fsdp+tensor": Layout("fsdp+tensor", ("fsdp", "tensor"), "fsdp"),
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of the networks."""

    rows: int = 4096
    tokens: int = 64  # of an example, in blocks
    width: int = 256
    hidden: int = 1024
    layers: int = 4
    blocks: int = 8  # of a gated unit whose columns are so ordered
    vocabulary: int = 8192
    dtype: Any = jnp.float32  # of the rows: that of the products


class Network(NamedTuple):
    """A network and its loss, the same as users of jax.numpy write it, an input and a target (shapes)."""

    net: Any
    loss: Any
    plain: Callable[[Any, Any, Any], Any]  # params, x, target -> value
    x: Any
    target: Any

    @property
    def params(self) -> Any:
        """The shapes of the params."""
        key = jax.random.key(0)
        net = jax.eval_shape(lambda x: fnn.init(self.net, key, x), self.x)
        if not self.loss.has_params:
            return net
        y = jax.eval_shape(lambda params, x: fnn.forward(self.net, params, x)[0], net, self.x)
        return net, jax.eval_shape(lambda: self.loss.init(key, y))


def networks(sizes: Sizes) -> dict[str, Network]:
    """Return the networks: a chain, blocks with gates, blocks with biases, and those before a head."""
    d, h, n, gelu = sizes.width, sizes.hidden, sizes.rows, PLAIN["gelu"]
    rows, examples = (n,), (n // sizes.tokens, sizes.tokens)
    dense = {"first": fnn.Dense(d), "output": fnn.Dense(d)}
    gate = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.gated(h), fnn.Dense(d, bias=False)))
    ordered = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.gated(h, blocks=sizes.blocks), fnn.Dense(d, bias=False)))
    wide = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.Dense(h), fnn.gelu, fnn.Dense(d)))

    def of_gate(x: Any, own: Any) -> tuple[Any, None]:
        return x + product(plain_gated(rms_norm(x, own[0]), own[1]), own[3]), None

    def of_ordered(x: Any, own: Any) -> tuple[Any, None]:
        z = product(rms_norm(x, own[0]), own[1])
        z = z.reshape(*z.shape[:-1], sizes.blocks, 2, -1)
        y = jax.nn.silu(z[..., 0, :]) * z[..., 1, :]
        return x + product(y.reshape(*x.shape[:-1], h), own[3]), None

    def of_wide(x: Any, own: Any) -> tuple[Any, None]:
        return x + product(gelu(product(rms_norm(x, own[0]), own[1])), own[3]), None

    def entropy(y: Any, target: Any) -> Any:
        y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
        return -jnp.take_along_axis(jax.nn.log_softmax(y), target[..., None], -1).mean()

    def chain(params: Any, x: Any, target: Any) -> Any:
        x = product(x, params["first"])
        for own in params["hidden"]:
            x = product(gelu(x), own["dense"])
        return entropy(product(gelu(x), params["output"]), target)

    def blocks(block: Callable) -> Callable:
        def run(params: Any, x: Any, target: Any) -> Any:
            x = jax.lax.scan(block, product(x, params["first"]), params["blocks"])[0]
            return entropy(product(rms_norm(x, params["norm"]), params["output"]), target)

        return run

    def head(params: Any, x: Any, target: Any) -> Any:
        net, own = params
        x = net["embedding"]["embedding"][x].astype(sizes.dtype)
        x = jax.lax.scan(of_ordered, x, net["blocks"])[0]
        return entropy(product(rms_norm(x, net["norm"]), own), target)

    def stacked(block: Any) -> fnn.Serial:
        return fnn.Serial(
            first=dense["first"],
            blocks=fnn.Repeat(block, sizes.layers),
            norm=fnn.RMSNorm(),
            output=dense["output"],
        )

    def floats(*shape: int) -> Any:
        return jax.ShapeDtypeStruct((*shape, d), sizes.dtype)

    def integers(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    ce = fnn.softmax_cross_entropy()
    before = fnn.Serial(
        embedding=fnn.Embedding(sizes.vocabulary, d, dtype=sizes.dtype),
        blocks=fnn.Repeat(ordered, sizes.layers),
        norm=fnn.RMSNorm(),
    )

    def of_rows(net: Any, run: Callable) -> Network:
        return Network(net, ce, run, floats(*rows), integers(*rows))

    def of_examples(block: Any, run: Callable) -> Network:
        return Network(stacked(block), ce, blocks(run), floats(*examples), integers(*examples))

    return {
        "mlp": of_rows(fnn.mlp([d, *[h] * sizes.layers, d], fnn.gelu), chain),
        "gated blocks": of_examples(gate, of_gate),
        "gated blocks, ordered": of_examples(ordered, of_ordered),
        "blocks": of_examples(wide, of_wide),
        "head": Network(
            before,
            fnn.LinearCrossEntropy(sizes.vocabulary),
            head,
            integers(*examples),
            integers(*examples),
        ),
    }


class Counts(NamedTuple):
    """The compiler's counts of one device's program."""

    temporaries: int
    collectives: tuple[Collective, ...]

    @property
    def number(self) -> int:
        """How many collectives run."""
        return sum(one.times for one in self.collectives)

    @property
    def bytes(self) -> int:
        """The bytes of their results."""
        return sum(one.times * one.bytes for one in self.collectives)


def counted(f: Callable, args: Any, **options: Any) -> Counts:
    """Compile a function for shapes that have their shardings, and count."""
    program: Any = jax.jit(f, **options).lower(*args).compile()
    return Counts(program.memory_analysis().temp_size_in_bytes, collectives_of(program.as_text()))


def shaped(tree: Any, shardings: Any) -> Any:
    """Return shapes with these shardings, a tree of them or one for all."""
    if not isinstance(shardings, NamedSharding):
        return jax.tree.map(
            lambda s, lie: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=lie), tree, shardings
        )
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=shardings), tree)


def placed(network: Network, layout: Layout, devices: list[Any], kind: AxisType) -> tuple[tuple, Any]:
    """Return the shapes of params, input and target on a mesh, and the shardings of the params."""
    mesh = layout.mesh(devices, kind)
    loss = network.loss if network.loss.has_params else None
    lie = fnn.shardings(network.net, network.params, mesh, layout.preset, x=network.x, loss=loss, large=2**40)
    data = shaped((network.x, network.target), NamedSharding(mesh, P(layout.rows)))
    return (shaped(network.params, lie), *data), lie


def gradients(network: Network, layout: Layout, devices: list[Any]) -> Iterator[Counts]:
    """Count a gradient by jax.grad on Auto axes, and by fnn on Auto and on Explicit ones."""
    run = fnn.value_and_grad(network.net, network.loss)
    for f, kind in (
        (jax.value_and_grad(network.plain), AxisType.Auto),
        (run, AxisType.Auto),
        (run, AxisType.Explicit),
    ):
        args, lie = placed(network, layout, devices, kind)
        options = {"out_shardings": (None, lie)} if kind == AxisType.Auto else {}
        yield counted(f, args, **options)
