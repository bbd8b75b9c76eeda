"""Mistakes that were thought of after the names were, each in a function that the rest of the corpus lacks."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import NARROW, ROWS, cases, normal


def sharp_attention(q, k, v):
    return jax.nn.softmax(20 * q @ k.T / jnp.sqrt(q.shape[-1])) @ v


def sharp_attention_forward(q, k, v):
    p = jax.nn.softmax(20 * q @ k.T / jnp.sqrt(q.shape[-1]))
    return p @ v, (q, k, v, p)


def temperature_left_out(saved, do):
    q, k, v, p = saved
    dp = do @ v.T
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / jnp.sqrt(q.shape[-1])
    return ds @ k, ds.T @ q, p.T @ do


def make_attention(key, size):
    n, k = ROWS[size], NARROW[size]
    return normal(key, (n, k), (n + 1, k), (n + 1, k + 1))


def dropped(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0)


def noisy(x, w, key):
    return jnp.tanh(dropped(x @ w, key))


def noisy_forward(x, w, key):
    return noisy(x, w, key), (x, w, key)


def mask_of_another_key(saved, dy):
    x, w, key = saved
    dz = dropped(dy * (1 - noisy(x, w, key) ** 2), jax.random.fold_in(key, 1))
    return dz @ w.T, x.T @ dz, None


def make_noisy(key, size):
    x, w = normal(key, (ROWS[size], NARROW[size]), (NARROW[size], NARROW[size] - 1))
    return x, w, jax.random.key(3)


def cell(x, h, w):
    a, b, c = jnp.split(jnp.concatenate([x, h], -1) @ w, 3, -1)
    u = jax.nn.sigmoid(a)
    return u * h + (1 - u) * jnp.tanh(b) * jax.nn.sigmoid(c)


def cell_forward(x, h, w):
    return cell(x, h, w), (x, h, w)


def candidate_and_output_exchanged(saved, dy):
    x, h, w = saved
    joined = jnp.concatenate([x, h], -1)
    a, b, c = jnp.split(joined @ w, 3, -1)
    u, t, o = jax.nn.sigmoid(a), jnp.tanh(b), jax.nn.sigmoid(c)
    parts = dy * (h - t * o) * u * (1 - u), dy * (1 - u) * t * o * (1 - o), dy * (1 - u) * o * (1 - t * t)
    dz = jnp.concatenate(parts, -1)
    d = dz @ w.T
    return d[:, : x.shape[1]], d[:, x.shape[1] :] + u * dy, joined.T @ dz


def make_cell(key, size):
    n, k = ROWS[size], NARROW[size]
    return normal(key, (n, k - 1), (n, k), (2 * k - 1, 3 * k))


def strided(x, w):
    return lax.conv_general_dilated(x, w, (2,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))


def strided_forward(x, w):
    return strided(x, w), (x, w)


def stride_ignored_in_the_kernel(saved, dy):
    x, w = saved
    taps = [jnp.einsum("nti,nto->io", x[:, i : i + dy.shape[1]], dy) for i in range(w.shape[0])]
    return jax.vjp(lambda x: strided(x, w), x)[1](dy)[0], jnp.stack(taps)


def make_strided(key, size):
    return normal(key, (3, 2 * ROWS[size] + 1, 2), (3, 2, NARROW[size]))


def filtered(x, k):
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(k), x.shape[-1])


def filtered_forward(x, k):
    return filtered(x, k), (x, k)


def spectrum_of_the_kernel_as_it_is(saved, dy):
    x, k = saved
    d, n = jnp.fft.rfft(dy), dy.shape[-1]
    return jnp.fft.irfft(d * jnp.fft.rfft(k), n), jnp.fft.irfft(d * jnp.conj(jnp.fft.rfft(x)), n)


def variance(x):
    return ((x - x.mean(0)) ** 2).mean(0)


def variance_forward(x):
    return variance(x), x


def variance_without_the_rows(x, dy):
    return (2 * (x - x.mean(0)) * dy,)


def solved(a, b):
    return jnp.linalg.solve(a, b)


def solved_forward(a, b):
    x = solved(a, b)
    return x, (a, x)


def solved_as_on_the_way_forward(saved, dx):
    a, x = saved
    db = solved(a, dx)
    return -jnp.outer(db, x), db


def make_solved(key, size):
    k = NARROW[size]
    a, b = normal(key, (k, k), (k,))
    return a + 4 * jnp.sqrt(k) * jnp.eye(k), b


def rmsnorm(x, g):
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g


def rmsnorm_forward(x, g):
    return rmsnorm(x, g), (x, g)


def gain_outside_of_the_mean(saved, dy):
    x, g = saved
    s = lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    y = x * s
    return g * s * (dy - y * (dy * y).mean(-1, keepdims=True)), (dy * y).sum(0)


def bounded(x, w):
    y = x @ w
    return y / jnp.maximum(1.0, jnp.linalg.norm(y, axis=-1, keepdims=True))


def bounded_forward(x, w):
    return bounded(x, w), (x, w)


def norm_held_constant(saved, dy):
    x, w = saved
    dz = dy / jnp.maximum(1.0, jnp.linalg.norm(x @ w, axis=-1, keepdims=True))
    return dz @ w.T, x.T @ dz


def decayed(x, a):
    return lax.scan(lambda h, u: (a * h + u,) * 2, jnp.zeros(x.shape[1:]), x)[1]


def decayed_forward(x, a):
    y = decayed(x, a)
    return y, (a, y)


def decay_from_the_state_after(saved, dy):
    a, y = saved
    dx = lax.scan(lambda c, d: (a * c + d,) * 2, jnp.zeros(dy.shape[1:]), dy, reverse=True)[1]
    return dx, (dx * y).sum()


def make_decayed(key, size):
    return *normal(key, (ROWS[size], NARROW[size])), jnp.float32(0.8)


def focal(z, label):
    p = jnp.take_along_axis(jax.nn.softmax(z), label[:, None], -1)
    return (-((1 - p) ** 2) * jnp.log(p)).mean()


def focal_forward(z, label):
    return focal(z, label), (z, label)


def focal_weight_held_constant(saved, dy):
    z, label = saved
    p, t = jax.nn.softmax(z), jax.nn.one_hot(label, z.shape[1])
    return dy * (1 - (p * t).sum(-1, keepdims=True)) ** 2 * (p - t) / len(z), None


def make_focal(key, size):
    n, k = ROWS[size], NARROW[size]
    return *normal(key, (n, k)), jax.random.randint(key, (n,), 0, k)


def overlapping(x):
    return jnp.stack([x[i : i + 3].mean(0) for i in range(len(x) - 2)])


def overlaps_set_for_added(x, dy):
    dx = jnp.zeros_like(x)
    for i in range(len(dy)):
        dx = dx.at[i : i + 3].set(dy[i] / 3)
    return (dx,)


# fmt: off
CASES = (
    *cases("sharp attention", sharp_attention, sharp_attention_forward, make_attention, (temperature_left_out, ("constant left out", "factor"))),
    *cases("noisy layer", noisy, noisy_forward, make_noisy, (mask_of_another_key, ("mask drawn again",))),
    *cases("cell", cell, cell_forward, make_cell, (candidate_and_output_exchanged, ("parts exchanged",))),
    *cases("strided kernel", strided, strided_forward, make_strided, (stride_ignored_in_the_kernel, ("strides ignored",))),
    *cases("fft filter", filtered, filtered_forward, lambda key, size: normal(key, (2 * ROWS[size],), (2 * ROWS[size],)), (spectrum_of_the_kernel_as_it_is, ("spectrum not conjugated",))),
    *cases("variance", variance, variance_forward, lambda key, size: normal(key, (ROWS[size], NARROW[size])), (variance_without_the_rows, ("sum for mean",))),
    *cases("linear system", solved, solved_forward, make_solved, (solved_as_on_the_way_forward, ("transpose missing",))),
    *cases("rmsnorm with gain", rmsnorm, rmsnorm_forward, lambda key, size: normal(key, (ROWS[size], NARROW[size]), (NARROW[size],)), (gain_outside_of_the_mean, ("another formula", "derivative missing"))),
    *cases("bounded rows", bounded, bounded_forward, lambda key, size: normal(key, (ROWS[size], NARROW[size]), (NARROW[size], NARROW[size] - 1)), (norm_held_constant, ("term dropped",))),
    *cases("decay", decayed, decayed_forward, make_decayed, (decay_from_the_state_after, ("another value",))),
    *cases("focal loss", focal, focal_forward, make_focal, (focal_weight_held_constant, ("term dropped",))),
    *cases("overlapping means", overlapping, lambda x: (overlapping(x), x), lambda key, size: normal(key, (ROWS[0] + size, NARROW[size])), (overlaps_set_for_added, ("scatter overwrites",))),
)
