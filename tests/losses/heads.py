"""Heads and their data, and the plain way to the same value, for autodiff."""

import jax
import jax.numpy as jnp
import numpy as np

import fnn

N, K, V = 11, 5, 13
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((N, K)))
LABEL = jnp.asarray(RNG.integers(0, V, N)).at[jnp.array([2, 7])].set(-100)
WEIGHTS = jnp.asarray(RNG.uniform(0.1, 2, N)).at[4].set(0)
PARAMS = {"kernel": jnp.asarray(RNG.standard_normal((K, V))), "bias": jnp.asarray(RNG.standard_normal(V))}

HEADS = {
    "plain": fnn.LinearCrossEntropy(V, ignore=-100, chunk=4),
    "one-chunk": fnn.LinearCrossEntropy(V, ignore=-100),
    "rows-alone": fnn.LinearCrossEntropy(V, ignore=-100, chunk=1),
    "no-bias": fnn.LinearCrossEntropy(V, bias=False, ignore=-100, chunk=4),
    "smoothed": fnn.LinearCrossEntropy(V, label_smoothing=0.2, ignore=-100, chunk=3),
    "z-loss": fnn.LinearCrossEntropy(V, z_loss=0.3, ignore=-100, chunk=4),
    "all": fnn.LinearCrossEntropy(V, label_smoothing=0.1, z_loss=0.2, ignore=-100, chunk=5),
    "tied": fnn.LinearCrossEntropy(
        V, tied=("embedding",), label_smoothing=0.1, z_loss=0.2, ignore=-100, chunk=4
    ),
}


def run(f):
    """Run `f` compiled, with as little optimization as XLA has: a test's program runs once."""
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})()


def params_of(head):
    params = {"embedding": PARAMS["kernel"].T} if head.tied else {"kernel": PARAMS["kernel"]}
    return params | ({"bias": PARAMS["bias"]} if head.bias else {})


def plain(head, params, x, label, weights=None):
    """Give the value as a user of jax.numpy writes it, (...) or ()."""
    z = x @ (params["embedding"].T if head.tied else params["kernel"])
    z = z + params["bias"] if z.ndim == 1 and head.bias else z
    z = z + jnp.expand_dims(params["bias"], tuple(range(z.ndim - 1))) if z.ndim > 1 and head.bias else z
    counted = label != head.ignore
    hot = jax.nn.one_hot(jnp.where(counted, label, 0), V, dtype=z.dtype)
    t = (1 - head.label_smoothing) * hot + head.label_smoothing / V
    values = -(t * jax.nn.log_softmax(z)).sum(-1) + head.z_loss * jax.nn.logsumexp(z, -1) ** 2
    w = jnp.where(counted, jnp.ones_like(values) if weights is None else weights, 0)
    values = w * values
    if head.reduction == "none":
        return values
    return values.sum() / (w.sum() if head.reduction == "mean" else 1)
