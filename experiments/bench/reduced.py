"""What it costs in accuracy to add up products over eight devices in bfloat16: errors of output and gradient.

    python -m experiments.bench.reduced

On one device every product of a dense layer is cut into eight parts, as eight devices have them: added up in
float32; each rounded to bfloat16 first; or rounded at every step of the sum, too, as around a ring. An error
is the norm of the difference to the same in float64, from the same rounded input, over that norm.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import fnn
from fnn.layers import dense

PARTS, WIDTH, HIDDEN, ROWS = 8, 256, 1024, 256
WHOLE = dense.product


def rounded(value: Any) -> Any:
    """Round to bfloat16, and stay in float32."""
    return lax.reduce_precision(value, exponent_bits=8, mantissa_bits=7)


def in_parts(a: Any, b: Any, axis: int = 0, like: Any = None, reduce: Any = None) -> Any:
    """Add up the products of eight parts: in float32, or in bfloat16 at each step of `reduce`."""
    if a.dtype != jnp.bfloat16:
        return WHOLE(a, b, axis, like)
    size, total = a.shape[-1] // PARTS, None
    for i in range(PARTS):
        own = lax.slice_in_dim(b, i * size, (i + 1) * size, axis=axis)
        part = WHOLE(a[..., i * size : (i + 1) * size], own, axis)
        part = part if HOW == "float32" else rounded(part)
        total = part if total is None else total + part
        total = rounded(total) if HOW == "bfloat16, around a ring" else total
    return total if HOW == "float32" else rounded(total)


HOW = "float32"


def error(got: Any, right: Any) -> float:
    """Return the norm of the difference over that of what is right."""
    a, b = (
        np.concatenate([np.ravel(x).astype(float) for x in jax.tree.leaves(tree)]) for tree in (got, right)
    )
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def networks() -> Iterator[tuple[str, Any]]:
    """Return a chain and blocks."""
    block = fnn.Skip(fnn.Serial(fnn.RMSNorm(), fnn.Dense(HIDDEN), fnn.gelu, fnn.Dense(WIDTH)))
    yield "mlp", fnn.mlp([WIDTH, *[HIDDEN] * 4, WIDTH], fnn.gelu)
    yield "blocks", fnn.Serial(fnn.Dense(WIDTH), fnn.Repeat(block, 8), fnn.RMSNorm(), fnn.Dense(WIDTH))


def main() -> None:
    """Print a table."""
    global HOW
    jax.config.update("jax_enable_x64", True)
    x = jax.random.normal(jax.random.key(0), (ROWS, WIDTH), jnp.float32)
    target = jax.random.randint(jax.random.key(1), (ROWS,), 0, WIDTH)
    low, loss = x.astype(jnp.bfloat16), fnn.softmax_cross_entropy()
    print(f"{'':8} {'added up in':24} {'output':>10} {'gradient':>10}")
    for name, net in networks():
        dense.product = WHOLE
        params = fnn.init(net, jax.random.key(2), x)
        exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, low))
        right = fnn.forward(net, *exact)[0], fnn.value_and_grad(net, loss)(*exact, target)[1]
        dense.product = in_parts
        for HOW in ("float32", "bfloat16", "bfloat16, around a ring"):
            jax.clear_caches()
            got = fnn.forward(net, params, low)[0], fnn.value_and_grad(net, loss)(params, low, target)[1]
            errors = [error(*pair) for pair in zip(got, right, strict=True)]
            print(f"{name:8} {HOW:24} {errors[0]:10.4%} {errors[1]:10.4%}", flush=True)


if __name__ == "__main__":
    main()
