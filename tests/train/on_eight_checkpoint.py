"""Run by a test on eight devices: save on one mesh, restore on others, bit for bit."""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn.train.checkpoint import Checkpoints


class Own(NamedTuple):
    """A state."""

    params: Any
    more: Any


def main(folder: str) -> None:
    explicit = (AxisType.Explicit,) * 2
    eight = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Explicit,))
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=explicit)
    values = Own(
        {
            "w": jax.random.normal(jax.random.key(0), (16, 8)),
            "q": jnp.arange(64).reshape(8, 8).astype(jnp.int4),
        },
        {
            "key": jax.random.key(3),
            "m": jnp.ones((8, 8), jnp.bfloat16),
            "f": jnp.ones((8, 8), jnp.float8_e4m3),
        },
    )
    first = jax.tree.map(lambda v: jax.device_put(v, NamedSharding(eight, P("a") if v.ndim else P())), values)
    likes = [first] + [
        jax.tree.map(lambda v, s=s: jax.device_put(v, NamedSharding(mesh, s if v.ndim else P())), values)
        for s in (P("a", "b"), P("b"), P(None, ("a", "b")), P())
    ]
    likes.append(jax.device_put(values, jax.devices()[5]))
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, first)
        for like in likes:
            shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=v.sharding), like)
            restored: Any = checkpoints.restore(shapes)
            for got, wanted in zip(jax.tree.leaves(restored.state), jax.tree.leaves(like), strict=True):
                assert got.sharding.is_equivalent_to(wanted.sharding, got.ndim)
                assert got.dtype == wanted.dtype
                if jnp.issubdtype(got.dtype, jax.dtypes.prng_key):
                    got, wanted = jax.random.key_data(got), jax.random.key_data(wanted)
                assert np.asarray(got).tobytes() == np.asarray(wanted).tobytes()
    print("done")


if __name__ == "__main__":
    main(sys.argv[1])
