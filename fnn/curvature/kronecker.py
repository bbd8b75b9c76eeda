"""Kronecker factors: two small matrices for each layer whose product approximates its block of the GGN.

In row-major order the block of a weight (k, j) is near `inputs` (x) `outputs`, with inputs = mean x^T x, (k,
k), and outputs = sum dz^T dz, (j, j). For one example without tokens the two are equal. A bias is a weight
whose only input is 1, a scale such a weight with x dz as dz: their `inputs` are (1, 1), and the block is
exact. For the rows of a table `inputs` is diagonal, and kept as the vector (v,). Source: Martens, Grosse
2015.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.arrays import accumulator, canonical, index_inside, shapes_of
from fnn.columns import joined
from fnn.core import Layer, Params, forward
from fnn.errors import InputError, describe
from fnn.factors import Examples, Form, Outer, Rows, Total, cotangent, with_cotangent
from fnn.keys import split_key
from fnn.losses.objective import Objective
from fnn.reader import Reader, gradient
from fnn.readers.coupling import check_loss_uncoupled, check_rows, check_uncoupled
from fnn.readers.seeding import without_params
from fnn.readers.seeds import backward_seeds, check_fisher, curvature_seeds, factor_types, seeded_reader
from fnn.readings import unzip
from fnn.sharding import einsum, on_mesh, sharding_along


class Kronecker(NamedTuple):
    """A block of the curvature, `inputs` (x) `outputs`; stacked params have stacked matrices.

    Args:
        inputs: (k, k); with the bias joined (k + 1, k + 1); (v,) for a table.
        outputs: (j, j), in which the reduction of the loss is.

    >>> Kronecker(jnp.eye(2), jnp.eye(3)).outputs.shape
    (3, 3)
    """

    inputs: Any
    outputs: Any


class Curved(NamedTuple):
    """The value, gradient and curvature of a loss, from one pass.

    Args:
        value: the value of the loss, ().
        gradient: a tree like the params.
        factors: a tree with a `Kronecker` for each param; None for a bias that is joined to its weight.

    >>> Curved(0.0, {"bias": jnp.zeros(2)}, {"bias": Kronecker(jnp.eye(1), jnp.eye(2))}).value
    0.0
    """

    value: Any
    gradient: Any
    factors: Any


def kronecker_factors(
    net: Layer,
    loss: Objective,
    fisher: str = "exact",
    *,
    tokens: str = "expand",
    bias: str = "separate",
    samples: int = 1,
) -> Callable[..., Curved]:
    """Return a function `(params, x, target, key=None) -> Curved`: value, gradient and Kronecker factors.

    Args:
        net: the network, any layer.
        loss: a loss without params, reduced to a number; `value` and the curvature are those of this number.
        fisher: "exact", "sampled" or "empirical", as for `ggn_diagonal`.
        tokens: "expand" takes every token, and every use of a shared layer, for an example of its own;
            "reduce" takes the mean of x and the sum of dz over the tokens, for networks that pool their
            tokens. Tables are always expanded.
        bias: "joint" gives a weight and the bias of its layer one block with k + 1 inputs, the last of them
            1; "separate" gives each its own. In a function (`fnn.function`) a weight and a bias are joined
            where they are alone in a dict, and none is used transposed or reshaped: these keep a block each.
        samples: how many targets are drawn for each row where `fisher` is "sampled".

    Args of the function:
        params, x, target: as for `ggn_diagonal`.
        key: a random key, for "sampled" and for dropout.

    Raises:
        InputError: as `ggn_diagonal`, and where the loss is not reduced or an option is unknown.

    Cost: one forward pass, one backward for the gradient and one for each seed ("empirical" needs none),
    2nk^2 + 2cnj^2 flops a layer, k^2 + j^2 numbers. Products are accumulated in float32 or wider.
    Source: Martens, Grosse 2015; tokens: Eschenhagen et al. 2023.

    >>> import fnn
    >>> net, loss, x = fnn.Dense(1, bias=False), fnn.half_squared_error(), jnp.array([[1.0], [3.0]])
    >>> curved = kronecker_factors(net, loss)({"kernel": jnp.ones((1, 1))}, x, jnp.zeros((2, 1)))
    >>> print(curved.value, curved.gradient["kernel"], curved.factors["kernel"].inputs)
    2.5 [[5.]] [[5.]]
    """
    loss = without_params("kronecker_factors", loss, net)
    check_fisher("kronecker_factors", loss, fisher)
    if loss.reduction == "none" or tokens not in ("expand", "reduce") or bias not in ("separate", "joint"):
        wanted = 'a reduction to a number, tokens "expand" or "reduce", bias "separate" or "joint"'
        got = f"{loss!r}, {tokens!r}, {bias!r}"
        fix = 'fnn.curvature.kronecker_factors(net, loss.with_reduction("mean"))'
        raise InputError("kronecker_factors", wanted, got, fix)
    read = _reader(tokens == "reduce", bias == "joint", first=fisher == "empirical")

    def run(params: Params, x: Any, target: Any, key: Any = None) -> Curved:
        params, x, target = canonical((params, x, target))
        check_uncoupled("kronecker_factors", net, params, x)
        of_net, of_sample = split_key("kronecker_factors", key)
        y, residuals = forward(net, params, x, of_net)
        check_rows("kronecker_factors", y, x)
        value, dy = loss.value_and_grad(y, target)
        seeds = jax.tree.map(lambda d: d[None], dy)
        check_loss_uncoupled("kronecker_factors", loss, y, target)
        if fisher != "empirical":
            others = curvature_seeds(loss, fisher, y, target, of_sample, samples)
            seeds = jax.tree.map(lambda *pair: jnp.concatenate(pair), seeds, others)
        gradients, factors = unzip(params, backward_seeds(net, params, residuals, seeds, read=read))
        if fisher == "empirical" and loss.reduction == "mean":  # dz dz^T has 1 / rows twice
            rows = _rows(loss, y)
            factors = jax.tree.map(lambda k: k._replace(outputs=k.outputs * rows), factors, is_leaf=is_block)
        return Curved(value, gradients, _joined(net, params, x, factors) if bias == "joint" else factors)

    return run


def kronecker_shapes(net: Layer, params: Params, x: Any, bias: str = "separate") -> Any:
    """Return the shapes of the blocks that `kronecker_factors` makes; nothing is computed.

    Args:
        net: the network, any layer.
        params: its params, or their shapes.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`.
        bias: as for `kronecker_factors`.
    """
    read = _reader(False, bias == "joint", first=True)

    def run(params: Params, x: Any) -> Any:
        y, residuals = forward(net, params, x)
        seeds = jax.tree.map(lambda y: jnp.zeros_like(y)[None], y)
        _, factors = unzip(params, backward_seeds(net, params, residuals, seeds, read=read))
        return _joined(net, params, x, factors) if bias == "joint" else factors

    return jax.eval_shape(run, canonical(params), shapes_of("kronecker_shapes", x))


def _rows(loss: Objective, y: Any) -> int:
    """Count the rows of the outputs, or raise InputError where one output has more than another."""
    rows = {leaf.shape[:-1] for leaf in jax.tree.leaves(y)}
    if len(rows) > 1:
        wanted, fix = "as many rows in all outputs", 'loss.with_reduction("sum")'
        raise InputError("kronecker_factors", wanted, f"{describe(y)}, {loss!r}", fix)
    return math.prod(*rows)


def is_block(value: Any) -> bool:
    """Return whether `value` is a block."""
    return isinstance(value, Kronecker)


def _reader(reduce: bool, ones: bool, first: bool) -> Reader:
    """Return a seeded reader of the gradient, by the first seed, and of the block, by the others (and it)."""

    def curved(factor: Form, param: Any) -> tuple[Any, Kronecker]:
        seeds = cotangent(factor)
        of_gradient = with_cotangent(factor, seeds[0])
        of_block = factor if first else with_cotangent(factor, seeds[1:])
        return gradient(of_gradient, param), block(of_block, param, reduce, ones)

    return seeded_reader(curved, like=("param", Kronecker("rows", "columns")))


def block(factor: Form, param: Any, reduce: bool = False, ones: bool = False) -> Kronecker:
    """Return the block of a form with dz (c, n, t, j).

    For gradients g (c, n, k, j) of the examples it is sum g g^T / sum |g|^2 (x) sum g^T g: exact for one
    gradient of rank one, else the nearest product by its margins (Gupta, Koren, Singer 2018).

    Args:
        factor: a factor in its plain form with seeds.
        param: the param.
        reduce: whether to reduce the tokens before the products.
        ones: whether to add an input of 1 to a weight's.
    """
    acc = accumulator(cotangent(factor).dtype)

    def second(rows: Any) -> Any:
        axes = tuple(range(rows.ndim - 1))
        own, contract = sharding_along(*[(rows, rows.ndim - 1)] * 2), ((axes, axes), ((), ()))
        return jax.lax.dot_general(rows, rows, contract, preferred_element_type=acc, out_sharding=own)

    one = jnp.ones((1, 1), acc)
    match factor:
        case Outer(x, dz):
            x, dz = (x.mean(1), dz.sum(2)) if reduce and dz.shape[2] > 1 else (x, dz)
            x = joined([x, jnp.ones((*x.shape[:-1], 1), x.dtype)]) if ones else x
            return Kronecker(second(x) / max(1, math.prod(x.shape[:-1])), second(dz))
        case Total(dz):
            return Kronecker(one, second(dz.sum(2) if reduce and dz.shape[2] > 1 else dz))
        case Examples(g) if param.ndim < 2:
            return Kronecker(one, second(g))
        case Examples(g):
            g = g.reshape(-1, math.prod(g.shape[2:-1]), g.shape[-1])  # (c n, k, j)
            outputs = einsum("nkj,nkl->jl", g, g, dtype=acc)
            inputs = einsum("nkj,nlj->kl", g, g, dtype=acc)
            trace = jnp.trace(inputs)
            return Kronecker(inputs / jnp.where(trace == 0, 1, trace), outputs)
        case Rows(index, dz):
            inside = (index >= 0) & (index < param.shape[0])
            safe = index_inside(index, param.shape[0])

            def count(safe: Any) -> Any:
                return jnp.zeros(param.shape[0], acc).at[safe].add(1, mode="drop")

            counts = on_mesh(count, sharding_along((param, 0)), safe)
            return Kronecker(counts / max(1, index.size), second(jnp.where(inside[None, ..., None], dz, 0)))


def _joined(net: Layer, params: Params, x: Any, factors: Any) -> Any:
    """Keep the added input where a layer's params are one weight and its bias, and remove it elsewhere."""
    types = jax.tree.leaves_with_path(factor_types(net, params, x))
    containers: dict[Any, list[Any]] = {}
    for path, of in types:
        containers.setdefault(path[:-1], []).append(of)
    structure, kept = jax.tree.structure(params), []
    for (path, of), own in zip(types, structure.flatten_up_to(factors), strict=True):
        pair = sorted(t.__name__ for t in containers[path[:-1]]) == ["Outer", "Total"]
        if of is Total and pair:
            kept.append(None)
        elif of is Outer and not pair:
            kept.append(own._replace(inputs=own.inputs[..., :-1, :-1]))
        else:
            kept.append(own)
    return jax.tree.unflatten(structure, kept)
