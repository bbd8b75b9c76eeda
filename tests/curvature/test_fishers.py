"""Every Fisher over the table: diagonals, products, Kronecker factors, EKFAC, from explicit Jacobians."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.curvature.kronecker import is_block
from fnn.factors import is_factor
from fnn.losses.likelihoods import CATEGORICAL
from tests.cases import VOCABULARY
from tests.proof import assert_equal
from tests.readers.brute import LOSS, READABLE, data, direction, ranks, run
from tests.readers.explicit import soft_target

SAMPLES, DAMPING = 2, 0.1
KEY = jax.random.key(5)
EVERY_TIME = {"dense-tokens", "shared-of-repeat"}
every_case = pytest.mark.parametrize(
    "case",
    [case if case.name in EVERY_TIME else pytest.param(case, marks=pytest.mark.slow) for case in READABLE],
    ids=repr,
)


def seeds_by_hand(fisher, y, target):
    """Give the cotangents of the output, (c, *y.shape), whose squares are the mean loss's curvature."""
    rows = y[..., 0].size
    if fisher == "exact":
        seeds = CATEGORICAL.root(y, target)
    elif fisher == "sampled":
        keys = jax.random.split(jax.random.split(KEY)[1], SAMPLES)
        seeds = jnp.stack([CATEGORICAL.sample(key, y, target) for key in keys]) / SAMPLES**0.5
    else:
        seeds = jax.grad(lambda y: -jnp.sum(target * jax.nn.log_softmax(y)))(y)[None]
    return seeds / rows**0.5


def by_hand(own, target, fisher):
    """Give the gradients of all seeds, a tree of (c, n, t, *param.shape), and the factors of each seed."""
    of_net = jax.random.split(KEY)[0]

    def outputs(params):
        return fnn.forward(own.net, params, own.x, of_net)[0]

    y, residuals = fnn.forward(own.net, own.params, own.x, of_net)
    seeds, n, k = seeds_by_hand(fisher, y, target), y.shape[0], y.shape[-1]
    jacobian = jax.tree.map(
        lambda j: j.reshape(n, -1, k, *j.shape[y.ndim :]), jax.jacrev(outputs)(own.params)
    )
    seeds_of_rows = seeds.reshape(len(seeds), n, -1, k)
    gradients = jax.tree.map(lambda j: jnp.einsum("cntk,ntk...->cnt...", seeds_of_rows, j), jacobian)
    factors = [fnn.backward(own.net, own.params, residuals, s, read=fnn.readers.as_factors)[0] for s in seeds]
    return gradients, factors


def ours(own, target, fisher, v):
    samples: Any = {"samples": SAMPLES} if fisher == "sampled" else {}
    arguments = own.params, own.x, target
    diagonal = fnn.curvature.ggn_diagonal(own.net, LOSS, fisher, **samples)
    each = fnn.curvature.ggn_diagonal(own.net, LOSS, fisher, per_example=True, **samples)
    product = fnn.curvature.fisher_product(own.net, LOSS, fisher, **samples) if fisher != "exact" else None
    return (
        diagonal(*arguments, KEY),
        each(*arguments, KEY),
        product and product(*arguments, v, KEY),
        {
            (tokens, bias): fnn.curvature.kronecker_factors(
                own.net, LOSS, fisher, tokens=tokens, bias=bias, **samples
            )(*arguments, KEY).factors
            for tokens in ("expand", "reduce")
            for bias in ("separate", "joint")
        },
    )


