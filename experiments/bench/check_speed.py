"""Time one standard check of a 256-512-256 network, and a second one in the same process.

python -m experiments.bench.check_speed
"""

import time

import jax
import jax.numpy as jnp

import vjpcheck


@jax.custom_vjp
def network(x, w1, b1, w2, b2):
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


def forward(x, w1, b1, w2, b2):
    h = jnp.tanh(x @ w1 + b1)
    return h @ w2 + b2, (x, w1, w2, h)


def backward(saved, dy):
    x, w1, w2, h = saved
    dz = dy @ w2.T * (1 - h**2)
    return dz @ w1.T, x.T @ dz, dz.sum(0), h.T @ dy, dy.sum(0)


def main() -> None:
    network.defvjp(forward, backward)
    keys = jax.random.split(jax.random.key(0), 5)
    shapes = [(64, 256), (256, 512), (512,), (512, 256), (256,)]
    args = [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, shapes, strict=True)]
    for level in ("quick", "standard", "standard"):
        wall, cpu = time.perf_counter(), time.process_time()
        report = vjpcheck.gradient(network, *args, level=level)
        seconds = time.perf_counter() - wall
        print(
            f"{report.verdict} {level}: {seconds:.2f} s, {time.process_time() - cpu:.2f} s of processor time"
        )


if __name__ == "__main__":
    main()
