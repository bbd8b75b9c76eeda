"""Planted mistakes in losses: a batch mean, integer labels, probabilities, masks and regularisers."""

import jax
import jax.numpy as jnp
import numpy as np

from .case import NARROW, ROWS, WIDE, cases, normal


def make_labels(key, size):
    n, j = ROWS[size], NARROW[size]
    return *normal(key, (n, j)), jax.random.randint(jax.random.fold_in(key, 1), (n,), 0, j)


def crossentropy(z, labels):
    logp = jax.nn.log_softmax(z)
    return -jnp.take_along_axis(logp, labels[:, None], 1).mean()


def crossentropy_forward(z, labels):
    return crossentropy(z, labels), (jax.nn.softmax(z), labels)


def _float0(labels):
    return np.zeros(labels.shape, jax.dtypes.float0)


def _onehot(p, labels):
    return jax.nn.one_hot(labels, p.shape[-1], dtype=p.dtype)


def batch_mean_missing(saved, dy):
    p, labels = saved
    return dy * (p - _onehot(p, labels)), _float0(labels)


def batch_mean_taken_twice(saved, dy):
    p, labels = saved
    n = p.shape[0]
    return dy * (p - _onehot(p, labels)) / n / n, _float0(labels)


def divided_by_the_classes(saved, dy):
    p, labels = saved
    return dy * (p - _onehot(p, labels)) / p.shape[1], _float0(labels)


def sign_of_the_residual(saved, dy):
    p, labels = saved
    return dy * (_onehot(p, labels) - p) / p.shape[0], _float0(labels)


def loss_cotangent_ignored(saved, dy):
    p, labels = saved
    return (p - _onehot(p, labels)) / p.shape[0], _float0(labels)


def onehot_left_out(saved, dy):
    p, labels = saved
    return dy * p / p.shape[0], _float0(labels)


def probabilities_left_out(saved, dy):
    p, labels = saved
    return -dy * _onehot(p, labels) / p.shape[0], _float0(labels)


def labels_get_a_float_gradient(saved, dy):
    p, labels = saved
    return dy * (p - _onehot(p, labels)) / p.shape[0], jnp.zeros(labels.shape)


def labels_off_by_one(saved, dy):
    p, labels = saved
    return dy * (p - jax.nn.one_hot(labels + 1, p.shape[-1])) / p.shape[0], _float0(labels)


def first_row_forgotten(saved, dy):
    p, labels = saved
    return (dy * (p - _onehot(p, labels)) / p.shape[0]).at[0].set(0), _float0(labels)