@pytest.mark.thorough
@pytest.mark.parametrize("fisher", ["exact", "sampled", "empirical"])
@every_case
def test_diagonals_products_and_kronecker_factors(case, fisher):
    own = data(case)
    target, v, rank = soft_target(own.dy), direction(own.params), ranks(own)
    (gradients, factors), (diagonal, each, product, blocks) = run(
        lambda: (by_hand(own, target, fisher), ours(own, target, fisher, v))
    )
    gradients = jax.tree.map(np.asarray, gradients)
    of_examples = jax.tree.map(lambda g: g.sum(2), gradients)
    if fisher == "empirical":  # the squares are of the examples' gradients, else of the tokens'
        gradients = jax.tree.map(lambda g: g[:, :, None], of_examples)
    assert_equal(diagonal, jax.tree.map(lambda g: np.square(g).sum((0, 1, 2)), gradients), 1e-10)
    rows = own.dy[..., 0].size
    wanted = jax.tree.map(lambda g: rows * np.square(g).sum((0, 2)), gradients)
    moved = jax.tree.map(lambda w, r: np.moveaxis(w, 0, w.ndim - r - 1), wanted, rank)
    assert_equal(each, moved, 1e-10)
    if product is not None:
        along = sum(
            np.tensordot(g, d, d.ndim) for g, d in zip(*map(jax.tree.leaves, (of_examples, v)), strict=True)
        )
        assert_equal(product, jax.tree.map(lambda g: np.tensordot(along, g, 2), of_examples), 1e-10)
    for (tokens, bias), got in blocks.items():
        assert_equal(got, kronecker_by_hand(own.params, factors, tokens, bias), 1e-10)


def kronecker_by_hand(params, factors, tokens, bias):
    """Give the blocks from the factors of each seed, one param of a stack after the other, in NumPy."""
    types = {p: type(f) for p, f in jax.tree.leaves_with_path(factors[0], is_leaf=is_factor)}
    biases = {path[:-1] for path, of in types.items() if of is fnn.factors.Total and path[-1].key == "bias"}
    weights = {path[:-1] for path, of in types.items() if of is fnn.factors.Outer}
    joined = biases & weights if bias == "joint" else set()

    def of_param(path, param, *seeds):
        if types[path] is fnn.factors.Total and path[:-1] in joined:
            return None
        stack = param.shape[: param.ndim - seeds[0].rank]
        flattened = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[len(stack) :]), seeds)
        blocks = [
            block_by_hand(jax.tree.map(lambda leaf: leaf[i], flattened), param, tokens, path[:-1] in joined)  # noqa: B023
            for i in range(int(np.prod(stack, dtype=int)))
        ]
        return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(*stack, *leaves[0].shape), *blocks)

    return jax.tree_util.tree_map_with_path(of_param, params, *factors)


def block_by_hand(seeds, param, tokens, ones):
    """Give the block of one param: mean x x^T, and the sum over seeds and rows of dz dz^T."""
    n = seeds[0].dz.shape[0]
    dz = [f.dz.reshape(n, -1, f.dz.shape[-1]) for f in seeds]
    first, inputs = seeds[0], np.ones((1, 1))
    match first:
        case fnn.factors.Outer(x, _):
            x = x.reshape(n, -1, x.shape[-1])
            x = x.mean(1) if tokens == "reduce" else x.reshape(-1, x.shape[-1])
            x = np.concatenate([x, np.ones((len(x), 1))], 1) if ones else x
            inputs = x.T @ x / len(x)
        case fnn.factors.Scaled(x, _):
            dz = [d * x.reshape(d.shape) for d in dz]
        case fnn.factors.Rows(index, _):
            inputs = np.bincount(index.ravel(), minlength=param.shape[-2]) / index.size
    if tokens == "reduce" and not isinstance(first, fnn.factors.Rows):
        dz = [d.sum(1) for d in dz]
    dz = np.concatenate([d.reshape(-1, d.shape[-1]) for d in dz])
    return fnn.curvature.Kronecker(inputs, dz.T @ dz)


