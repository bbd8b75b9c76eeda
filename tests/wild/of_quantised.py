"""Tokamax, Qwix, AQT and the eight-bit operations of Flax: kernels, and gradients that are declared."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

import os
from collections.abc import Iterator

from tests.wild.row import Row, integers, normal, positive, row


def tokamax() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import tokamax

    q, k, v = (normal(2, 8, 2, 4, seed=s) for s in range(3))
    attend = tokamax.dot_product_attention
    yield row("tokamax.dot_product_attention", lambda q, k, v: attend(q, k, v, implementation="xla"), q, k, v)
    yield row(
        "tokamax.dot_product_attention(causal)",
        lambda q, k, v: attend(q, k, v, is_causal=True, implementation="xla"),
        q,
        k,
        v,
    )
    chunked = lambda q, k, v: attend(q, k, v, implementation="xla_chunked")
    yield row("tokamax.dot_product_attention(chunked)", chunked, q, k, v)
    yield row(
        "tokamax.dot_product_attention(bias)",
        lambda q, k, v, b: attend(q, k, v, b, implementation="xla"),
        q,
        k,
        v,
        normal(2, 2, 8, 8),
    )
    yield row(
        "tokamax.layer_norm",
        lambda x, g, b: tokamax.layer_norm(x, g, b, implementation="xla"),
        normal(4, 6),
        positive(6),
        normal(6),
    )
    rms = lambda x, g: tokamax.layer_norm(x, g, None, subtract_mean=False, implementation="xla")
    yield row("tokamax.layer_norm(rms)", rms, normal(4, 6), positive(6))
    glu = lambda x, w: tokamax.gated_linear_unit(x, w, activation=jax.nn.swish, implementation="xla")
    yield row("tokamax.gated_linear_unit", glu, normal(4, 6), normal(6, 2, 5))
    ragged = lambda a, b: tokamax.ragged_dot(a, b, jnp.array([3, 5], jnp.int32), implementation="xla")
    yield row("tokamax.ragged_dot", ragged, normal(8, 4), normal(2, 4, 3))
    cross = lambda x, w: tokamax.linear_softmax_cross_entropy_loss(x, integers(6, 5), w, implementation="xla")
    yield row("tokamax.linear_softmax_cross_entropy_loss", cross, normal(5, 4), normal(4, 6))


def qwix() -> Iterator[Row]:
    from qwix._src.core import conv_general_qt, dot_general_qt

    dims = (((1,), (0,)), ((), ()))
    plain = dot_general_qt.DotGeneralQtConfig()
    yield row(
        "qwix.dot_general_qt",
        lambda a, b: dot_general_qt.dot_general_qt(a, b, dims, plain),
        normal(4, 6),
        normal(6, 3),
    )
    conv = lambda x, k: conv_general_qt.conv_general_qt(
        x, k, conv_general_qt.ConvGeneralQtConfig(), (1,), "SAME"
    )
    yield row("qwix.conv_general_qt", conv, normal(2, 3, 6), normal(4, 3, 3))
    quantised = dot_general_qt.DotGeneralQtConfig(lhs_qtype="int8", rhs_qtype="int8")
    there = lambda a, b: dot_general_qt.dot_general_qt(a, b, dims, quantised)
    yield row("qwix.dot_general_qt(int8)", there, normal(4, 6), normal(6, 3), surrogate=there)


def flax_fp8() -> Iterator[Row]:
    import jax.numpy as jnp
    from flax.linen import fp8_ops

    scale, history = jnp.ones(1), jnp.zeros(8)
    f = lambda x: fp8_ops.in_qdq(jnp.float32, jnp.float8_e4m3fn, x, scale, history)
    yield row("flax.linen.fp8_ops.in_qdq", f, normal(4, 3), surrogate=f)
    g = lambda x: fp8_ops.out_qdq(jnp.float32, jnp.float8_e5m2, x, scale, history)
    yield row("flax.linen.fp8_ops.out_qdq", g, normal(4, 3), surrogate=g)
    dims = (((1,), (0,)), ((), ()))
    h = lambda a, b: fp8_ops.dot_general_with_precision(a, b, dims)
    yield row("flax.linen.fp8_ops.dot_general_with_precision", h, normal(4, 6), normal(6, 3))


def aqt() -> Iterator[Row]:
    from aqt.jax.v2 import config

    dims = (((1,), (0,)), ((), ()))
    plain = config.config_v4(fwd_bits=None, dlhs_bits=None, drhs_bits=None)
    yield row("aqt.dot_general(no bits)", lambda a, b: plain(a, b, dims), normal(4, 6), normal(6, 3))
    eight = config.config_v4(fwd_bits=8, dlhs_bits=None, drhs_bits=None)
    f = lambda a, b: eight(a, b, dims)
    yield row("aqt.dot_general(8 bits)", f, normal(4, 6), normal(6, 3), surrogate=f)


def keras() -> Iterator[Row]:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    x, y = normal(4, 5), positive(4, 5)
    for name in (
        "celu",
        "glu",
        "hard_shrink",
        "log_sigmoid",
        "soft_shrink",
        "sparsemax",
        "squareplus",
        "tanh_shrink",
        "threshold",
    ):
        given = normal(4, 6) if name == "glu" else x
        f = getattr(keras.ops, name)
        yield row(
            f"keras.ops.{name}",
            (lambda x, f=f: f(x, 0.1, 0.0)) if name == "threshold" else (lambda x, f=f: f(x)),
            given,
        )
    yield row("keras.ops.logdet", lambda a: keras.ops.logdet(a @ a.T), normal(4, 4))
    yield row("keras.ops.erfinv", keras.ops.erfinv, 0.8 * y / 2)
    yield row("keras.losses.kl_divergence", keras.losses.kl_divergence, y / 3, positive(4, 5, seed=1) / 3)


FAMILIES = (tokamax, qwix, flax_fp8, aqt, keras)
