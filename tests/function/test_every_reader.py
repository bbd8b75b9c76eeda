"""Every reader on functions of several uses, against explicit matrices: the Jacobian, and what follows."""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import pytest
from jax import lax

import fnn
from fnn import attribution, curvature, privacy, readers
from fnn.function import Function
from tests.function.functions import draw
from tests.function.test_uses import close

LOSS = fnn.softmax_cross_entropy()
N, LABELS, NORM, DAMPING = 4, jnp.array([0, 1, 2, 0]), 0.2, 0.1


def dense(p: Any, x: Any) -> Any:
    """A weight transposed, a norm with a scale, a residual with the same weight, a product."""
    y = jnp.tanh(jnp.einsum("jk,nk->nj", p["w"], x) + p["b"][None])
    y = y / jnp.sqrt(1 + jnp.square(y).mean(1, keepdims=True)) * p["scale"][None]
    return jnp.tanh(y + y @ p["w"].T) @ p["out"]


def attention(p: Any, x: Any) -> Any:
    """Heads by einsum, positions, two layers stacked for a scan, a mean over the tokens."""
    x = x + p["positions"][None, : x.shape[1]]
    q, k, v = (jnp.einsum("ntk,khd->nthd", x, p[name]) for name in "qkv")
    a = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, k))
    x = x + jnp.einsum("nhts,nshd,hdk->ntk", a, v, p["out"])
    x = lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, p["layers"])[0]
    return x.mean(1) @ p["head"]


def images(p: Any, x: Any) -> Any:
    """Convolutions of images, one of them by groups, and a function of no known form."""
    for name, groups in (("k", 1), ("g", 2)):
        spec = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(
            x, p[name], (2, 1), "SAME", dimension_numbers=spec, feature_group_count=groups
        )
        x = jnp.tanh(x)
    return x.reshape(x.shape[0], -1) @ jax.nn.softplus(p["out"])


NETS = {
    "dense": (
        dense,
        {"w": draw(0, 4, 4), "b": draw(1, 4), "scale": draw(2, 4), "out": draw(3, 4, 3)},
        draw(9, N, 4),
    ),
    "attention": (
        attention,
        {name: draw(k, 4, 2, 2) for k, name in enumerate("qkv")}
        | {
            "positions": draw(3, 5, 4),
            "out": draw(4, 2, 2, 4),
            "layers": draw(5, 2, 4, 4),
            "head": draw(6, 4, 3),
        },
        draw(9, N, 3, 4),
    ),
    "images": (
        images,
        {"k": draw(0, 2, 2, 2, 4), "g": draw(1, 2, 2, 2, 4), "out": 0.3 * draw(2, 2 * 3 * 4, 3)},
        draw(9, N, 5, 3, 2),
    ),
}


def summed(readings: Any, axes: int = 1) -> Any:
    return readers.sum_over_params(readings, axes=axes)


def read(net: Any, p: Any, x: Any, v: Any) -> dict[str, Any]:
    """What fnn reads."""

    def of(reader: Any, *trees: Any) -> Any:
        return readers.losses_and_readings(net, LOSS, reader)(p, x, LABELS, trees=trees)[1]

    gradient, info = privacy.private_gradient(net, LOSS, NORM, 0.0, N)(p, x, LABELS, jax.random.key(0))
    tree_product = lambda v: curvature.ggn_product(net, LOSS)(p, x, LABELS, v)  # noqa: E731
    inverse = curvature.conjugate_gradients(tree_product, DAMPING, tolerance=1e-13, steps=400)
    return {
        "squared_norm": summed(of(readers.squared_norm)),
        "gram": summed(of(readers.gram), axes=2),
        "inner_product": summed(of(readers.inner_product, v)),
        "variance": of(readers.variance),
        "second_moment": of(readers.second_moment),
        "tangent_kernel": readers.tangent_kernel(net)(p, x),
        "clipped_gradient": privacy.clipped_gradient(net, LOSS, NORM)(p, x, LABELS).gradient,
        "microbatches": privacy.clipped_gradient(net, LOSS, NORM, microbatch=2)(p, x, LABELS).gradient,
        "private_gradient": jax.tree.map(lambda g: g * N, gradient),
        "norms": info.norms,
        "ggn_diagonal": curvature.ggn_diagonal(net, LOSS)(p, x, LABELS),
        "ggn_product": tree_product(v),
        "hessian_product": curvature.hessian_product(net, LOSS)(p, x, LABELS, v),
        "fisher_product": curvature.fisher_product(net, LOSS)(p, x, LABELS, v),
        "grand": attribution.grand(net, LOSS)(p, x, LABELS),
        "tracin": attribution.tracin(net, LOSS)([(p, 0.5)], x, LABELS, x[:2], LABELS[:2]),
        "influence": attribution.influence(net, LOSS, inverse)(p, x, LABELS, x[:2], LABELS[:2]),
    }


def explicit(f: Any, p: Any, x: Any, v: Any) -> dict[str, Any]:
    """The same from the Jacobian of the outputs, (n, outputs, params), and the Hessian of all params."""
    flat, tree = jax.flatten_util.ravel_pytree(p)
    direction = jax.flatten_util.ravel_pytree(v)[0]
    j = jax.jacrev(lambda q: f(tree(q), x))(flat)
    y = f(p, x)
    g = jax.jacrev(
        lambda q: jnp.stack([LOSS(f(tree(q), x)[i : i + 1], LABELS[i : i + 1]) for i in range(N)])
    )(flat)
    h = jax.vmap(jax.hessian(lambda y, t: LOSS(y[None], t[None])))(y, LABELS) / N
    ggn = jnp.einsum("nap,nab,nbq->pq", j, h, j)
    lengths = jnp.linalg.norm(g, axis=1)
    clipped = jnp.minimum(1, NORM / lengths) @ g
    return {
        "squared_norm": jnp.square(lengths),
        "gram": g @ g.T,
        "inner_product": g @ direction,
        "variance": tree(jnp.var(g, 0)),
        "second_moment": tree(jnp.square(g).mean(0)),
        "tangent_kernel": jnp.einsum("nap,mbp->nmab", j, j),
        "clipped_gradient": tree(clipped),
        "microbatches": tree(clipped),
        "private_gradient": tree(clipped),
        "norms": lengths,
        "ggn_diagonal": tree(jnp.diag(ggn)),
        "ggn_product": tree(ggn @ direction),
        "hessian_product": tree(jax.hessian(lambda q: LOSS(f(tree(q), x), LABELS))(flat) @ direction),
        "fisher_product": tree(g.T @ (g @ direction) / N),
        "grand": lengths,
        "tracin": 0.5 * g @ g[:2].T,
        "influence": g @ jnp.linalg.solve(ggn + DAMPING * jnp.eye(flat.size), g[:2].mean(0)),
    }


@pytest.mark.parametrize(
    "name", ["dense", *(pytest.param(name, marks=pytest.mark.slow) for name in ("attention", "images"))]
)
def test_every_reader_reads_what_explicit_matrices_say(name):
    f, p, x = NETS[name]
    v = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size * 1.0)).reshape(leaf.shape), p)
    ours = jax.jit(lambda p: read(Function(f), p, x, v))(p)
    theirs = jax.jit(lambda p: explicit(f, p, x, v))(p)
    assert ours.keys() == theirs.keys()
    for key in ours:
        try:
            close(ours[key], theirs[key])
        except AssertionError as error:
            raise AssertionError(key) from error
