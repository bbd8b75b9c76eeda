"""Options of the compiler: what XLA takes on this machine, and none where none is known to pay."""

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn.compiler import _has_avx512


def test_xla_takes_the_options_and_a_gradient_is_the_same_within_rounding():
    net, loss = fnn.mlp([5, 40, 3], fnn.gelu), fnn.softmax_cross_entropy()
    x, labels = jax.random.normal(jax.random.key(0), (8, 5)), jnp.arange(8) % 3
    params, f = fnn.init(net, jax.random.key(1), x), fnn.value_and_grad(net, loss)
    with_options = jax.jit(f, compiler_options=fnn.compiler_options())(params, x, labels)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        with_options,
        jax.jit(f)(params, x, labels),
    )


def test_wide_registers_are_asked_for_where_the_processor_has_them_alone(tmp_path, monkeypatch):
    processors = tmp_path / "cpuinfo"
    assert not _has_avx512(processors)
    processors.write_text("model name\t: one\nflags\t\t: fpu avx2 fma\n")
    assert not _has_avx512(processors)
    processors.write_text("model name\t: other\nflags\t\t: fpu avx2 avx512f\n")
    assert _has_avx512(processors)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fnn.compiler_options() == {}
