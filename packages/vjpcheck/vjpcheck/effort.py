"""How hard the compiler tries: everything here is compiled to be run a few times."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax


def compile_quickly(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return `run` compiled for little use: on a CPU, where compiling costs more than running, with less
    effort.
    """
    return jax.jit(run, compiler_options=_LITTLE_EFFORT if jax.default_backend() == "cpu" else None)


_LITTLE_EFFORT: dict[str, bool | int | str] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@contextmanager
def in_float64() -> Iterator[None]:
    """Run our own arithmetic in float64, however strictly JAX is set up for the code that is checked."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
