"""The eigenbasis of Kronecker factors: damped inverses, and the corrected eigenvalues of EKFAC.

The params of a block are here a matrix (k, j): a weight, with the bias as the last row where the two are
joined; a bias or a scale is one row. With inputs = U S U^T and outputs = V T V^T the eigenvectors of the
block are U (x) V, and its eigenvalues, (k, j), the products S_k T_j. Source: George et al. 2018.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn.arrays import canonical
from fnn.columns import joined
from fnn.curvature.kronecker import Kronecker, is_block
from fnn.errors import InputError, check_number, describe
from fnn.factors import Examples, Form, Outer, Rows, Total
from fnn.readers.seeding import check_begins


class Eigen(NamedTuple):
    """A block of the curvature in its eigenbasis.

    Args:
        inputs: (k, k), the eigenvectors in columns; None for a table, whose `inputs` are diagonal.
        outputs: (j, j), the eigenvectors in columns.
        values: (k, j), the eigenvalues.

    >>> Eigen(None, jnp.eye(2), jnp.ones((4, 2))).values.shape
    (4, 2)
    """

    inputs: Any
    outputs: Any
    values: Any


def eigen(factors: Any) -> Any:
    """Compute the eigenbasis of each block.

    Args:
        factors: the tree of blocks that `kronecker_factors` returned.

    Returns:
        a tree with an `Eigen` for each `Kronecker`. Eigenvalues below zero, which are rounding errors, become
        zero.

    Raises:
        InputError: where a block is no `Kronecker`.

    Cost: about 9 (k^3 + j^3) flops a block.

    >>> eigen(Kronecker(2 * jnp.eye(1), 3 * jnp.eye(1))).values
    Array([[6.]], dtype=float32)
    """

    def of(block: Kronecker) -> Eigen:
        t, v = jnp.linalg.eigh(block.outputs)
        s, u = block.inputs, None
        if block.inputs.ndim == block.outputs.ndim:
            s, u = jnp.linalg.eigh(block.inputs)
        return Eigen(u, v, jnp.maximum(s, 0)[..., :, None] * jnp.maximum(t, 0)[..., None, :])

    check_blocks("eigen", factors, Kronecker, "fnn.curvature.eigen(curved.factors)")
    return jax.tree.map(of, factors, is_leaf=is_block)


def check_blocks(who: str, blocks: Any, kind: type, fix: str) -> None:
    """Raise where a tree has other blocks than those of one kind.

    Args:
        who: the name of the caller, for the error message.
        blocks: the tree of blocks.
        kind: `Kronecker`, or `Eigen` for blocks in their eigenbasis.
        fix: code that makes the right ones, or uses them.

    Raises:
        InputError: with the first block that is another.
    """
    for block in jax.tree.leaves(blocks, is_leaf=lambda own: isinstance(own, (Kronecker, Eigen))):
        if not isinstance(block, kind):
            raise InputError(who, f"a tree whose blocks are {kind.__name__}", describe(block), fix)


def kronecker_solve(blocks: Any, tree: Any, damping: Any) -> Any:
    """Multiply a tree by (F + damping I)^-1, where F is the block-diagonal matrix of these blocks.

    Args:
        blocks: the tree of `Eigen`, from `eigen` or `ekfac`.
        tree: a tree like the params.
        damping: a number > 0 in the dtype of the blocks, as the eigenvalues of a dead unit are zero.

    Returns:
        a tree like the params, exact for the damped Kronecker product. NaN where a traced damping is not > 0.

    Raises:
        InputError: where the tree is not like the params that the blocks are of, a block is not in its
            eigenbasis, or the damping is not > 0.

    Cost: 4kj(k + j) flops a block.

    >>> blocks = eigen(Kronecker(2 * jnp.eye(1), 3 * jnp.eye(1)))
    >>> kronecker_solve(blocks, 14 * jnp.ones((1, 1)), damping=1.0)
    Array([[2.]], dtype=float32)
    """

    def inverse(own: Eigen, matrix: Any) -> Any:
        return _from(own, _into(own, matrix) / damped("kronecker_solve", own.values, damping))

    return _by_block("kronecker_solve", inverse, blocks, tree)


def damped(who: str, values: Any, damping: Any) -> Any:
    """Return eigenvalues with the damping added.

    Args:
        who: the name of the caller, for the error message.
        values: the eigenvalues of a block, (k, j).
        damping: a number > 0 in their dtype. NaN is added where a traced one is not.

    Raises:
        InputError: where the damping is known not to be > 0.
    """
    least = float(jnp.finfo(values.dtype).tiny)  # numbers below it are zero in a compiler's arithmetic
    wanted = f"damping >= {least:.2g}, the least normal number of {values.dtype}"
    fix = "fnn.curvature.kronecker_solve(blocks, gradient, 1e-3)"
    fix = fix if who == "kronecker_solve" else f"fnn.attribution.{who}(1e-3)"
    check_number(who, wanted, damping, lambda damping: damping >= least, fix)
    damping = jnp.asarray(damping).astype(values.dtype)
    return values + jnp.where(damping >= least, damping, jnp.nan)


def kronecker_multiply(blocks: Any, tree: Any) -> Any:
    """Multiply a tree by F, the block-diagonal matrix of these blocks.

    Args:
        blocks: the tree of `Eigen`, from `eigen` or `ekfac`.
        tree: a tree like the params.

    Returns:
        a tree like the params.

    Raises:
        InputError: where the tree is not like the params that the blocks are of, or a block is not in its
            eigenbasis.

    Cost: 4kj(k + j) flops a block.

    >>> kronecker_multiply(eigen(Kronecker(2 * jnp.eye(1), 3 * jnp.eye(1))), jnp.ones((1, 1)))
    Array([[6.]], dtype=float32)
    """
    return _by_block(
        "kronecker_multiply", lambda own, matrix: _from(own, _into(own, matrix) * own.values), blocks, tree
    )


def rotated(factor: Form, param: Any, own: Eigen) -> Outer | Rows | Examples:
    """Return the factor of the block's matrix (k, j) in its eigenbasis.

    Args:
        factor: the factor of `param` in its plain form, dz with or without an axis of seeds.
        param: the param.
        own: its block.
    """
    acc = own.values.dtype
    match factor:
        case Outer(x, dz):
            has_bias = own.inputs.shape[0] == x.shape[-1] + 1
            x = joined([x, jnp.ones((*x.shape[:-1], 1), x.dtype)]) if has_bias else x
            return Outer(x.astype(acc) @ own.inputs, dz.astype(acc) @ own.outputs)
        case Total(dz):
            return Outer(jnp.ones((*dz.shape[-3:-1], 1), acc), dz.astype(acc) @ own.outputs)
        case Rows(index, dz):
            return Rows(index, dz.astype(acc) @ own.outputs)
        case Examples(g, _):
            g = g.astype(acc).reshape(*g.shape[: g.ndim - param.ndim], *own.values.shape)
            return Examples(_into(own, g), own.values.ndim)


def _into(own: Eigen, matrix: Any) -> Any:
    matrix = matrix.astype(own.values.dtype) @ own.outputs
    return matrix if own.inputs is None else jnp.swapaxes(own.inputs, -1, -2) @ matrix


def _from(own: Eigen, matrix: Any) -> Any:
    matrix = matrix if own.inputs is None else own.inputs @ matrix
    return matrix @ jnp.swapaxes(own.outputs, -1, -2)


def _by_block(who: str, rule: Callable[[Eigen, Any], Any], blocks: Any, tree: Any) -> Any:
    """Apply a rule for a block's matrix to a tree; a joined bias is the last row of its weight's."""
    blocks, tree = canonical((blocks, tree))
    check_begins(who, blocks, tree, "tree of blocks", "fnn.curvature.eigen(factors)")
    more = ", 1e-3" if who == "kronecker_solve" else ""
    check_blocks(who, blocks, Eigen, f"fnn.curvature.{who}(fnn.curvature.eigen(factors), gradient{more})")
    paths, structure = zip(*jax.tree.leaves_with_path(tree), strict=True), jax.tree.structure(tree)
    (paths, leaves), owns = paths, structure.flatten_up_to(blocks)
    biases = {path[:-1]: leaf for path, leaf, own in zip(paths, leaves, owns, strict=True) if own is None}
    results: dict[Any, Any] = {}
    for path, leaf, own in zip(paths, leaves, owns, strict=True):
        if own is None:
            continue
        *stacks, k, j = own.values.shape
        row = leaf.shape == (*stacks, j) and k == 1
        matrix = leaf[..., None, :] if row else leaf
        if not row and leaf.size == own.values.size and (leaf.ndim != own.values.ndim or 1 in (k, j)):
            matrix = leaf.reshape(own.values.shape)  # a param of more axes, that is used as a matrix
        has_bias = matrix.ndim > 1 and k == matrix.shape[-2] + 1
        if has_bias:
            matrix = jnp.concatenate([matrix, biases[path[:-1]][..., None, :]], -2)
        if matrix.shape != own.values.shape:
            wanted = f"a leaf for a block of shape {own.values.shape}"
            raise InputError(who, wanted, describe(leaf), f"fnn.curvature.{who}(blocks, gradient{more})")
        result = rule(own, matrix).astype(leaf.dtype)
        if has_bias:
            results[path[:-1]], result = result[..., -1, :], result[..., :-1, :]
        results[path] = result[..., 0, :] if row else result.reshape(leaf.shape)
    ordered = [results[path[:-1] if own is None else path] for path, own in zip(paths, owns, strict=True)]
    return jax.tree.unflatten(structure, ordered)
