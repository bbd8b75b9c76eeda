"""Options of the compiler that were measured to pay, for those who want them: fnn sets none by itself."""

from pathlib import Path

import jax


def compiler_options() -> dict[str, str | int | bool]:
    """Return options of XLA that make steps faster on this machine, as `jax.jit(compiler_options=...)` takes.

    On a CPU with AVX-512 they let loops use its whole registers, of 512 bits, where XLA prefers 256. Steps of
    smooth activations and norms on wide layers then take 0.92 to 1.01 of their time, those of narrow layers
    as long as before (`python -m experiments.bench.flags`). Sums may run in another order, so that results
    differ by rounding. On other devices no option is known to pay.

    Returns:
        The options by name; empty where none is known to pay, which `jax.jit` takes as none.

    >>> import fnn
    >>> import jax.numpy as jnp
    >>> double = jax.jit(lambda x: 2 * x, compiler_options=fnn.compiler_options())
    >>> double(jnp.ones(2))
    Array([2., 2.], dtype=float32)
    """
    wide = jax.default_backend() == "cpu" and _has_avx512()
    return {"xla_cpu_prefer_vector_width": 512} if wide else {}


def _has_avx512(processors: Path = Path("/proc/cpuinfo")) -> bool:
    """Ask Linux; other systems are not asked."""
    return processors.exists() and " avx512f " in processors.read_text().replace("\n", " ")
