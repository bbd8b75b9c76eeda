"""Compile for an accelerator that is not present, and read the compiler's own count of bytes.

XLA compiles for a device from its description alone, without a driver. A TPU needs the package libtpu, an
H100 the packages jax-cuda13-plugin and jax-cuda13-pjrt of jax's version (`pip install 'fnn[targets]'`).
"""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from jaxlib import xla_client

from fnn.errors import InputError
from fnn.memory.accounting import Compiled

# What XLA asks of a device: the published figures of NVIDIA's H100 SXM with 80 GB.
H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 }
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98  threads_per_warp: 32
  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024  thread_dim_limit_y: 1024  thread_dim_limit_z: 64
  memory_bandwidth: 3352320000000  device_memory_size: 84942979072  l2_cache_size: 52428800
  device_address_bits: 64  driver_version: "13.0.0"  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def compiled_for(target: str, f: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Compiled:
    """Compile a function for a target, and return the compiler's count; no array is made.

    Args:
        target: "here" (the default device), "h100", or a TPU topology such as "v5e:2x2", of which one chip is
            used.
        f: the function.
        args: its arguments, pytrees of arrays or `jax.ShapeDtypeStruct`s.
        donate: the numbers of the arguments whose buffers may be reused for outputs.

    Returns:
        a `Compiled`.

    Raises:
        InputError: where the target is unknown, or its package is not installed.
    """
    lowered = lower_for(target, f, *args, donate=donate)
    count = lowered.compile().memory_analysis()
    return Compiled(
        count.argument_size_in_bytes,
        count.output_size_in_bytes,
        count.alias_size_in_bytes,
        count.temp_size_in_bytes,
    )


def lower_for(target: str, f: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Any:
    """Lower a function for a target.

    Args:
        target: "here", "h100", or a TPU topology, as for `compiled_for`.
        f: the function.
        args: its arguments, pytrees of arrays or `jax.ShapeDtypeStruct`s.
        donate: the numbers of the arguments whose buffers may be reused for outputs.

    Returns:
        a `jax.stages.Lowered`, whose `.compile()` returns the program.

    Raises:
        InputError: where the target is unknown, or its package is not installed.
    """
    sharding = None if target == "here" else SingleDeviceSharding(_device(target))

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.jit(f, donate_argnums=donate).lower(*jax.tree.map(shape, args))


@cache
def _device(target: str) -> Any:
    """Return one device of a topology that is described but not present."""
    fix = "pip install 'fnn[targets]'"
    try:
        if target == "h100":
            folder = Path(importlib.import_module("jax_plugins.xla_cuda13").__file__ or "").parent
            plugin = xla_client.load_pjrt_plugin_dynamically("cuda", str(folder / "xla_cuda_plugin.so"))
            options = {"target_config": H100, "topology": "1x1x1"}
            topology = xla_client.make_c_api_device_topology(plugin, "1x1x1", **options)
            return topology._make_compile_only_devices()[0]
        importlib.import_module("libtpu")
    except ImportError as error:
        raise InputError("memory", f"the compiler for {target!r}", str(error), fix) from None
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=target).devices[0]
    except Exception as error:  # of whatever type the compiler's library raises
        wanted, fix = 'a target "here", "h100" or a TPU topology', 'target="v5e:2x2"'
        raise InputError("memory", wanted, f"{target!r} ({error})", fix) from None
