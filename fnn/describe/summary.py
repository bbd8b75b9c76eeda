"""A table of a network's layers: shapes, params, flops, and what the forward keeps, from shapes alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any

import jax

from fnn.arrays import bytes_of, shapes_of
from fnn.contract import run
from fnn.core import Composition, Layer, init
from fnn.errors import describe
from fnn.flops import product_flops


@dataclass
class Row:
    """One layer of a summary, with figures summed over all of its runs.

    Args:
        place: the layer's place in the network.
        layer: the layer's repr.
        times: the number of its runs.
        output: the dtype and shape of its output in one run.
        params: the number of its params.
        flops: the flops of the matrix products of its forward.
        kept: the names of the residuals kept for it.
        kept_bytes: the bytes of these.
    """

    place: str
    layer: str
    times: int
    output: str
    params: int
    flops: int
    kept: list[str] = field(default_factory=list)
    kept_bytes: int = 0

    def keep(self, what: str, tree: Any, times: int = 1) -> None:
        """Add a residual to this layer, in place.

        Args:
            what: the name of the residual.
            tree: a pytree of arrays or shapes, kept in each run.
            times: the number of runs.
        """
        leaves = jax.tree.leaves(tree)
        if leaves:
            self.kept.append(what)
            self.kept_bytes += times * bytes_of(leaves)


@dataclass(frozen=True)
class Summary:
    """The rows of the layers and their sums; `print` shows a table.

    Args:
        rows: a `Row` for each layer, in the order of the forward.

    >>> import fnn, jax
    >>> found = summary(fnn.mlp([64, 32, 10]), jax.ShapeDtypeStruct((100, 64), "float32"))
    >>> found.params, found.flops, found.kept_bytes
    (2410, 473600, 38400)
    """

    rows: list[Row]

    @property
    def params(self) -> int:
        """The number of params."""
        return sum(row.params for row in self.rows)

    @property
    def flops(self) -> int:
        """The flops of the matrix products of one forward pass; a backward pass has twice as many."""
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


def summary(net: Layer, x: Any, key: Any = None, params: Any = None) -> Summary:
    """List the output, params, flops and kept residuals of every layer, without computing anything.

    Args:
        net: the network, any layer.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`, or a pytree of these.
        key: a random key, for a forward with dropout, which keeps it; None for none.
        params: the params or their shapes, for a network without an `init`; None for those that it makes.

    Returns:
        a `Summary`. Its bytes add up to those of the residuals of `forward` for these params; its flops are
        those of matrix products.

    Raises:
        InputError: where `x` does not fit the network.

    >>> import jax.numpy as jnp
    >>> from fnn.compose.networks import mlp
    >>> print(summary(mlp([64, 32, 10]), jax.ShapeDtypeStruct((100, 64), jnp.float32)))
    layer                                 output           params    flops  keeps   bytes
    -------------------------------------------------------------------------------------
    ["first"]       Dense(32, inputs=64)  float32[100,32]   2,080  409,600  input  25,600
    ["activation"]  relu                  float32[100,32]       0        0              0
    ["output"]      Dense(10, inputs=32)  float32[100,10]     330   64,000  input  12,800
    -------------------------------------------------------------------------------------
    total                                                   2,410  473,600         38,400
    """
    x = shapes_of("summary", x)
    params = jax.eval_shape(lambda: init(net, jax.random.key(0), x) if params is None else params)
    y, _ = jax.eval_shape(lambda params, x: run(net, params, x, None), params, x)
    rows = list(_rows("", net, params, x, key, 1, 1))
    if rows:
        rows[0].keep("input", x if "input" in net.needs else None)
        rows[-1].keep("output", y if "output" in net.needs else None)
    return Summary(rows)


def _rows(place: str, layer: Layer, params: Any, x: Any, key: Any, times: int, copies: int) -> Iterator[Row]:
    """Return the rows of a layer's parts; what a composition keeps between two is counted to the second.

    A layer runs `times` times and has `copies` sets of params: fewer where a `Repeat` shares them.
    """
    if not isinstance(layer, Composition):
        y, extras = jax.eval_shape(partial(run, layer), params, x, key)
        size = copies * sum(prod(leaf.shape) for leaf in jax.tree.leaves(params))
        row = Row(place, repr(layer), times, describe(y), size, times * product_flops(layer, params, x))
        row.keep("extras", extras, times)
        yield row
        return
    for part in layer.parts(params, x, key):
        runs, sets = times * part.times, copies * part.copies
        rows = list(_rows(place + part.place, part.layer, part.params, part.x, part.key, runs, sets))
        if part.again:  # what it keeps, it keeps in its second run
            rows = [replace(row, kept=[], kept_bytes=0) for row in rows]
        if not rows:
            continue
        if "input" in part.keeps:
            rows[0].keep("input", part.x, runs)
        if "output" in part.keeps:
            y, _ = jax.eval_shape(partial(run, part.layer), part.params, part.x, None)
            rows[-1].keep("output", y, runs)
        if "key" in part.keeps:
            rows[0].keep("key", part.key, runs)
        yield from rows
