"""Groups of nodes that are one activation or norm, found by what they compute."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import fnn.activations.table as rows
from fnn.errors import InputError
from fnn.export import expressions as e
from fnn.export.elementwise import Operator, decimal, expression
from fnn.export.expressed import activation_of
from fnn.export.expressions import Expression
from fnn.export.known import layer_of
from fnn.export.layers import Chain
from fnn.export.nodes import attributes
from fnn.export.shapes import STANDARD
from fnn.export.source import Refused, Source
from fnn.layers.norm import LayerNorm, RMSNorm

_LONGEST = 16  # nodes that one activation is looked for in
_LARGEST = 256  # tuples in its expression


def read_activation(chain: Chain, source: Source, i: int, last: dict[str, int], ours: bool) -> int:
    """Append the activation that the next nodes are; return the number of the node after them, 0 for none.

    The expressions of the nodes are made one by one. Where only one of their values is still used by later
    nodes, it is a function of the chain's last value.

    Args:
        chain: the layers so far.
        source: the graph.
        i: the number of the next node.
        last: for each value the number of the last node that uses it.
        ours: True to look for an activation of fnn, that of the most nodes; False for any function, that of
            the fewest.
    """
    known, wanted, found = {chain.v: e.X}, {chain.v}, None
    floating = chain.value.dtype is None or jnp.issubdtype(chain.value.dtype, jnp.floating)
    for j, node in enumerate(source.nodes[i : i + _LONGEST], i):
        if node.domain not in STANDARD or any(last.get(name, j) > j for name in node.output[1:]):
            break
        made = _expression(chain, source, node, known)
        if made is None or _size(made) > _LARGEST or not (floating or made == e.X):
            break
        v = node.output[0]
        known[v] = made
        wanted = {name for name in (*wanted, v) if last.get(name, j) > j}
        if wanted == {v}:
            layer = _layer(chain, node, made) if ours else activation_of(made)
            found = found if layer is None else (j + 1, v, layer)
            if not ours:
                break
    if found is None:
        return 0
    after, chain.v, layer = found
    if isinstance(layer, tuple):
        chain.dense(*layer)
    elif layer != rows.identity:
        chain.add(layer, {} if isinstance(layer, LayerNorm | RMSNorm) else ())
    return after


def _expression(chain: Chain, source: Source, node: Any, known: dict[str, Expression]) -> Expression | None:
    """Write what a node computes of expressions and of single numbers; None where it takes anything else."""
    arguments: list[Expression | None] = []
    for name in node.input:
        argument = known.get(name) or _number(source.tensors.get(name), chain.value.rank)
        if name and argument is None:
            return None
        arguments.append(argument)
    if not arguments:
        return None
    told, rank = attributes(node), chain.value.rank
    axes = told.get("axes")
    if node.op_type == "ReduceMean" and len(node.input) > 1:
        axes = source.tensors[node.input[1]].tolist()
    if node.op_type == "Concat":
        return ("Concat", *arguments) if told["axis"] in (-1, None if rank is None else rank - 1) else None
    axes = None if axes is None else tuple(axes)
    return expression(Operator(node.op_type, told, axes, chain.value.dtype, rank), arguments)


def _number(value: np.ndarray | None, rank: int | None) -> Expression | None:
    """Read a tensor of one number that raises no rank."""
    if value is None or value.size != 1 or value.ndim > (2 if rank is None else rank):
        return None
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        return None
    one: Any = value.reshape(())[()]
    return e.constant(decimal(one, value.dtype) if value.dtype == np.float32 else float(one))


def _layer(chain: Chain, node: Any, made: Expression) -> Any:
    """Find the layer that an expression is, the kernel and the bias of a dense one; None for another one."""
    if made == e.X:
        return rows.identity
    if made[0] == "Concat":
        return _beside(chain, made[1:])
    dtype = np.float32 if chain.value.dtype is None else chain.value.dtype
    try:
        return layer_of(made, 4 * float(jnp.finfo(dtype).eps))
    except InputError as error:
        raise Refused(node, error.args[1], f"with {error.args[2]}") from error


def _beside(chain: Chain, parts: tuple[Expression, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Write a x + b beside c x + d, as the two classes' probabilities 1 - p and p, as a dense layer."""
    features, dtype = chain.value.features, chain.value.dtype
    lines = [e.line(part) for part in parts]
    if features is None or None in lines:
        return None
    kernel = np.concatenate([line[0] * np.eye(features) for line in lines if line], axis=1)
    bias = np.repeat([line[1] for line in lines if line], features)
    return kernel.astype(dtype or np.float32), bias.astype(dtype or np.float32)


def _size(expression: Any) -> int:
    return 1 + sum(map(_size, expression)) if isinstance(expression, tuple) else 0
