"""The explicit matrices that curvature is measured by: J^T H J and the Hessian, by autodiff alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import fnn

NETWORKS = {
    "mlp": fnn.mlp([5, 7, 3], fnn.tanh),
    "scanned": fnn.mlp([5, 7, 7, 7, 7, 7, 3], fnn.tanh, scan=True),
    "norm": fnn.Serial(fnn.Dense(6), fnn.LayerNorm(), fnn.Scale(), fnn.gelu, fnn.Dense(3, bias=False)),
    "tokens": fnn.Serial(fnn.Embedding(7, 4), fnn.Skip(fnn.Dense(4)), fnn.Dense(3)),
}


def network(name):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 7, (4, 2)) if name == "tokens" else rng.standard_normal((4, 5)))
    net = NETWORKS[name]
    params = jax.tree.map(lambda p: p.astype(jnp.float64), fnn.init(net, jax.random.key(0), x))
    return net, params, x, soft_target(fnn.apply(net, params, x))


def soft_target(y, seed=0):
    return jnp.asarray(np.random.default_rng(seed).dirichlet(np.ones(y.shape[-1]), y.shape[:-1]))


def explicit_ggn(own, target, loss):
    """Give J^T H J and the Hessian of the value: params in the order of the leaves."""
    vector, unravel = ravel_pytree(own.params)

    def outputs(vector):
        return fnn.forward(own.net, unravel(vector), own.x, own.key)[0]

    def value(vector):
        return loss.value_and_grad(outputs(vector), target)[0]

    y = outputs(vector)
    j = jax.jacrev(outputs)(vector).reshape(y.size, -1)
    h = jax.hessian(lambda y: loss.value_and_grad(y.reshape(own.dy.shape), target)[0])(y.reshape(-1))
    return j.T @ h @ j, jax.hessian(value)(vector), j, h


def unflatten(params, vector):
    return ravel_pytree(params)[1](vector)
