"""The networks whose memory is measured: by fnn, and as users of jax.numpy write them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import fnn
from experiments.bench.step import PLAIN

WIDTH, LAYERS = 512, 16
SAVE = jax.checkpoint_policies.dots_saveable
Network = Callable[[Any, Any], Any]


def shapes(net: Any, x: Any) -> Any:
    """Give the shapes of a network's params."""
    return jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))


def product(x: Any, own: Any) -> Any:
    """Give x W, and b where there is one."""
    z = x @ own["kernel"].astype(x.dtype)
    return z + own["bias"].astype(x.dtype) if "bias" in own else z


def chain(activation: str, scan: bool) -> tuple[Any, dict[str, tuple[Any, Network]]]:
    """Give 17 dense layers with 16 activations between: by fnn, and as users of jax.numpy write it.

    Each of theirs comes with the shapes of its params. Usually a scan's body is a dense layer and then its
    activation; "turned" it is an activation and then the next dense layer, as in fnn's own scans: the one
    order in which the product that a policy saves is the carry itself.
    """
    block, f = fnn.Serial(getattr(fnn, activation), fnn.Dense(WIDTH)), PLAIN[activation]
    net = fnn.Serial(fnn.Dense(WIDTH), *([fnn.Repeat(block, LAYERS)] if scan else [block] * LAYERS))
    one = shapes(fnn.Dense(WIDTH), jax.ShapeDtypeStruct((1, WIDTH), jnp.float32))
    stack = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((LAYERS, *leaf.shape), leaf.dtype), one)
    params = (one, stack) if scan else [one] * (LAYERS + 1)

    def usual(x: Any, own: Any) -> tuple[Any, None]:
        return f(product(x, own)), None

    def turned(x: Any, own: Any) -> tuple[Any, None]:
        return product(f(x), own), None

    def unrolled(params: Any, x: Any) -> Any:
        for own in params[:-1]:
            x, _ = usual(x, own)
        return product(x, params[-1])

    def scanned(body: Callable) -> Callable:
        first = body.__name__ == "turned"  # the dense layer by itself

        def run(params: Any, x: Any, body: Callable = body) -> Any:
            one, stack = params
            return (
                jax.lax.scan(body, product(x, one), stack)[0]
                if first
                else product(jax.lax.scan(body, x, stack)[0], one)
            )

        return run

    if not scan:
        return net, {
            "jax.grad": (params, unrolled),
            "saveable": (params, jax.checkpoint(unrolled, policy=SAVE)),
        }
    saving = {body: jax.checkpoint(body, policy=SAVE) for body in (usual, turned)}
    return net, {
        "jax.grad": (params, scanned(usual)),
        "saveable": (params, lambda p, x: scanned(usual)(p, x, saving[usual])),
        "turned": (params, lambda p, x: scanned(turned)(p, x, saving[turned])),
    }


def segmented(activation: str, length: int, policy: Any) -> Network:
    """Give the unrolled chain with jax.checkpoint around every so many of its layers."""
    f = PLAIN[activation]

    def segment(params: Any, x: Any) -> Any:
        for own in params:
            x = f(product(x, own))
        return x

    def network(params: Any, x: Any) -> Any:
        *inner, last = params
        for i in range(0, len(inner), length):
            x = jax.checkpoint(segment, policy=policy)(inner[i : i + length], x)
        return product(x, last)

    return network


def blocks(*layers: Any, plain: Callable, skip: bool = False) -> tuple[Any, dict[str, tuple[Any, Network]]]:
    """Give eight blocks, unrolled, three ways; `plain(params, x)` is one as users of jax.numpy write it."""
    block = fnn.Serial(*layers)
    net = fnn.Serial(*[fnn.Skip(block) if skip else block] * 8)
    one = shapes(block, jax.ShapeDtypeStruct((1, WIDTH), jnp.float32))

    def network(params: Any, x: Any) -> Any:
        for own in params:
            x = plain(own, x) + (x if skip else 0)
        return x

    params = [one] * 8
    return net, {"jax.grad": (params, network), "saveable": (params, jax.checkpoint(network, policy=SAVE))}


def rms_norm(x: Any, own: Any) -> Any:
    """Give x over its root mean square, scaled, as users of jax.numpy write it."""
    x, dtype = x.astype(jnp.float32), x.dtype
    return (x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * own["scale"]).astype(dtype)


def layer_norm(x: Any, own: Any) -> Any:
    """Give x less its mean, over its deviation, scaled and shifted, as users of jax.numpy write it."""
    x, dtype = x.astype(jnp.float32), x.dtype
    x = x - x.mean(-1, keepdims=True)
    x = x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
    return (x * own["scale"] + own["bias"]).astype(dtype)


def gated(x: Any, own: Any) -> Any:
    """Give silu of the one half of x W times the other."""
    gate, up = jnp.split(product(x, own), 2, -1)
    return jax.nn.silu(gate) * up


def unrolled_blocks() -> dict[str, tuple[Any, dict[str, tuple[Any, Network]]]]:
    """Give the networks with norms and gates: post-norm and pre-norm, gated and feed-forward blocks."""
    dense, wide, gate = fnn.Dense(WIDTH), fnn.Dense(WIDTH, bias=False), fnn.gated(4 * WIDTH)
    gelu = PLAIN["gelu"]
    return {
        "dense, LayerNorm, gelu": blocks(
            dense, fnn.LayerNorm(), fnn.gelu, plain=lambda p, x: gelu(layer_norm(product(x, p[0]), p[1]))
        ),
        "RMSNorm, dense, gelu": blocks(
            fnn.RMSNorm(), dense, fnn.gelu, plain=lambda p, x: gelu(product(rms_norm(x, p[0]), p[1]))
        ),
        "gated, F = 4D": blocks(gate, wide, plain=lambda p, x: product(gated(x, p[0]), p[2])),
        "feed-forward, F = 4D": blocks(
            fnn.RMSNorm(), gate, wide, skip=True,
            plain=lambda p, x: product(gated(rms_norm(x, p[0]), p[1]), p[3]),
        ),
    }  # fmt: skip