def last_tile_forgotten(saved, dy):
    p, labels = saved
    dz = dy * (p - _onehot(p, labels)) / p.shape[0]
    return jnp.where(jnp.arange(len(p))[:, None] < len(p) // 4 * 4, dz, 0), _float0(labels)


def softmax_jacobian_applied_again(saved, dy):
    p, labels = saved
    d = dy * (p - _onehot(p, labels)) / p.shape[0]
    return p * (d - (d * p).sum(-1, keepdims=True)), _float0(labels)


def loss_in_bfloat16(saved, dy):
    p, labels = saved
    p = p.astype(jnp.bfloat16)
    return (dy * (p - _onehot(p, labels)) / p.shape[0]).astype(jnp.float32), _float0(labels)


def make_pair(key, size):
    n, j = ROWS[size], NARROW[size]
    return normal(key, (n, j), (n, j))


def squared(y, target):
    return 0.5 * ((y - target) ** 2).sum(-1).mean()


def squared_forward(y, target):
    return squared(y, target), (y - target)


def half_left_out(e, dy):
    d = 2 * dy * e / len(e)
    return d, -d


def squared_batch_mean_missing(e, dy):
    return dy * e, -dy * e


def target_sign(e, dy):
    d = dy * e / len(e)
    return d, d


def mean_over_all_elements(e, dy):
    d = dy * e / e.size
    return d, -d


def absolute_error_derivative(e, dy):
    d = dy * jnp.sign(e) / len(e)
    return d, -d


def target_gradient_zero(e, dy):
    d = dy * e / len(e)
    return d, jnp.zeros_like(d)


def ridge(x, w, y):
    return ((x @ w - y) ** 2).mean() + 0.05 * (w**2).sum()


def ridge_forward(x, w, y):
    return ridge(x, w, y), (x, w, x @ w - y)


def make_ridge(key, size):
    n, k = ROWS[size], WIDE[size]
    return normal(key, (n, k), (k,), (n,))


def regulariser_left_out(saved, dy):
    x, w, e = saved
    d = dy * 2 * e / len(e)
    return d[:, None] * w, x.T @ d, -d


def regulariser_averaged(saved, dy):
    x, w, e = saved
    d = dy * 2 * e / len(e)
    return d[:, None] * w, x.T @ d + dy * 0.1 * w / len(e), -d


def regulariser_without_the_cotangent(saved, dy):
    x, w, e = saved
    d = dy * 2 * e / len(e)
    return d[:, None] * w, x.T @ d + 0.1 * w, -d


def regulariser_halved(saved, dy):
    x, w, e = saved
    d = dy * 2 * e / len(e)
    return d[:, None] * w, x.T @ d + dy * 0.05 * w, -d


def logistic(z, t):
    return (jax.nn.softplus(z) - t * z).mean()


def logistic_forward(z, t):
    return logistic(z, t), (z, t)


def make_logistic(key, size):
    z, t = make_pair(key, size)
    return z, (t > 0).astype(z.dtype)


def linear_term_left_out(saved, dy):
    z, t = saved
    return dy * jax.nn.sigmoid(z) / z.size, -dy * z / z.size


def sigmoid_of_twice(saved, dy):
    z, t = saved
    return dy * (jax.nn.sigmoid(2 * z) - t) / z.size, -dy * z / z.size


def exponential_that_overflows(saved, dy):
    z, t = saved
    return dy * (jnp.exp(z) / (1 + jnp.exp(z)) - t) / z.size, -dy * z / z.size


CASES = (
    *cases(
        "cross-entropy", crossentropy, crossentropy_forward, make_labels,
        (batch_mean_missing, ("sum for mean",)),
        (batch_mean_taken_twice, ("mean for sum",)),
        (divided_by_the_classes, ("mean over the wrong axis",)),
        (sign_of_the_residual, ("sign",)),
        (loss_cotangent_ignored, ("cotangent ignored",)),
        (onehot_left_out, ("term dropped",)),
        (probabilities_left_out, ("term dropped",)),
        (labels_get_a_float_gradient, ("gradient for integers",)),
        (labels_off_by_one, ("rows shifted", "another value")),
        (first_row_forgotten, ("rows dropped",)),
        (last_tile_forgotten, ("rows dropped",)),
        (softmax_jacobian_applied_again, ("another formula",)),
        (loss_in_bfloat16, ("low precision",)),
    ),
    *cases(
        "squared error", squared, squared_forward, make_pair,
        (half_left_out, ("factor",)),
        (squared_batch_mean_missing, ("sum for mean",)),
        (target_sign, ("sign",)),
        (mean_over_all_elements, ("mean for sum",)),
        (absolute_error_derivative, ("another formula",)),
        (target_gradient_zero, ("zero gradient",)),
    ),
    *cases(
        "ridge", ridge, ridge_forward, make_ridge,
        (regulariser_left_out, ("term dropped",)),
        (regulariser_averaged, ("mean for sum",)),
        (regulariser_without_the_cotangent, ("cotangent ignored", "regulariser added")),
        (regulariser_halved, ("factor",)),
    ),
    *cases(
        "logistic loss", logistic, logistic_forward, make_logistic,
        (linear_term_left_out, ("term dropped",)),
        (sigmoid_of_twice, ("another formula",)),
        (exponential_that_overflows, ("not finite",)),
    ),
)  # fmt: skip
