"""XLA's flags for CPUs, one by one: what each does to Adam steps of fnn and of plain JAX.

    python -m experiments.bench.flags

The programs are those of `experiments.bench.steps`. Every flag is set for one compilation alone; programs
with and without it take turns. A ratio is the median of the rounds' own, with their quartiles; below 1 the
flag pays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from experiments.bench.steps import SIZES, loop, programs, turns
from experiments.library.timing import quartiles

FLAGS: tuple[tuple[str, Any], ...] = (
    ("xla_cpu_prefer_vector_width", 512),
    ("xla_cpu_multi_thread_eigen", False),
    ("xla_cpu_enable_fast_math", True),
    ("xla_cpu_enable_fast_min_max", True),
    ("xla_cpu_use_fusion_emitters", False),
    ("xla_cpu_copy_insertion_use_region_analysis", True),
    ("xla_cpu_enable_concurrency_optimized_scheduler", True),
    ("xla_cpu_use_onednn", True),
    ("xla_cpu_use_xnnpack", True),
    ("xla_cpu_parallel_codegen_split_count", 1),
    ("xla_cpu_strict_dot_conv_math", False),
    ("xla_cpu_experimental_ynn_fusion_type", ""),
    ("xla_llvm_disable_expensive_passes", True),
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    rounds: int = 15
    kinds: tuple[str, ...] = ("relu", "gelu", "silu", "norm")
    sizes: tuple[str, ...] = ("96-48-48-7", "784-512-512-10", "512 x 8")
    flags: tuple[str, ...] = tuple(name for name, _ in FLAGS)


def compiled(programs: Any, x: Any, labels: Any, options: Any) -> dict[str, Callable[[int], None]]:
    """Compile a step of fnn's and of plain JAX's."""
    return {key: loop(programs[key], x, labels, options) for key in ("fnn", "JAX")}


def main(options: Options) -> None:
    """Print one line for each program and flag."""
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; Adam steps with the flag / without it")
    for kind in options.kinds:
        for size in options.sizes:
            sizes, batch = SIZES[size]
            x = jax.random.normal(jax.random.key(1), (batch, sizes[0]))
            labels = jnp.arange(batch) % sizes[-1]
            made = partial(compiled, programs(kind, sizes, x), x, labels)
            plain = made(None)
            for name, value in FLAGS:
                if name in options.flags:
                    flagged = {f"{key}, flagged": run for key, run in made({name: value}).items()}
                    seconds = turns(plain | flagged, options.rounds)
                    found = [quartiles(seconds[f"{key}, flagged"] / seconds[key]) for key in ("fnn", "JAX")]
                    shown = ", ".join(
                        f"{key} {q.median:.2f} ({q.low:.2f} - {q.high:.2f})"
                        for key, q in zip(("fnn", "JAX"), found, strict=True)
                    )
                    print(f"{kind:6} {size + ', ' + str(batch):20} {name}={value!r:8} {shown}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