@pytest.mark.parametrize("bias", ["separate", "joint"])
@every_case
def test_damped_inverse_corrected_eigenvalues_and_self_influence(case, bias):
    """Against the blocks as dense matrices; EKFAC's eigenvalues are G's own diagonal in the basis."""
    own = data(case)
    target, v, rank = soft_target(own.dy), direction(own.params), ranks(own)
    of_net = jax.random.split(KEY)[0]

    def everything():
        factors = fnn.curvature.kronecker_factors(own.net, LOSS, bias=bias)(
            own.params, own.x, target, KEY
        ).factors
        basis = fnn.curvature.eigen(factors)
        better = fnn.curvature.ekfac(own.net, LOSS)(own.params, own.x, target, basis, KEY)
        read = fnn.readers.zip_readers(
            fnn.attribution.self_influence(DAMPING), lambda factor, param, own: factor
        )
        _, readings = fnn.readers.losses_and_readings(own.net, LOSS, read)(
            own.params, own.x, target, of_net, trees=(better,)
        )
        influences, unread = fnn.readers.unzip(own.params, readings)
        each = jax.tree.map(fnn.readers.example_gradient, unread, own.params, is_leaf=is_factor)
        solved = [fnn.curvature.kronecker_solve(blocks, v, DAMPING) for blocks in (basis, better)]
        multiplied = [fnn.curvature.kronecker_multiply(blocks, v) for blocks in (basis, better)]
        gradients = by_hand(own, target, "exact")[0]
        return factors, basis, better, solved, multiplied, influences, each, gradients

    factors, basis, better, solved, multiplied, influences, each, gradients = jax.tree.map(
        np.asarray, run(everything)
    )
    kept = jax.tree.leaves(factors, is_leaf=is_block)
    bases, corrected = (
        jax.tree.leaves(tree, is_leaf=lambda b: isinstance(b, fnn.curvature.Eigen))
        for tree in (basis, better)
    )
    rows = jax.tree.map(lambda g: g.reshape(-1, *g.shape[3:]), gradients)
    each = jax.tree.map(lambda g, r: np.moveaxis(g, g.ndim - r - 1, 0), each, rank)
    lists = {
        name: matrices(tree, rank, bias == "joint")
        for name, tree in {
            "rows": rows,
            "each": each,
            "v": jax.tree.map(lambda leaf: np.asarray(leaf)[None], v),
            **{f"solved {i}": jax.tree.map(lambda s: s[None], solved[i]) for i in (0, 1)},
            **{f"multiplied {i}": jax.tree.map(lambda s: s[None], multiplied[i]) for i in (0, 1)},
        }.items()
    }
    total: Any = 0
    for i, (factor, q, b) in enumerate(zip(kept, bases, corrected, strict=True)):
        for s in range(lists["v"][i].shape[1]):
            m = {name: of[i][:, s] for name, of in lists.items()}  # each (rows, k, j), one param of a stack
            m = {name: rows.reshape(len(rows), -1) for name, rows in m.items()}
            f, turn = one_of_stack(factor, s), one_of_stack(fnn.curvature.Kronecker(q.inputs, q.outputs), s)
            values = np.square(m["rows"] @ turn).sum(0)
            assert_equal(b.values.reshape(-1, values.size)[s], values, 1e-10)
            for name, matrix in enumerate((f, turn @ np.diag(values) @ turn.T)):
                damped = np.linalg.solve(matrix + DAMPING * np.eye(values.size), m["v"][0])
                assert_equal(m[f"solved {name}"][0], damped, 1e-10)
                assert_equal(m[f"multiplied {name}"][0], matrix @ m["v"][0], 1e-10)
            total = total + (np.square(m["each"] @ turn) / (values + DAMPING)).sum(1)
    assert_equal(np.asarray(fnn.readers.sum_over_params(influences)), total, 1e-10)


def one_of_stack(block, s):
    """Give inputs (x) outputs for one param of a stack; a table has a diagonal, and no basis."""
    outputs = block.outputs.reshape(-1, *block.outputs.shape[-2:])[s]
    if block.inputs is None:
        return np.kron(np.eye(VOCABULARY), outputs)
    if block.inputs.ndim < block.outputs.ndim:
        return np.kron(np.diag(block.inputs.reshape(-1, block.inputs.shape[-1])[s]), outputs)
    return np.kron(block.inputs.reshape(-1, *block.inputs.shape[-2:])[s], outputs)


def matrices(tree, rank, joined) -> list[Any]:
    """Give a list of (r, stack, k, j) for a tree of (r, *param.shape), a joined bias as the last row."""
    leaves = {
        path: leaf.reshape(len(leaf), -1, *((1,) if r == 1 else ()), *leaf.shape[leaf.ndim - r :])
        for (path, leaf), r in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(rank), strict=True)
    }
    rows = {path: leaf for path, leaf in leaves.items() if joined and path[-1].key == "bias"}
    weights = {path[:-1]: path for path in leaves if path[-1].key == "kernel"}
    result = []
    for path, leaf in leaves.items():
        if path in rows and path[:-1] in weights:
            continue
        bias = [r for p, r in rows.items() if p[:-1] == path[:-1] and path[-1].key == "kernel"]
        result.append(np.concatenate([leaf, *bias], 2))
    return result
