"""Print each activation's worst error in ulp beside that of `jax.nn`.

Run `python -m experiments.bench.activations`: every finite float16 and bfloat16 number, 400,000 of float32.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from tests.activations.activation_truth import JAX, TRUTH, dense, derivative, every, ulps


def worst(f, truth, x) -> str:
    error = ulps(jax.jit(f)(x), truth)
    at = int(np.argmax(error))
    return f"{error[at]:10.4g} at {float(x[at]):<10.4g}"


if __name__ == "__main__":
    inputs = {"float16": every(np.float16), "bfloat16": every(jnp.bfloat16), "float32": dense()}
    print(f"{'ulp':23}{'value: fnn':25}{'jax.nn':25}{'derivative: fnn':25}jax.nn")
    for name, (value, slope) in TRUTH.items():
        layer = getattr(fnn.activations, name)
        for dtype, x in inputs.items():
            with np.errstate(all="ignore"):
                v, d = value(x.astype(np.float64)), slope(x.astype(np.float64))
            ours = worst(layer, v, x), worst(partial(derivative, layer), d, x)
            theirs = worst(JAX[name], v, x), worst(jax.vmap(jax.grad(JAX[name])), d, x)
            print(f"{name:13}{dtype:9}", *(f"{a} {b}" for a, b in zip(ours, theirs, strict=True)), sep=" ")
