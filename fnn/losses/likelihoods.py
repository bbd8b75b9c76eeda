"""The likelihoods of the losses; for k outputs a root has k columns."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import as_index
from fnn.losses.objective import Likelihood


def _categorical_root(y: Any, target: Any) -> Any:
    """diag(p) - p p^T, by the columns sqrt(p_c) (e_c - p)"""
    p = jax.nn.softmax(y)
    columns = _diagonal(jnp.ones_like(p)) - p[None]
    weights = jnp.moveaxis(jnp.sqrt(p * _mass(y, target)[..., None]), -1, 0)
    return columns * weights[..., None]


def _categorical_sample(key: Any, y: Any, target: Any) -> Any:
    """p - e_c for a class c drawn from p"""
    drawn = jax.nn.one_hot(jax.random.categorical(key, y), y.shape[-1], dtype=y.dtype)
    return (jax.nn.softmax(y) - drawn) * jnp.sqrt(_mass(y, target))[..., None]


def _mass(y: Any, target: Any) -> Any:
    """Return the sum of each row's soft label: 1 for an integer label, NaN for one out of range."""
    if target.shape == y.shape and not jnp.issubdtype(target.dtype, jnp.integer):
        return target.astype(y.dtype).sum(-1)
    target = as_index(target)
    return jnp.where((target >= 0) & (target < y.shape[-1]), jnp.ones((), y.dtype), jnp.nan)


def _bernoulli_root(y: Any, target: Any) -> Any:
    """diag(p (1 - p)), by the columns sqrt(p_c (1 - p_c)) e_c"""
    return _diagonal(jnp.exp((jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y)) / 2))


def _bernoulli_sample(key: Any, y: Any, target: Any) -> Any:
    """p - b for bits b drawn from p"""
    p = jax.nn.sigmoid(y)
    return p - jax.random.bernoulli(key, p).astype(y.dtype)


def _poisson_root(y: Any, target: Any) -> Any:
    """diag(exp y), by the columns exp(y_c / 2) e_c"""
    return _diagonal(jnp.exp(y / 2))


def _poisson_sample(key: Any, y: Any, target: Any) -> Any:
    """exp(y) - a count drawn from that rate"""
    rate = jnp.exp(y)
    return rate - jax.random.poisson(key, rate, y.shape).astype(y.dtype)


def normal(curvature: float) -> Likelihood:
    """Return the likelihood of a squared error with the Hessian `curvature` I, the inverse variance."""
    scale = curvature**0.5
    return Likelihood(
        lambda y, target: _diagonal(jnp.full_like(y, scale)),
        lambda key, y, target: scale * jax.random.normal(key, y.shape, y.dtype),
    )


def _diagonal(roots: Any) -> Any:
    """Return the columns of a diagonal root (..., k): (k, ..., k)."""
    k = roots.shape[-1]
    eye = jnp.eye(k, dtype=roots.dtype).reshape(k, *(1,) * (roots.ndim - 1), k)
    return eye * roots[None]


CATEGORICAL = Likelihood(_categorical_root, _categorical_sample)
BERNOULLI = Likelihood(_bernoulli_root, _bernoulli_sample)
POISSON = Likelihood(_poisson_root, _poisson_sample)
NORMAL = normal(1.0)  # half the squared error
NORMAL_HALF = normal(2.0)  # the squared error: a variance of one half
