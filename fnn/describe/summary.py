"""A table of a network's layers: shapes, params, flops, and what the forward keeps, by shapes alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import jax

from fnn.compose.branches import Parallel, Skip
from fnn.compose.recomputed import Recomputed
from fnn.compose.repeat import Repeat
from fnn.compose.reversible import Reversible
from fnn.compose.serial import Serial
from fnn.core import forward, init


@dataclass
class Row:
    """One layer: its place, its repr, how often it runs, and its figures over all its runs."""

    place: str
    layer: str
    times: int
    output: str
    params: int
    flops: int
    kept: list[str] = field(default_factory=list)
    kept_bytes: int = 0

    def keep(self, what: str, tree: Any, times: int = 1) -> None:
        """Count the bytes of a residual to this layer."""
        leaves = jax.tree.leaves(tree)
        if leaves:
            self.kept.append(what)
            self.kept_bytes += times * bytes_of(leaves)


@dataclass(frozen=True)
class Summary:
    """The rows and their sums; `print` shows the table. Bytes are bytes, flops those of matrix products."""

    rows: list[Row]

    @property
    def params(self) -> int:
        """The number of params."""
        return sum(row.params for row in self.rows)

    @property
    def flops(self) -> int:
        """The matrix products' flops of one forward pass; a backward pass has twice as many."""
        return sum(row.flops for row in self.rows)

    @property
    def kept_bytes(self) -> int:
        """The bytes of the residuals."""
        return sum(row.kept_bytes for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "", "output", "params", "flops", "keeps", "bytes")
        lines = [
            (row.place, row.layer + f" x {row.times}" * (row.times > 1), row.output, f"{row.params:,}",
             f"{row.flops:,}", ", ".join(row.kept), f"{row.kept_bytes:,}")
            for row in self.rows
        ]  # fmt: skip
        total = ("total", "", "", f"{self.params:,}", f"{self.flops:,}", "", f"{self.kept_bytes:,}")
        table = [head, *lines, total]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        right = {3, 4, 6}
        shown = [
            "  ".join(
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        rule = "-" * max(map(len, shown))
        return "\n".join([shown[0], rule, *shown[1:-1], rule, shown[-1]])


def summary(net: Any, x: Any, key: Any = None) -> Summary:
    """Tell of every layer its output, params, flops, and what the forward keeps of it and in how many bytes.

    `x` is the input or a `jax.ShapeDtypeStruct` of it, (..., k); with a `key`, dropout keeps one. Nothing is
    computed. The bytes add up to those of `forward`'s residuals, for params as `init` makes them.

    >>> import jax.numpy as jnp
    >>> from fnn.compose.networks import mlp
    >>> print(summary(mlp([64, 32, 10]), jax.ShapeDtypeStruct((100, 64), jnp.float32)))
    layer                             output           params    flops  keeps   bytes
    ---------------------------------------------------------------------------------
    .layers[0]  Dense(32, inputs=64)  float32[100,32]   2,080  409,600  input  25,600
    .layers[1]  relu                  float32[100,32]       0        0              0
    .layers[2]  Dense(10, inputs=32)  float32[100,10]     330   64,000  input  12,800
    ---------------------------------------------------------------------------------
    total                                               2,410  473,600         38,400
    """
    x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    params = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    y, residuals = jax.eval_shape(lambda params, x: forward(net, params, x, key), params, x)
    rows = list(_rows("", net, params, x, residuals.extras, 1, 1))
    if rows:
        rows[0].keep("input", residuals.x)
        rows[-1].keep("output", residuals.y)
    return Summary(rows)


def _rows(place: str, layer: Any, params: Any, x: Any, extras: Any, times: int, copies: int) -> Iterator[Row]:
    """Walk a layer's parts; what a composition keeps between them is counted to the part that reads it.

    A layer runs `times` times and has `copies` sets of params: fewer where a `Repeat` shares them.
    """
    if not hasattr(layer, "parts"):
        y, _ = jax.eval_shape(layer.forward, params, x, None)
        size = copies * sum(prod(leaf.shape) for leaf in jax.tree.leaves(params))
        row = Row(place, repr(layer), times, _name(y), size, times * product_flops(layer, params, x))
        row.keep("extras", extras, times)
        yield row
        return
    if isinstance(layer, Recomputed | Reversible):  # what their layers keep, they keep in a second run
        rows = [
            replace(row, kept=[], kept_bytes=0)
            for label, part, p, v in layer.parts(params, x)
            for row in _rows(place + label, part, p, v, _extras(part, p, v), times, copies)
        ]
        if rows:
            rows[0].keep("key", extras, times)
        yield from rows
        return
    inner, own = [extras], {}  # the parts' extras, and what is kept beside them, by the part's number
    match layer:
        case Serial():
            own, inner = extras
        case Skip():
            own, inner = {0: extras[0]}, [extras[1]]
        case Parallel():
            own, inner = dict(enumerate(extras[0])) if layer.join == "sum" else {}, extras[1]
        case Repeat() if layer.every > 1:
            own, inner = {i: kept for i, (kept, _) in enumerate(extras)}, [extra for _, extra in extras]
        case Repeat():
            own, inner = {0: _unstacked(extras[0])}, [_unstacked(extras[1])]
            times, copies = times * layer.n, copies * (1 if layer.shared else layer.n)
    for i, ((label, part, p, v), extra) in enumerate(zip(layer.parts(params, x), inner, strict=True)):
        rows = list(_rows(place + label, part, p, v, extra, times, copies))
        if i in own and rows:
            at_input = isinstance(layer, Serial) or (isinstance(layer, Repeat) and "input" in part.needs)
            rows[0 if at_input else -1].keep("input" if at_input else "output", own[i], times)
        yield from rows


def bytes_of(tree: Any) -> int:
    """Give the bytes of a tree of arrays or shapes."""
    return sum(prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _extras(layer: Any, params: Any, x: Any) -> Any:
    return jax.eval_shape(lambda params, x: layer.forward(params, x, None)[1], params, x)


def _unstacked(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)


def _name(x: Any) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def product_flops(layer: Any, params: Any, x: Any) -> int:
    """Count 2nkj for every matrix product in the layer's forward."""
    return flops_of(jax.make_jaxpr(lambda params, x: layer.forward(params, x, None)[0])(params, x))


def flops_of(jaxpr: Any) -> int:
    """Count 2nkj for every matrix product in a program, as it is before a compiler sees it."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            left = equation.invars[0].aval.shape
            total += 2 * prod(equation.outvars[0].aval.shape) * prod(left[i] for i in contracted)
        for value in equation.params.values():
            if hasattr(value, "eqns"):
                total += equation.params.get("length", 1) * flops_of(value)
            elif hasattr(value, "jaxpr"):
                total += equation.params.get("length", 1) * flops_of(value.jaxpr)
    return total
