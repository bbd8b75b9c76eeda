"""Activations and attention of `jax.nn`."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, integers, normal, positive, row, unit


def rows() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp

    x = normal(4, 3)
    for name in (
        "relu", "relu6", "softplus", "soft_sign", "sigmoid", "silu", "log_sigmoid", "elu", "leaky_relu", "hard_tanh",
        "celu", "selu", "gelu", "glu", "squareplus", "mish", "hard_sigmoid", "hard_silu", "tanh", "identity",
        "softmax", "log_softmax", "logsumexp", "standardize", "sparse_plus", "logmeanexp",
    ):  # fmt: skip
        f = getattr(jax.nn, name)
        yield row(f"jax.nn.{name}", lambda x, f=f: f(x), normal(4, 6) if name == "glu" else x)
    yield row("jax.nn.gelu(exact)", lambda x: jax.nn.gelu(x, approximate=False), x)
    yield row("jax.nn.relu at 0", jax.nn.relu, jnp.array([-1.0, 0.0, 2.0]))
    yield row("jax.nn.softmax(where)", lambda x: jax.nn.softmax(x, where=jnp.arange(3) < 2), x)
    yield row("jax.nn.log1mexp", jax.nn.log1mexp, positive(4, 3))
    yield row("jax.nn.logsumexp(b)", lambda x, b: jax.nn.logsumexp(x, axis=1, b=b), x, positive(4, 3))
    yield row(
        "jax.nn.logsumexp(sign)",
        lambda x, b: jax.nn.logsumexp(x, 1, b, return_sign=True)[0],
        x,
        positive(4, 3),
    )
    q, k, v = (normal(2, 5, 3, 4, seed=s) for s in range(3))
    yield row("jax.nn.dot_product_attention", jax.nn.dot_product_attention, q, k, v)
    causal = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True)
    yield row("jax.nn.dot_product_attention(causal)", causal, q, k, v)
    bias = lambda q, k, v, b: jax.nn.dot_product_attention(q, k, v, b)
    yield row("jax.nn.dot_product_attention(bias)", bias, q, k, v, normal(2, 3, 5, 5))
    yield row("jax.nn.one_hot product", lambda w, i: jax.nn.one_hot(i, 5) @ w, normal(5, 3), integers(5, 4))
    yield row("jax.numpy.sinc", jnp.sinc, jnp.array([-1.3, 0.0, 0.4, 2.2]))
    yield row("jax.numpy.i0", jnp.i0, x)
    yield row("jax.numpy.linalg.norm", jnp.linalg.norm, x)
    yield row("jax.numpy.logaddexp", jnp.logaddexp, x, normal(4, 3, seed=1))
    yield row("jax.numpy.logaddexp2", jnp.logaddexp2, x, normal(4, 3, seed=1))
    yield row("jax.numpy.where(abs)", lambda x: jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), x), x)
    yield row("jax.numpy.arctan2", jnp.arctan2, x, positive(4, 3))
    yield row("jax.numpy.hypot", jnp.hypot, x, positive(4, 3))
    yield row("jax.numpy.float_power", jnp.float_power, positive(4, 3), positive(4, 3, seed=1))
    yield row("jax.numpy.interp", jnp.interp, unit(5), jnp.array([0.0, 0.5, 1.0]), normal(3), wrt=(0, 2))
    yield row("jax.numpy.frexp", lambda x: jnp.frexp(x)[0], positive(4), wrt=0)
